from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.detect import draw_counts, draw_found, draw_labels


def test_figures_are_written_and_show_what_they_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(50, 60))
    spots = pd.DataFrame({"y": [10.0, 20.0], "x": [5.0, 30.0], "sign": [1, -1], "p": [0.9, 0.6]})
    maps = np.full((3, 50, 60), 1 / 3)
    made = draw_labels(image, image, spots, maps=maps, frame=7, folder=tmp_path)
    assert "frame 7" in made.svg
    tables = [
        pd.DataFrame({"y": [4.0], "x": [5.0], "kind": [kind], "score": [0.9]}) for kind in ("dimmer", "V_S")
    ]
    assert "frame 12: 1" in draw_found([image, image], tables, [3, 12], folder=tmp_path).svg
    counts = pd.DataFrame(
        {
            "frame": [0, 1, 0, 1],
            "kind": ["a"] * 2 + ["b"] * 2,
            "expected": [1.0, 2, 3, 4],
            "expected_err": 0.5,
        }
    )
    assert ">frame<" in draw_counts(counts, folder=tmp_path).svg
    assert "time (s)" in draw_counts(counts.assign(t_s=[0.0, 1, 0, 1]), folder=tmp_path).svg
    for name in ("labels", "found", "counts"):
        assert (tmp_path / f"{name}.png").stat().st_size > 2000
