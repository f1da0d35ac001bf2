"""Reading a Run folder: lazily, and with clear words where it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import RunError
from atomreel.core.files import read_table, write_table
from atomreel.report.results import Results, open_results


def test_counts_are_those_of_the_table(whole_run: Path) -> None:
    results = open_results(whole_run)
    atoms = read_table(whole_run / "atoms.parquet")
    found = results.count("atoms", by=["frame", "species"]).set_index(["frame", "species"])["count"]
    pd.testing.assert_series_equal(found, atoms.groupby(["frame", "species"]).size(), check_names=False)
    assert results.count("nothing", by=["frame"]) is None


def test_only_the_asked_frames_and_columns_are_read(whole_run: Path) -> None:
    table = open_results(whole_run).table("atoms", columns=["frame", "y", "no such"], frames=[3, 5])
    assert list(table.columns) == ["frame", "y"] and set(table["frame"]) == {3, 5}


@pytest.mark.parametrize(
    ("about", "pixel"),
    [
        ({}, None),
        ({"input": {"pixel_A": 0.1}}, (0.1, 0.1)),
        ({"input": {"pixel_A": [0.1, 0.2]}}, (0.1, 0.2)),
        ({"input": {"pixel_A": 0.1}, "calibration": {"pixel_after": [0.11, 0.12]}}, (0.11, 0.12)),
        ({"input": {"pixel_A": float("nan")}}, None),
    ],
)
def test_pixel_size_after_calibration_wins(about: dict, pixel: tuple | None, tmp_path: Path) -> None:
    assert Results(tmp_path, about).pixel == pixel


def test_times_and_maps(whole_run: Path, bare_run: Path) -> None:
    results = open_results(whole_run)
    assert results.times[4] == 2.0 and open_results(bare_run).times is None
    field = results.field("symmetry")
    assert field.step == (16.0, 16.0) and field.window == 96 and field.frames == list(range(24))
    total = sum(np.asarray(field.maps[n][0]) for n in field.maps if n.startswith("p_"))
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert results.other_tables() == ["bond_lengths", "pair_distances"]


def test_shape_is_that_of_the_preview_where_nothing_else_says_it(bare_run: Path) -> None:
    assert Results(bare_run, {}).shape == (64, 96)


def test_empty_tables_count_nothing(bare_run: Path) -> None:
    assert open_results(bare_run).count("atoms", by=["frame"]).empty


def test_damage_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "atoms.parquet", pd.DataFrame({"frame": [0]}), kind="atoms")
    (tmp_path / "quality.json").write_text("{", encoding="utf-8")
    (tmp_path / "preview.zarr").mkdir()
    results = Results(tmp_path, {})
    with pytest.raises(RunError, match=r"quality\.json: damaged"):
        results.json("quality")
    with pytest.raises(RunError, match=r"preview\.zarr: damaged"):
        _ = results.preview
