"""The record of a training can be read back and looked at."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd

from atomreel.train.record import draw_record


def test_curve_and_pictures(tmp_path: Path) -> None:
    rows = [{"step": s, "seconds": s / 2, "loss": 1 / s} for s in (25, 50)]
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    draw_record(tmp_path, rows, picture)
    assert pd.read_csv(tmp_path / "curve.csv").to_dict("records") == rows
    assert np.array_equal(iio.imread(tmp_path / "sample.png"), picture)
    assert iio.imread(tmp_path / "curve.png").ndim == 3
