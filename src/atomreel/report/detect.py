"""Figures of a detector that learned from one frame: its labels, what it found, and counts against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.curves import band
from atomreel.report.drawing import COLOURS, Drawing, figure, finish, picture_axes, style

INKS = {"brighter": "#ff5a3c", "dimmer": "#46a0ff"}


def draw_labels(
    image: npt.ArrayLike,
    z: npt.ArrayLike,
    spots: pd.DataFrame,
    *,
    maps: npt.ArrayLike,
    frame: int,
    folder: Path,
) -> Drawing:
    """labels.png and .svg: the frame that was learned from, its residual with the labels, and what the network makes of it.

    image, z: (Y, X). spots: y, x, sign, p. maps: (3, Y, X), outputs for background, brighter, dimmer.
    """
    outputs = np.asarray(maps)
    with style():
        made, (axes,) = figure(9.6, 3.4, columns=3)
        axes[0].imshow(np.asarray(image), cmap="gray")
        axes[0].set_title(f"frame {frame}")
        axes[1].imshow(np.asarray(z), cmap="RdBu_r", vmin=-6, vmax=6)
        axes[1].set_title("residual, −6σ to 6σ, and labels")
        axes[2].imshow(outputs[1] - outputs[2], cmap="RdBu_r", vmin=-1, vmax=1)
        axes[2].set_title("network: brighter − dimmer")
        for ax in axes:
            picture_axes(ax)
        shown = spots[spots["p"] >= 0.1]
        for sign, kind in ((1, "brighter"), (-1, "dimmer")):
            part = shown[shown["sign"] == sign]
            axes[1].scatter(
                part["x"],
                part["y"],
                s=60 * part["p"] + 6,
                facecolors="none",
                edgecolors="black",
                lw=0.8,
                label=kind,
            )
        caption = (
            "Left: the frame. Middle: what stays of it when the lattice's reflections are taken out of its spectrum, in units of its "
            "noise; rings are labels, their area the probability. Right: the trained network on this frame."
        )
        return finish(made, folder, "labels", title="Learned from one frame", caption=caption, wide=True)


def draw_found(
    images: Sequence[npt.ArrayLike], tables: Sequence[pd.DataFrame], numbers: Sequence[int], *, folder: Path
) -> Drawing:
    """found.png and .svg: up to six frames with what was found. tables: y, x, kind, score, one per image."""
    count = min(len(images), 6)
    with style():
        made, axes = figure(
            3.2 * min(count, 3), 3.3 * (1 + (count > 3)), rows=1 + (count > 3), columns=min(count, 3)
        )
        for ax in axes.ravel():
            picture_axes(ax)
        for ax, image, table, number in zip(axes.ravel(), images, tables, numbers, strict=False):
            data = np.asarray(image, float)
            low, high = np.percentile(data, [0.5, 99.5])
            ax.imshow(data, cmap="gray", vmin=low, vmax=high)
            ax.set_title(f"frame {number}: {len(table)}")
            for colour, (_, part) in _coloured(table):
                ax.scatter(part["x"], part["y"], s=70, facecolors="none", edgecolors=colour, lw=1.2)
        caption = "Frames with what the detector found: red brighter, blue dimmer than the lattice; other colours are kinds that a classifier named."
        return finish(made, folder, "found", title="Found", caption=caption, wide=True)


def _coloured(table: pd.DataFrame) -> list[tuple[str, tuple[Any, pd.DataFrame]]]:
    groups = list(table.groupby("kind"))
    rest = iter(COLOURS[1:] * 4)
    return [(INKS[str(name)] if name in INKS else next(rest), (name, part)) for name, part in groups]


def draw_counts(counts: pd.DataFrame, *, folder: Path) -> Drawing:
    """counts.png and .svg. counts: frame, kind, expected, expected_err, and t_s where times are known."""
    timed = "t_s" in counts and counts["t_s"].notna().all()
    axis = "t_s" if timed else "frame"
    with style():
        made, ((ax,),) = figure(6.4, 3.2)
        for colour, (kind, part) in zip(COLOURS * 3, counts.groupby("kind"), strict=False):
            ax.plot(part[axis], part["expected"], ".", ms=4, color=colour)
            band(ax, part[axis], part["expected"], error=part["expected_err"], colour=colour, label=str(kind))
        ax.set(xlabel="time (s)" if timed else "frame", ylabel="defects per frame")
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=8)
        caption = "Expected number per frame (sum of the scores) and its 1σ from detection and calibration; what is missed is not in it."
        return finish(made, folder, "counts", title="Counts", caption=caption)
