"""The figure of a transition: shear against frame, and where it passes the bound."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from atomreel.report.curves import band
from atomreel.report.drawing import COLOURS, Drawing, figure, finish, style


def draw_transition(
    table: pd.DataFrame, *, level: float, passed: tuple[float, float, float], folder: Path
) -> Drawing:
    """transition.png and .svg in `folder`.

    table: frame, shear, shear_err, curve, curve_err. level: the bound. passed: start of the interval, frame, end; NaN where it
    is not passed.
    """
    with style():
        made, ((ax,),) = figure(6.0, 3.2)
        frame = table["frame"]
        ax.errorbar(
            frame,
            100 * table["shear"],
            100 * table["shear_err"],
            fmt="o",
            ms=3,
            lw=0.8,
            color=COLOURS[0],
            label="one frame",
        )
        band(
            ax, frame, 100 * table["curve"], error=100 * table["curve_err"], colour=COLOURS[1], label="curve"
        )
        ax.axhline(100 * level, color=COLOURS[7], lw=0.8)
        low, middle, high = passed
        if low == low:
            ax.axvspan(low, high, color=COLOURS[2], alpha=0.25, lw=0)
            ax.axvline(middle, color=COLOURS[2], lw=1.2, label="passes the bound")
        ax.set(xlabel="frame", ylabel="shear s (%)")
        ax.legend(frameon=False, fontsize=8)
        caption = "Simple shear (x\u2032 = x + s\u00b7y along its own axis) away from the symmetric lattice; bars and band are 1\u03c3, the strip holds the frame of the passage at 95 %."
        return finish(made, folder, "transition", title="Transition", caption=caption)
