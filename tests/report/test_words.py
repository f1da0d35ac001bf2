"""Sentences follow the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomreel.core.files import read_table, write_json, write_table
from atomreel.report.results import Results, open_results
from atomreel.report.words import checks, doubts, key_numbers, measure, plus_minus, sentence, summary


def made(path: Path, **about: Any) -> Results:
    return Results(path, about)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (3.18234, 0.0041, "3.182 ± 0.004"),
        (3.18234, 0.0141, "3.182 ± 0.014"),
        (60.0, 0.0196, "60.00 ± 0.02"),
        (1234.5, 37.0, "1234 ± 37"),
        (-5.7, 0.05, "−5.70 ± 0.05"),
        (2.5, np.nan, "2.5"),
        (np.nan, 0.1, "–"),
    ],
)
def test_value_and_error_end_at_the_same_digit(value: float, error: float, words: str) -> None:
    assert plus_minus(value, error) == words


@given(st.floats(0.01, 1e4), st.floats(1e-6, 1e2))
def test_rounding_loses_less_than_a_third_of_the_error(value: float, error: float) -> None:
    shown, shown_error = map(float, plus_minus(value, error).split(" ± "))
    assert abs(shown - value) <= max(0.34 * error, 0.5) if error >= 1 else abs(shown - value) <= 0.34 * error
    assert shown_error == pytest.approx(error, rel=0.34)


def test_measures_are_those_of_the_tables(whole_run: Path) -> None:
    figures = measure(open_results(whole_run))
    atoms = read_table(whole_run / "atoms.parquet")
    lattice = read_table(whole_run / "lattice.parquet")
    assert figures.columns == len(atoms) and figures.per_frame == len(atoms) / 24
    assert figures.error_px == pytest.approx(np.median(np.hypot(atoms.y_err, atoms.x_err) / np.sqrt(2)))
    value, error = figures.lattice["a"]
    assert value == pytest.approx(lattice["a_A"].mean())
    assert error == pytest.approx(max(lattice["a_A"].std() / 24**0.5, 0.01 * 0.16 / 24**0.5))
    assert figures.main_class[0] == "hexagonal"
    assert figures.defects == read_table(whole_run / "defects.parquet")["kind"].value_counts().to_dict()


def test_summary_tells_what_drift_could_have_made_of_the_lattice(whole_run: Path) -> None:
    results = open_results(whole_run)
    verdict = "oblique as imaged; hexagonal within 2 % shear (1.4 ± 0.3 %)"
    told = replace(results, about={**results.about, "survey": {"lattice_verdict": verdict}})
    assert f"The lattice of the columns is {verdict}." in summary(told, measure(told))


def test_summary_names_what_was_found(whole_run: Path) -> None:
    results = open_results(whole_run)
    words = summary(results, measure(results))
    for part in ("24 frames of 256 × 256 px (4.1 × 4.1 nm)", "columns", "hexagonal", "V_S", "6 tracks", "Å"):
        assert part in words


def test_nothing_found_is_said(bare_run: Path) -> None:
    results = open_results(bare_run)
    figures = measure(results)
    assert "no atomic columns were found" in summary(results, figures)
    assert doubts(results, figures)[0].level == "serious"
    assert key_numbers(results, figures)[0][:2] == ("1", "frame")


@pytest.mark.parametrize(("p_bright", "said"), [(0.52, True), (0.3, True), (0.97, False), (0.02, False)])
def test_close_calls_of_the_contrast_are_confessed(tmp_path: Path, p_bright: float, said: bool) -> None:
    results = made(tmp_path, survey={"p_bright": p_bright, "bright": p_bright > 0.5})
    texts = [d.text for d in doubts(results, measure(results)) if d.level == "serious"]
    assert any("close call" in text for text in texts) == said


def test_doubts_appear_with_their_causes(whole_run: Path, tmp_path: Path) -> None:
    results = open_results(whole_run)
    figures = measure(results)

    def said(results: Results, figures: Any = figures) -> str:
        return " ".join(d.text for d in doubts(results, figures))

    assert "Mo_W hops" in said(results) and "pixel size is not known" not in said(results)
    assert "10 % of" not in said(results)
    assert "30 % of the columns have a score below" in said(results, replace(figures, low_scores=0.3))
    bare = made(tmp_path, input={"frames": 5, "shape": [9, 9]})
    assert "pixel size is not known" in said(bare) and "Only 5 frames" in said(bare)
    assert "Frame times are not known" in said(bare)


def test_a_rate_without_an_upper_end_is_told(tmp_path: Path) -> None:
    fast = {"value": None, "low": 2.6, "high": None, "unit": "1/frame", "count": 47, "method": "m"}
    for name, rate in {"hops of Si": fast, "hops of C": fast | {"value": 3.0, "high": 4.0}}.items():
        write_json(tmp_path / "rates.json", {name: rate})
        results = made(tmp_path, input={"frames": 48, "shape": [9, 9]})
        told = [d.text for d in doubts(results, measure(results)) if "upper end" in d.text]
        assert told == (
            ["No upper end for hops of Si: it moved in every step, so frames follow each other too slowly."]
            * (name[-1] == "i")
        )


def test_checks_in_plain_words(tmp_path: Path) -> None:
    assert {c.state for c in checks(made(tmp_path))} == {"not measured"}
    write_json(
        tmp_path / "quality.json",
        {
            "short_pairs": {"value": 0.2, "meaning": "many", "warn": True},
            "half_dose_agreement_px": {"value": 0.05, "meaning": "", "warn": False},
            "own_check": {"value": 3, "meaning": "mine", "warn": False},
        },
    )
    found = {c.name: (c.value, c.state) for c in checks(made(tmp_path))}
    assert found["Pairs that are too close"] == ("20 %", "check")
    assert found["Agreement of two halves of the dose"] == ("0.05 px", "fine")
    assert found["Own check"] == ("3", "fine")


def test_the_lattice_of_the_largest_grain_counts(tmp_path: Path) -> None:
    rows = {"a_px": [9.0, 5.0], "b_px": [9.0, 5.0], "gamma_deg": [60.0, 90.0], "columns": [300, 20]}
    table = pd.DataFrame({"frame": 0, "grain": [0, 1], **rows})
    for name in ("a_px", "b_px", "gamma_deg"):
        table[f"{name}_err"] = 0.1
    write_table(tmp_path / "lattice.parquet", table, kind="lattice")
    figures = measure(made(tmp_path))
    assert figures.lattice["a"] == (9.0, pytest.approx(0.1)) and figures.grains == 2


def test_sentences_have_one_full_stop() -> None:
    assert sentence("Gaps: 2 %", "holes count too.") == "Gaps: 2 %. Holes count too."
    assert sentence("Gaps: 2 %", "") == "Gaps: 2 %."
