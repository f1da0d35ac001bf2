from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.classes import draw_class_counts, draw_classes, draw_criteria, draw_paths


def test_both_criteria_are_drawn_for_every_number(tmp_path: Path) -> None:
    rows = [
        {"classes": k, "shape": shape, "bic": 900.0 - 100 * k, "icl": 950.0 - 100 * k, "chosen": k == 3 and shape == "tied"}
        for k in (1, 2, 3)
        for shape in ("tied", "full")
    ]  # fmt: skip
    drawn = draw_criteria(pd.DataFrame(rows), folder=tmp_path)
    assert "BIC" in drawn.svg and "ICL" in drawn.svg and (tmp_path / "class_number.png").is_file()


def test_a_row_for_every_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chance = np.eye(3)[rng.integers(0, 2, 20)]  # nothing is surest in the third
    drawn = draw_classes(
        rng.random((20, 9, 9)),
        chance,
        ("V_S 100%", "Mo_W 98%", "none"),
        unit=0.2,
        calibrated=True,
        folder=tmp_path,
    )
    assert "V_S 100%" in drawn.svg and "mean of 0" in drawn.svg
    assert drawn.svg.count("<image") == 2 * 7 + 1


def test_counts_are_sums_of_probabilities_and_pauses_are_gaps(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"frame": [0, 0, 1, 3], "kind": ["V_S", "V_S", "Mo_W", "V_S"], "score": [0.9, 0.6, 1.0, 1.0]}
    )
    times = np.array([0.0, 1.0, 2.0, 30.0, 31.0])
    drawn = draw_class_counts(table, frames=[0, 1, 2, 3, 4], times=times, folder=tmp_path)
    assert "V_S" in drawn.svg and "Mo_W" in drawn.svg and "time (s)" in drawn.svg
    assert "frame" in draw_class_counts(table, frames=[0, 1], times=None, folder=tmp_path).svg


def test_tracks_lie_over_the_mean_in_the_colours_of_their_kinds(tmp_path: Path) -> None:
    rows = pd.DataFrame({"track": [0, 0, 1], "frame": [0, 1, 0], "y": [3.0, 4, 9], "x": [3.0, 5, 9]})
    drawn = draw_paths(
        np.ones((20, 20)), rows, {0: "diffusing", 1: "flickering"}, unit=0.2, calibrated=True, folder=tmp_path
    )
    assert "diffusing" in drawn.svg and "flickering" in drawn.svg and "2 tracks" in drawn.caption
