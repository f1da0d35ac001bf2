"""The figure of a movie of particles: where they went over the last frame, and how many there were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.drawing import COLOURS, Drawing, figure, finish, picture_axes, style


def draw_particles(
    image: npt.NDArray[np.floating],
    tracks: pd.DataFrame,
    events: pd.DataFrame,
    *,
    drift: pd.DataFrame,
    counts: pd.DataFrame,
    folder: Path,
) -> Drawing:
    """particles.png and .svg in `folder`. image: (Y, X) the last frame. tracks, drift: tables; events: with merges and splits.

    Tracks are drawn where they would lie in the last frame, so that only what the drift does not explain shows as motion.
    """
    moves = drift.set_index("frame")[["dy", "dx"]]
    last = int(moves.index.max())
    with style():
        made, ((ax, curve),) = figure(10.0, 5.2, columns=2)
        low, high = np.percentile(image, [0.5, 99.5])
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        off = moves.loc[last].to_numpy() - moves.reindex(tracks["frame"]).to_numpy()
        at = tracks.assign(y=tracks["y"] + off[:, 0], x=tracks["x"] + off[:, 1]).sort_values(
            ["track", "frame"]
        )
        split = np.flatnonzero(np.diff(at["track"])) + 1
        # One line with gaps draws a thousand tracks as fast as one.
        y, x = (np.insert(at[name].to_numpy(float), split, np.nan) for name in "yx")
        ax.plot(x, y, color=COLOURS[1], lw=0.6)
        now = tracks[tracks["frame"] == last]
        ax.plot(now["x"], now["y"], "o", ms=2.2, mfc="none", mec=COLOURS[0], mew=0.5, ls="none")
        for name, mark, colour in (("merge", "s", COLOURS[2]), ("split", "D", COLOURS[3])):
            some = events[events["event"] == name]
            shift = moves.loc[last].to_numpy() - moves.reindex(some["frame"]).to_numpy()
            if len(some):
                ax.plot(
                    some["x"] + shift[:, 1],
                    some["y"] + shift[:, 0],
                    mark,
                    ms=8,
                    mfc="none",
                    mec=colour,
                    ls="none",
                    label=f"{name}s",
                )
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        picture_axes(ax)
        if events["event"].isin(["merge", "split"]).any():
            ax.legend(frameon=True, fontsize=8, loc="upper right")
        curve.errorbar(
            counts["frame"], counts["count"], counts["count_err"], fmt="o", ms=3, lw=0.8, color=COLOURS[0]
        )
        curve.set(xlabel="frame", ylabel="particles in the field")
        caption = (
            "Left: the last frame with its particles (circles) and the tracks of all frames without the drift. "
            "Right: particles in each frame; bars are 1\u03c3 of those that are doubtful."
        )
        return finish(made, folder, "particles", title="Particles", caption=caption, wide=True)
