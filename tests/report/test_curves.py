"""Curves and histograms from tables, also poor ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from atomreel.report.curves import (
    axis,
    draw_curves,
    draw_histograms,
    draw_holes,
    draw_table,
    file_name,
    quantity,
    spread,
)
from atomreel.report.drawing import style
from atomreel.report.results import open_results


def test_axis_is_time_where_known(whole_run: Path, bare_run: Path) -> None:
    values, label = axis(open_results(whole_run), [0, 4])
    assert label == "time (s)" and values.tolist() == [0.0, 2.0]
    assert axis(open_results(bare_run), [0])[1] == "frame"


def test_frames_without_any_count_as_zero() -> None:
    counts = pd.DataFrame({"frame": [1, 3, 3], "kind": ["a", "a", "b"], "count": [2, 1, 5]})
    wide = spread(counts, "kind", 5)
    assert wide["a"].tolist() == [0, 2, 0, 1, 0] and wide["b"].tolist() == [0, 0, 0, 5, 0]
    assert list(wide.columns) == ["b", "a"]  # most frequent first


def test_poor_runs_have_no_curves(bare_run: Path, tmp_path: Path) -> None:
    with style():
        assert draw_curves(open_results(bare_run), tmp_path) == []
        assert draw_histograms(open_results(bare_run), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "drawn"),
    [
        ({"r_A": np.arange(5.0), "g": np.ones(5), "g_err": np.ones(5)}, True),
        ({"frame": np.zeros(9, int), "length_A": np.ones(9)}, True),
        ({"name": list("abcd")}, False),
        ({"v": [np.nan] * 4}, False),
        ({"v": [1.0, np.inf, 2.0, 3.0]}, True),
        ({"flag": [True, False, True, True]}, True),
        ({"v": [1.0]}, False),
        ({}, False),
    ],
)
def test_unknown_tables(table: dict, drawn: bool, tmp_path: Path) -> None:
    with style():
        drawing = draw_table("any name/../x", pd.DataFrame(table), tmp_path)
    assert (drawing is not None) == drawn
    assert {p.parent for p in tmp_path.rglob("*")} <= {tmp_path}


def test_names_of_columns_and_files() -> None:
    assert quantity("length_A") == "length (Å)" and quantity("bond_angle_deg") == "bond angle (°)"
    assert quantity("plain_name") == "plain name"
    assert file_name("a/b c") == "table-a-b-c"


def test_holes_show_both_measures_vacancies_and_the_fit(whole_run: Path, tmp_path: Path) -> None:
    results = open_results(whole_run)
    table = results.table("phases")
    assert table is not None
    plain = table[["frame", "t_s", "hole_fraction"]]
    more = plain.assign(
        hole_fraction_err=0.002,
        hole_fraction_intensity=plain.hole_fraction + 0.004,
        hole_fraction_intensity_err=0.002,
        hole_disagreement=-0.004,
        hole_disagreement_err=0.002,
        vacancy_fraction=0.01,
        hole_fit=plain.hole_fraction,
        hole_fit_low=plain.hole_fraction * 0.9,
        hole_fit_high=plain.hole_fraction * 1.1,
    )
    with style():
        for given, words in ((plain, ()), (more, ("2.0 of their common σ", "dotted", "95 % band"))):
            shown = SimpleNamespace(table=lambda name, given=given: given, times=results.times)
            drawing = draw_holes(shown, tmp_path)
            assert drawing is not None and all(text in drawing.caption for text in words)
            assert drawing.caption.startswith("Part of the image in holes")
        assert draw_holes(SimpleNamespace(table=lambda name: plain.iloc[:1]), tmp_path) is None
