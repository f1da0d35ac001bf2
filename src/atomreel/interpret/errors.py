"""Errors of fitted columns: the Fisher information with the neighbours' and the background's freedom taken off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.interpret.chunks import in_halves
from atomreel.interpret.loops import compiled
from atomreel.interpret.peaks import Floats, Ints, Windows, means_under

MOST_NEIGHBOURS = 8
LEAST_PIVOT = 1e-4  # of a block with unit diagonals, for it to count as positive definite
TIGHTER, TIGHTEST = 4.0, 1e3  # how the freedom of the constant is taken away from a block that is not
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
    n, pairs = len(own), np.asarray(pairs, np.intp)
    starts, edges = np.zeros(n + 1, np.intp), np.empty(2 * len(pairs), np.intp)
    _sorted_by_column(pairs, starts, edges)
    given = tuple(np.ascontiguousarray(part, float) for part in (own, blocks, flat, area, distance))
    out = np.empty((n, 3, 3))
    in_halves(lambda at: _corners((at.start, at.stop), (pairs, starts, edges, *given), out), n)
    return out


def misfit(scaled: Floats, weight: Floats, windows: Windows) -> tuple[Floats, Floats]:
    """(N,) mean squared residual under each column, and the variance factor of columns that stand out by it.

    scaled: residual over its expected σ; weight: 0 where a pixel does not count, both padded.
    """
    seen = means_under((weight > 0).astype(np.float32), windows)
    chi2 = means_under(scaled * scaled, windows) / np.maximum(seen, 1e-9)
    # columns of which less is seen have too few pixels to say what is usual
    whole = chi2[seen > 0.5] if (seen > 0.5).any() else chi2
    typical = float(np.median(whole))
    usual = typical + 3 * 1.4826 * float(np.median(np.abs(whole - typical)))
    return chi2, np.maximum(1, chi2 / max(usual, 1e-9))


@compiled
def _sorted_by_column(pairs, starts, edges):
    """edges[starts[i] : starts[i + 1]] become the pairs that column i is in."""
    for p in range(len(pairs)):
        starts[pairs[p, 0] + 1] += 1
        starts[pairs[p, 1] + 1] += 1
    for i in range(len(starts) - 1):
        starts[i + 1] += starts[i]
    filled = starts[:-1].copy()
    for p in range(len(pairs)):
        for i in pairs[p]:
            edges[filled[i]] = p
            filled[i] += 1


@compiled
def _corners(rows, given, out):
    """The three rows and columns of one column in the inverse of its block, for columns rows[0] … rows[1] − 1.

    What columns far apart share is left out, which can make a block indefinite where columns fill the whole field: then the
    constant is held tighter, and last the neighbours are left out too.
    """
    pairs, starts, edges, own, blocks, flat, area, distance = given
    most = 3 * (MOST_NEIGHBOURS + 1) + 1
    full, scale = np.zeros((most, most)), np.empty(most)
    member = np.empty(MOST_NEIGHBOURS + 1, np.intp)
    for row in range(rows[0], rows[1]):
        count = _members(row, (pairs, starts, edges, distance), member)
        held = 1.0
        _fill((full, member[:count]), (pairs, starts, edges), (own, blocks, flat, area[row]))
        while not _invert_corner(full[: 3 * count + 1, : 3 * count + 1], scale, out[row]):
            held *= TIGHTER
            if held > TIGHTEST and count > 1:
                member[0], count = row, 1
            _fill((full, member[:count]), (pairs, starts, edges), (own, blocks, flat, held * area[row]))
            if held > TIGHTEST * TIGHTER:
                # not even its own information is positive: what each number has by itself
                out[row] = 0
                for k in range(3):
                    out[row, k, k] = 1 / max(own[row, k, k], 1e-30)
                break


@compiled
def _invert_corner(full, scale, one):
    """The last three rows and columns of the inverse of `full`, of which the upper half is given; whether it is positive definite."""
    size = len(full)
    for k in range(size):
        scale[k] = 1 / np.sqrt(max(full[k, k], 1e-30))
    for k in range(size):
        for m in range(k, size):
            full[k, m] *= scale[k] * scale[m]  # unit diagonals, so that no scale matters
        full[k, k] += 1e-6
    definite = True
    for k in range(size - 3):  # all but the column itself are eliminated
        definite = definite and full[k, k] > LEAST_PIVOT
        pivot = full[k, k] if abs(full[k, k]) > 1e-12 else 1e-12
        for m in range(k + 1, size):
            part = full[k, m] / pivot
            for q in range(m, size):
                full[m, q] -= part * full[k, q]
    a, b, c = full[size - 3, size - 3], full[size - 3, size - 2], full[size - 3, size - 1]
    d, e, f = full[size - 2, size - 2], full[size - 2, size - 1], full[size - 1, size - 1]
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    one[0, 0], one[1, 1], one[2, 2] = d * f - e * e, a * f - c * c, a * d - b * b
    one[0, 1] = one[1, 0] = c * e - b * f
    one[0, 2] = one[2, 0] = b * e - c * d
    one[1, 2] = one[2, 1] = b * c - a * e
    definite = definite and a > LEAST_PIVOT and one[2, 2] > LEAST_PIVOT**2 and determinant > LEAST_PIVOT**3
    for k in range(3):
        for m in range(3):
            one[k, m] *= scale[size - 3 + k] * scale[size - 3 + m] / determinant
    return definite


@compiled
def _members(row, given, member):
    """How many columns the block of one has: its nearest neighbours, and itself as the last."""
    pairs, starts, edges, distance = given
    near = np.empty(MOST_NEIGHBOURS)
    count = 0
    for e in range(starts[row], starts[row + 1]):
        far = distance[edges[e]]
        if count == MOST_NEIGHBOURS and far >= near[count - 1]:
            continue
        k = min(count, MOST_NEIGHBOURS - 1)
        while k > 0 and near[k - 1] > far:
            near[k], member[k] = near[k - 1], member[k - 1]
            k -= 1
        near[k], member[k] = far, pairs[edges[e], 0] + pairs[edges[e], 1] - row
        count = min(count + 1, MOST_NEIGHBOURS)
    member[count] = row
    return count + 1


@compiled
def _fill(block, linked, given):
    """The upper half of the information of a constant, which stands first, and of the members."""
    (full, member), (pairs, starts, edges), (own, blocks, flat, area) = block, linked, given
    full[: 3 * len(member) + 1, : 3 * len(member) + 1] = 0
    full[0, 0] = area
    for k in range(len(member)):
        i, at = member[k], 3 * k + 1
        full[0, at : at + 3] = flat[i]
        full[at : at + 3, at : at + 3] = own[i]
        for e in range(starts[i], starts[i + 1]):
            pair = edges[e]
            other = pairs[pair, 0] + pairs[pair, 1] - i
            for m in range(k + 1, len(member)):
                if member[m] == other:
                    for a in range(3):
                        for b in range(3):
                            value = blocks[pair, a, b] if pairs[pair, 0] == i else blocks[pair, b, a]
                            full[at + a, 3 * m + 1 + b] = value


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
