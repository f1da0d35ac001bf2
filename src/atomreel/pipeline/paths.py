"""Paths of what hops, read once more as a whole: what left a site for one frame stood beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import expit

from atomreel.pipeline.complexes import Sublattice

Array = npt.NDArray[np.float64]
SWEEPS = 2


def retraced(
    tracks: pd.DataFrame, layer: Sublattice, where: Array, *, taken: set[tuple[int, int]], reach: float
) -> pd.DataFrame:
    """The tracks with rows that the frame itself speaks against put on the site nearby that explains the path best.

    A site judged by itself bridges a frame in which its vacancy is gone, and its neighbour takes a vacancy of one frame for noise; together they
    are a hop there and back. Of each row whose kind is less likely at its site than the usual occupant, the site is chosen anew among those
    within `reach` of the rows before and after: ln p(seen | kind there) − ln p(seen | usual) and ln(m/6) for every move, m being the moves per row of all tracks
    (at most ½), are added up (iterated conditional modes, J. Besag 1986).
    where: (n, 2) places of `layer.rows`. taken: site and frame of what is part of a complex.
    """
    if not len(tracks):
        return tracks
    table = tracks.sort_values(["track", "frame"], kind="stable").reset_index(drop=True)
    row_of = {int(site): n for n, site in enumerate(layer.rows)}
    at = np.array([row_of[int(site)] for site in table["site"]])
    frame, track = table["frame"].to_numpy(np.int64), table["track"].to_numpy()
    names = list(layer.levels.names)
    kind = np.array([names.index(k) for k in table["kind"]])
    gain = layer.levels.log - layer.levels.log[:, :, :1]
    follows = np.r_[False, track[1:] == track[:-1]]
    moves = int((at[1:] != at[:-1])[follows[1:]].sum())
    price = -np.log(min(0.5, (moves + 0.5) / max(int(follows.sum()), 1)) / 6)
    held = set(zip(frame.tolist(), at.tolist(), strict=True))
    tree, score = cKDTree(where), table["score"].to_numpy(float).copy()
    for _ in range(SWEEPS):
        for k in np.flatnonzero(gain[at, frame, kind] < 0):
            ends = [
                at[j]
                for j, joined in ((k - 1, follows[k]), (k + 1, k + 1 < len(at) and follows[k + 1]))
                if joined
            ]
            if not ends:
                continue
            near = set.intersection(*(set(tree.query_ball_point(where[n], reach)) for n in ends))
            free = [
                n
                for n in sorted(near)
                if layer.seen[n, frame[k]]
                and (int(frame[k]), n) not in held
                and (int(layer.rows[n]), int(frame[k])) not in taken
            ]
            choice = np.array([at[k], *free])
            worth = gain[choice, frame[k], kind[k]] - price * sum((choice != n).astype(float) for n in ends)
            best = int(choice[worth.argmax()])
            if best != at[k]:
                held -= {(int(frame[k]), int(at[k]))}
                held |= {(int(frame[k]), best)}
                at[k], score[k] = best, float(expit(gain[best, frame[k], kind[k]]))
    table = table.assign(y=where[at, 0], x=where[at, 1], site=layer.rows[at], score=score)
    return table.sort_values(["frame", "track"], ignore_index=True)
