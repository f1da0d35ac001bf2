"""Figures of reactions: the state of every dopant against time, and the rates between the states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.drawing import COLOURS, INK, Drawing, figure, finish, plain, style

MOST = 40  # tracks in one figure: the longest


def draw_states(
    rows: pd.DataFrame, names: tuple[str, ...], *, times: npt.ArrayLike | None, folder: Path
) -> Drawing:
    """states.png and .svg in `folder`: one line per track, coloured by state.

    rows: track, frame, state (index into `names`). times: (T,) [s]. Of more than 40 tracks the longest are shown.
    """
    length = rows["track"].value_counts()
    shown = sorted(length.index[:MOST])
    clock = None if times is None else np.asarray(times, dtype=float)
    with style():
        made, ((ax,),) = figure(7.0, 1.0 + 0.16 * len(shown))
        for line, track in enumerate(shown):
            own = rows[rows["track"] == track].sort_values("frame")
            frame = own["frame"].to_numpy()
            at = frame.astype(float) if clock is None else clock[frame]
            for state, name in enumerate(names):
                here = own["state"].to_numpy() == state
                label = plain(name) if line == 0 else None
                ax.scatter(
                    at[here],
                    np.full(here.sum(), line),
                    s=9,
                    marker="s",
                    color=COLOURS[state % 8],
                    label=label,
                )
        ax.set(xlabel="frame" if clock is None else "time (s)", ylabel="track", ylim=(-1, len(shown)))
        ax.set_yticks(range(len(shown)), [str(t) for t in shown], fontsize=6)
        ax.grid(False)
        handles, labels = ax.get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper center", ncols=min(len(names), 4), frameon=False)
        caption = "The most probable state of each dopant in each frame, all frames considered; a gap is a frame in which it was not judged."
        return finish(made, folder, "states", title="States against time", caption=caption, wide=True)


def draw_rates(
    names: tuple[str, ...],
    q: npt.ArrayLike,
    ends: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    unit: str,
    folder: Path,
) -> Drawing:
    """rate_matrix.png and .svg in `folder`: (n, n) rates from row to column with the ends of their intervals."""
    rate = np.asarray(q, dtype=float)
    low, high = (np.asarray(end, dtype=float) for end in ends)
    n = len(names)
    with style():
        made, ((ax,),) = figure(1.6 + 1.25 * n, 0.8 + 0.62 * n)
        shade = np.where(np.eye(n, dtype=bool), np.nan, rate)
        ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.6 * float(np.nanmax(shade)) or 1.0, aspect="auto")
        for i in range(n):
            for j in range(n):
                if i != j:
                    words = f"{rate[i, j]:.2g}\n{low[i, j]:.2g} … {high[i, j]:.2g}"
                    ax.text(j, i, words, ha="center", va="center", fontsize=7.5, color=INK)
        ax.set_xticks(range(n), [plain(name) for name in names], fontsize=7.5)
        ax.set_yticks(range(n), [plain(name) for name in names], fontsize=7.5)
        ax.set(xlabel="to", ylabel="from")
        ax.grid(False)
        caption = f"Rates ({unit}) from row to column: median and 95 % interval of the posterior."
        return finish(made, folder, "rate_matrix", title="Rates between states", caption=caption)
