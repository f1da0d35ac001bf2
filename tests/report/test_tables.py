"""Rows of text from tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from atomreel.core.files import write_json
from atomreel.report.results import Results, open_results
from atomreel.report.tables import (
    MOST_ROWS,
    events_table,
    flat,
    lattice_table,
    other_table,
    rates_table,
    read_table,
)


def test_what_was_read_with_its_sources(whole_run: Path) -> None:
    rows = {row[0]: row[1:] for row in read_table(open_results(whole_run)).rows}
    assert rows["pixel size"] == ("0.16 Å", "TIFF resolution tag")
    assert rows["frame times"] == ("0 … 11.5 s", "ImageJ finterval")
    assert rows["columns are"] == ("bright", "odds 0.93")
    assert rows["voltage"][0] == "60 kV" and rows["frames"][1] == ""


def test_chosen_frames_are_told(tmp_path: Path) -> None:
    about = {"input": {"frames": 2, "shape": [8, 8], "source_frames": [1, 3]}}
    rows = {row[0]: row[1:] for row in read_table(Results(tmp_path, about)).rows}
    assert rows["frames"][0].startswith("2 of") and "input.frames" in rows["frames"][1]


def test_calibration_before_and_after(tmp_path: Path) -> None:
    calibration = {"material": "graphene", "pixel_before": 0.1, "pixel_after": [0.11, 0.11], "shear": 0.013}
    rows = {row[0]: row[1:] for row in read_table(Results(tmp_path, {"calibration": calibration})).rows}
    assert rows["calibrated pixel size"] == ("0.1 → 0.11 Å", "lattice of graphene")
    assert rows["scan shear"][0] == "+0.0130" and rows["pixel size"][0] == "0.11 Å"


def test_lattice_in_the_unit_that_is_known(whole_run: Path, bare_run: Path) -> None:
    table = lattice_table(open_results(whole_run))
    assert table.head[2:4] == ("a (Å)", "b (Å)") and len(table.rows) == 24
    assert " ± 0.0016" in table.rows[0][2] and table.numeric[2] and not table.numeric[-1]
    assert lattice_table(open_results(bare_run)) is None


def test_changes_before_births(whole_run: Path) -> None:
    table = events_table(open_results(whole_run))
    assert [row[3:5] for row in table.rows] == [("Mo_W", "Mo_W+V_S")]
    assert "Births and ends of tracks (6)" in table.note


def test_rates(tmp_path: Path) -> None:
    assert rates_table(Results(tmp_path, {})) is None
    rate = {"value": 0.25, "low": 0.05, "high": None, "unit": "1/s", "count": 3, "method": "m"}
    fit = rate | {"low": None}
    write_json(tmp_path / "rates.json", {"hops": rate, "AIC": fit})
    assert rates_table(Results(tmp_path, {})).rows == (
        ("hops", "0.25", "0.05 … no upper end", "1/s", "3", "m"),
        ("AIC", "0.25", "–", "1/s", "3", "m"),
    )


def test_unknown_tables_are_cut() -> None:
    table = other_table("my_thing", pd.DataFrame({"a": range(100), "text": "x" * 99}))
    assert table.title == "My thing" and len(table.rows) == 12 and "88 more rows" in table.note
    assert len(table.rows[0][1]) == 40 and MOST_ROWS > 12


def test_nested_recipes_become_keys() -> None:
    assert list(flat({"a": {"b": True, "c": 2}, "d": "x"})) == [("a.b", "true"), ("a.c", "2"), ("d", "x")]
