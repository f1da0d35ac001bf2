"""Curves and histograms from tables, also poor ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atomreel.report.curves import axis, draw_curves, draw_histograms, draw_table, file_name, quantity, spread
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
