"""Figures of the checks on kinetics: survival of dwell times beside the exponential, and the Chapman–Kolmogorov test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atomreel.report.drawing import COLOURS, Drawing, figure, finish, plain, style

Floats = npt.NDArray[np.float64]
COLUMNS = 3


def draw_survival(
    curves: Sequence[tuple[str, tuple[Floats, Floats, Floats, Floats], tuple[float, float, float] | None]],
    *,
    unit: str,
    folder: Path,
) -> Drawing:
    """survival.png and .svg in `folder`: one panel per kind of dwell, share against time.

    curves: name, (time, share, low, high) of the Kaplan–Meier steps, and the rate of leaving with the ends of its interval, whose exponential is drawn
    beside it, or None.
    """
    columns = min(len(curves), COLUMNS)
    rows = -(-len(curves) // columns)
    with style():
        made, grid = figure(3.6 * columns, 2.7 * rows, rows=rows, columns=columns)
        for ax in grid.ravel()[len(curves) :]:
            ax.set_visible(False)
        for ax, (name, (time, share, low, high), leaving) in zip(grid.ravel(), curves, strict=False):
            ax.step(time, share, where="post", color=COLOURS[0], label="seen")
            ax.fill_between(time, low, high, step="post", color=COLOURS[0], alpha=0.2, lw=0)
            if leaving is not None:
                at = np.linspace(0, float(time.max()), 200)
                value, slow, fast = (np.exp(-r * at) for r in leaving)
                ax.plot(at, value, color=COLOURS[4], lw=1.2, label="exp(−rate·t)")
                ax.fill_between(at, fast, slow, color=COLOURS[4], alpha=0.18, lw=0)
            ax.set(xlabel=f"time ({unit})", ylim=(0, 1.02), xlim=(0, None), title=plain(name))
        grid[0, 0].set_ylabel("share that lasts longer")
        grid[0, 0].legend(loc="upper right")
        caption = (
            "Dwell times of which the beginning was seen (Kaplan–Meier, 95 % bands), those that go on at the end counted as long as they "
            "were seen, and the exponential of the fitted rate: they part where the process has memory."
        )
        return finish(
            made, folder, "survival", title="How long states last", caption=caption, wide=columns > 1
        )


def draw_powers(
    names: tuple[str, ...],
    lags: Sequence[int],
    shares: tuple[Floats, Floats, Floats, Floats],
    *,
    tau: float,
    p: float,
    unit: str,
    folder: Path,
) -> Drawing:
    """chapman_kolmogorov.png and .svg in `folder`: (n, n) panels, transition probability against lag.

    shares: seen, expected, low, high (L, n, n). tau: time of a frame [unit]. p: of the test.
    """
    seen, expected, low, high = shares
    n, at = len(names), tau * np.asarray(lags, dtype=float)
    with style():
        made, grid = figure(1.0 + 1.75 * n, 0.9 + 1.5 * n, rows=n, columns=n)
        for i in range(n):
            for j in range(n):
                ax = grid[i, j]
                ax.fill_between(at, low[:, i, j], high[:, i, j], color=COLOURS[0], alpha=0.2, lw=0)
                ax.plot(at, expected[:, i, j], color=COLOURS[0], label="Markov")
                ax.plot(at, seen[:, i, j], "o", ms=3.5, color=COLOURS[4], label="seen")
                ax.set(ylim=(-0.02, 1.02), xlim=(0, None))
                ax.set_title(f"{plain(names[i])} → {plain(names[j])}", fontsize=7)
                ax.tick_params(labelsize=7)
                if i < n - 1:
                    ax.set_xticklabels([])
                if j:
                    ax.set_yticklabels([])
        made.supxlabel(f"lag ({unit})", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
        caption = (
            f"Transition probabilities over several frames (dots) against powers of those over one (lines); bands hold 95 % of simulated Markov chains "
            f"as long and with the same gaps. p = {p:.2g} for so large a difference by chance."
        )
        title = "Does the present state alone decide?"
        return finish(made, folder, "chapman_kolmogorov", title=title, caption=caption, wide=n > 2)
