"""Errors of fitted columns: the Fisher information with the neighbours' and the background's freedom taken off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from atomreel.interpret.chunks import in_chunks
from atomreel.interpret.peaks import Floats, Ints

MOST_NEIGHBOURS = 8
START_ERROR = 0.5  # of a finder's positions where counts are few, in units of the σ that the fit gives them


def marginal_covariance(
    own: Floats, pairs: Ints, blocks: Floats, *, flat: Floats, area: Floats, distance: Floats
) -> npt.NDArray[np.float64]:
    """(N, 3, 3) covariance of (height, y, x) of each column, its neighbours and a local constant being free.

    own: (N, 3, 3) information of each column, prior included. pairs (P, 2), blocks (P, 3, 3): between
    columns. flat: (N, 3) with the local constant. area: (N,) of the constant with itself.
    distance: (P,) px; the nearest eight neighbours count. A block is inverted per column, which for
    columns this far apart equals the whole inverse to a few per cent.
    """
    n = len(own)
    near = _nearest(n, pairs, distance)
    degree = (near >= 0).sum(1)
    key = np.concatenate([pairs[:, 0] * n + pairs[:, 1], pairs[:, 1] * n + pairs[:, 0]])
    order = np.argsort(key)
    table = np.concatenate([blocks, blocks.transpose(0, 2, 1), np.zeros((1, 3, 3))])
    keys = np.append(key[order], n * n)
    place = np.append(order, len(table) - 1)
    out = np.empty((n, 3, 3))

    def invert(rows: Ints) -> None:
        d = int(degree[rows[0]])
        member = np.concatenate([rows[:, None], near[rows, :d]], axis=1)
        wanted = member[:, :, None] * n + member[:, None, :]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        block = table[np.where(keys[at] == wanted, place[at], len(table) - 1)]
        m = d + 1
        block[:, np.arange(m), np.arange(m)] = own[member]
        full = np.zeros((len(rows), 3 * m + 1, 3 * m + 1))
        full[:, :-1, :-1] = block.transpose(0, 1, 3, 2, 4).reshape(len(rows), 3 * m, 3 * m)
        full[:, -1, :-1] = full[:, :-1, -1] = flat[member].reshape(len(rows), 3 * m)
        full[:, -1, -1] = area[rows]
        out[rows] = _corner_of_inverse(full)

    for like in (np.flatnonzero(degree == d) for d in np.unique(degree)):
        in_chunks(partial(_at_rows, invert, like), len(like))
    return out


def _at_rows(work: Callable[[Ints], None], rows: Ints, at: slice) -> None:
    work(rows[at])


def widened(covariance: Floats, prior: Floats, factors: Floats) -> npt.NDArray[np.float64]:
    """(N, 3, 3) covariance of (height, y, x) for correlated noise, and without the claim that the start was a
    measurement of its own.

    prior: (N,) information that the fit gave the start's y and x. factors: (3,) variance ratios due to correlated
    noise. A finder reads the start off the same pixels, so its error is the fit's own to a great part. For
    information I of the image, ratio c, and information P of the start, whose error is s, wholly shared, the
    variance is (√(c·I) + P·s)² / (I + P)², not c / (I + P). A start as good as the image allows has
    s = √(c/I); s = START_ERROR/√P at most.
    """
    share = np.clip(covariance[:, [1, 2], [1, 2]] * prior[:, None], 0, 0.999)  # P / (I + P)
    ratio = factors[1:]
    both = np.square(np.sqrt(ratio * (1 - share)) + START_ERROR * np.sqrt(share))
    grown = np.empty((len(covariance), 3))
    grown[:, 0] = np.sqrt(factors[0])
    grown[:, 1:] = np.sqrt(np.maximum(np.minimum(ratio / (1 - share), both), 1))
    return np.asarray(covariance * grown[:, :, None] * grown[:, None, :])


def _corner_of_inverse(full: Floats) -> Floats:
    """First three rows and columns of the inverses, on unit diagonals so that no scale matters."""
    scale = 1 / np.sqrt(np.maximum(np.einsum("nii->ni", full), 1e-30))
    unit = full * scale[:, :, None] * scale[:, None, :]
    unit += 1e-6 * np.eye(full.shape[1])
    right = np.zeros((*full.shape[:2], 3))
    right[:, [0, 1, 2], [0, 1, 2]] = 1
    corner = np.linalg.solve(unit, right)[:, :3]
    return np.asarray(corner * scale[:, :3, None] * scale[:, None, :3])


def _nearest(n: int, pairs: Ints, distance: Floats) -> npt.NDArray[np.intp]:
    """(N, ≤ 8) nearest partners of each column, −1 where there are fewer."""
    first = np.concatenate([pairs[:, 0], pairs[:, 1]])
    second = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((np.concatenate([distance, distance]), first))
    first, second = first[order], second[order]
    start = np.searchsorted(first, np.arange(n))
    rank = np.arange(len(first)) - start[first] if len(first) else np.zeros(0, np.intp)
    keep = rank < MOST_NEIGHBOURS
    near = np.full((n, MOST_NEIGHBOURS), -1, np.intp)
    near[first[keep], rank[keep]] = second[keep]
    return near
