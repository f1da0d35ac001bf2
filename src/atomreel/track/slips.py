"""Drift that slipped by a lattice vector, mended by what the lattice does not repeat: dopants, above all.

The images of a crystal match as well one lattice vector off, and after a pause a drift that is told from images may take the
wrong one. Then everything seems to hop at once. Columns are told apart by how bright they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
SAME = 0.35  # spacings: columns nearer than this are one column in two frames
FEWEST = 20  # columns of a frame
BETTER = 0.6  # of the squared differences: the rival reading must leave less
SURE = 3.0  # standard deviations by which they must have become less: no few columns may decide


def without_slips(drift: pd.DataFrame, tables: Iterable[pd.DataFrame]) -> tuple[pd.DataFrame, list[int]]:
    """The drift with its jumps to a rival reading (alias_dy, alias_dx) taken back where the columns say so, and the frames of those jumps.

    drift: frame, dy, dx, alias_dy, alias_dx [px]. tables: frame, y, x, intensity of the columns, frames in order. From one frame to the
    next every column is carried by the drift, or by it and the rival's offset either way. A reading that leaves less than 0.6 of the squared
    differences of intensities (of columns with a partner in both), surely so, is taken for this frame and all that follow.
    """
    if not {"alias_dy", "alias_dx"} <= set(drift):
        return drift, []
    frames = drift["frame"].to_numpy(np.int64)
    moves, rivals = drift[["dy", "dx"]].to_numpy(float), drift[["alias_dy", "alias_dx"]].to_numpy(float)
    added, slipped = np.zeros_like(moves), []
    last, before = -1, np.zeros((0, 3))
    for table in tables:
        if "intensity" not in table:
            continue
        for frame, part in table.groupby("frame"):
            row = int(np.searchsorted(frames, frame))
            here = part[["y", "x", "intensity"]].to_numpy(float)
            here = here[np.isfinite(here).all(axis=1)]
            if len(here) < FEWEST or row == len(frames) or frames[row] != frame:
                continue
            if last >= 0:
                others = [rivals[row], -rivals[row], -added[row]]
                slip = _slip(before, here, moves[row] - moves[last], rivals=others)
                if slip.any():
                    added[row:] += slip
                    slipped.append(int(frames[row]))
            last, before = row, here
    mended = moves + added
    return drift.assign(dy=mended[:, 0], dx=mended[:, 1]), slipped


def _slip(before: Array, here: Array, step: Array, *, rivals: list[Array]) -> Array:
    """(2,) what is to be added to `step`, from one frame's columns (N, 3) y, x, intensity to the next's."""
    spacing = float(np.median(cKDTree(here[:, :2]).query(here[:, :2], k=2)[0][:, 1]))
    usual, _ = _differences(before, here, step, spacing=spacing)
    best, slip = BETTER, np.zeros(2)
    for rival in rivals:
        if not np.isfinite(rival).all() or np.hypot(*rival) < SAME * spacing:
            continue
        other, rest = _differences(before, here, step + rival, spacing=spacing)
        both = np.isfinite(usual) & np.isfinite(other)
        if both.sum() < FEWEST:
            continue
        gain = usual[both] - other[both]
        left = other[both].sum() / max(float(usual[both].sum()), 1e-30)
        if left < best and gain.sum() > SURE * np.sqrt((gain**2).sum()):
            best, slip = left, rival + rest
    return slip


def _differences(before: Array, here: Array, step: Array, *, spacing: float) -> tuple[Array, Array]:
    """(N,) squared difference of the intensities of every column before and here, NaN where it has no partner; and the median move (2,)
    that the step leaves, as rivals are known to a pixel."""
    carried, tree, rest = before[:, :2] + step, cKDTree(here[:, :2]), np.zeros(2)
    for _ in range(2):
        gap, partner = tree.query(carried + rest)
        good = gap < SAME * spacing
        if good.sum() < FEWEST:
            return np.full(len(before), np.nan), rest
        rest = np.median(here[partner[good], :2] - carried[good], axis=0)
    return np.where(good, (here[partner, 2] - before[:, 2]) ** 2, np.nan), rest
