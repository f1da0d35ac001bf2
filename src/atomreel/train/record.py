"""What a training leaves to look at: the curve as CSV and picture, and sample pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.files import atomic, write_text


def draw_record(folder: Path, rows: list[dict[str, Any]], picture: npt.NDArray[np.uint8]) -> None:
    """curve.csv, curve.png and sample.png in `folder`."""
    write_text(folder / "curve.csv", pd.DataFrame(rows).to_csv(index=False))
    draw_curve(folder / "curve.png", rows)
    draw_picture(folder / "sample.png", picture)


def draw_curve(path: Path, rows: list[dict[str, Any]]) -> None:
    """Every part of the loss against the step, logarithmic."""
    from matplotlib.figure import Figure

    table = pd.DataFrame(rows)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in table.columns.difference(["step", "seconds"], sort=False):
        known = table[["step", name]].dropna()  # what is watched is known at the end of an epoch only
        axes.plot(known["step"], known[name].abs(), label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    if len(table):
        axes.legend()
    with atomic(path) as part:
        figure.savefig(part, dpi=100)


def draw_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    from imageio.v3 import imwrite

    with atomic(path) as part:
        imwrite(part, picture)
