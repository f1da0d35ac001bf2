"""Does the model know what it looks at? The probability that a place shows columns, from what the finder sees anyway.

The image is described cell by cell, as the network was given it: its power at four sizes, the shape of its grey values,
whether it runs in one direction, how the network's map fits to it, and how regular and how decided the maxima are.
A logistic regression, fitted to simulated images of columns and to simulated outsiders (benchmarks/fit_domain.py, which
writes domain.json), turns that into a probability. docs/columns.md has the equations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree
from scipy.special import expit

from atomreel.core.field import Field
from atomreel.prepare.scale import from_zoomed, to_zoomed, zoomed_shape

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
CELL = 8  # px of the network's image: about one spacing
WINDOW = 2.0  # cells: standard deviation of the window in which a place is judged
SURE = 0.5  # least score of a maximum whose neighbours are looked at
SPACING = 8.0  # px at the network's scale: unit of the distances of neighbours
UNKNOWN = 0.5  # domain below which a place is marked
FEATURES = (
    "fine",
    "middle",
    "coarse",
    "skew",
    "tails",
    "direction",
    "heat",
    "height",
    "width",
    "fit",
    "left over",
    "columns",
    "undecided",
    "evenness",
    "distance",
    "scatter",
    "order",
)
CLIP = 4.0  # standard deviations of the known: beyond, a feature says no more
WEIGHTS = Path(__file__).with_name("domain.json")


MANY = 0.2  # share of unknown columns from which on a warning is due
MOST = 0.6  # share of the image


@dataclass(frozen=True)
class Weights:
    """centre, spread: (F,) of the features of known places. precision: (F, F) inverse covariance of the scaled ones.

    linear: (F + F + 1,) weights of the scaled features, their squares and ln(1 + their Mahalanobis distance²).
    """

    centre: Array
    spread: Array
    precision: Array
    linear: Array
    offset: float


def describe(seen: FloatArray, logits: FloatArray) -> FloatArray:
    """(Y, X) image as the network is given it and its logits → (17, Y / CELL, X / CELL) means over cells.

    Sides that are no whole cells are mirrored at their far edges.
    """
    z, p = (_whole(values) for values in (seen, expit(logits)))
    z2, p2 = _halved(z), _halved(p)
    z4 = _halved(z2)
    zs, ps = _smooth(z2), _smooth(p2)
    dy, dx = (_slope(zs, axis) for axis in (0, 1))
    square = zs * zs
    fine = [z * z, p, p * p]
    half = [z2 * z2, p2 * p2, zs, square, square * zs, square * square, ps, ps * ps, zs * ps]
    half += [dy * dy, dx * dx, dy * dx]
    quarter = [z4 * z4]
    eighth = _halved(z4) ** 2
    return np.stack(
        [
            *(_means(m, 8) for m in fine),
            *(_means(m, 4) for m in half),
            *(_means(m, 2) for m in quarter),
            eighth,
        ]
    )


def features(
    texture: FloatArray, position: npt.NDArray[np.float64], logit: npt.NDArray[np.floating]
) -> FloatArray:
    """(17, Gy, Gx) of `describe`, maxima (N, 2) [px of the network's image] and their logits (N,) → (F, Gy, Gx).

    Everything is averaged under one Gaussian window of WINDOW cells first. The order is that of FEATURES.
    """
    peaks = _peak_sums(position, logit, texture.shape[1:])
    both = np.concatenate([texture, peaks])
    both = gaussian_filter(both, (0, WINDOW, WINDOW), mode="nearest", truncate=3)
    z1, p, pp, z2, p2, m1, m2, m3, m4, q, qq, zq, yy, xx, yx, z4, z8 = both[:17]
    columns, sure, undecided, level, squares, distance, spread, order = both[17:]
    tiny = 1e-6
    var, heat = np.maximum(m2 - m1**2, tiny), np.maximum(qq - q**2, 1e-8)
    covariance = zq - m1 * q
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    noise = np.maximum(z1 - z2, 0) * (4 / 3) * (9 / 256)  # what white noise leaves in the smoothed image
    left = np.maximum(var - covariance**2 / heat, 0)
    many = sure + 1e-3
    even = np.maximum(squares / many - (level / many) ** 2, 0)
    middle = distance / many
    scatter = np.maximum(spread / many - middle**2, 0)
    return np.stack(
        [
            np.log((z2 + tiny) / (z1 + tiny)),
            np.log((z4 + tiny) / (z2 + tiny)),
            np.log((z8 + tiny) / (z4 + tiny)),
            np.cbrt(third / var**1.5),
            np.log(np.maximum(fourth, tiny) / var**2),
            np.sqrt((yy - xx) ** 2 + 4 * yx**2) / (yy + xx + tiny),
            np.log(p * CELL**2 + 1e-2),
            pp / (p + 1e-4),
            p2 / (pp + 1e-6),
            covariance / np.sqrt(var * heat),
            np.log((left + tiny) / (noise + 0.01 * var + tiny)),
            np.log(columns + 1e-2),
            undecided / (columns + undecided + 1e-2),
            np.sqrt(even),
            middle,
            np.sqrt(scatter),
            order / many,
        ]
    ).astype(np.float32)


def known(values: npt.ArrayLike, weights: Weights) -> FloatArray:
    """(F, …) features → (…) probability that the place is one of columns, for even odds before."""
    told = np.asarray(values, dtype=np.float64)
    terms = expand(np.moveaxis(told, 0, -1).reshape(-1, len(told)), weights)
    return np.asarray(expit(terms @ weights.linear + weights.offset), np.float32).reshape(told.shape[1:])


def expand(values: Array, weights: Weights) -> Array:
    """(N, F) → (N, 2 F + 1): scaled, squared, and how far in all from what is known."""
    scaled = np.clip((values - weights.centre) / weights.spread, -CLIP, CLIP)
    far = np.log1p(np.einsum("ni,ij,nj->n", scaled, weights.precision, scaled))
    return np.concatenate([scaled, scaled**2, far[:, None]], 1)


def domain_field(
    texture: FloatArray, position: npt.NDArray[np.float64], logit: npt.NDArray[np.floating], *, zoom: float
) -> Field:
    """One map, "domain", over the image: cells of `describe`; maxima (N, 2) in px of the image. Empty places are 0."""
    values = known(features(texture, to_zoomed(position, zoom), logit), load_weights())
    empty = gaussian_filter(texture[0], WINDOW, mode="nearest", truncate=3) < 0.05
    values[empty] = 0
    first, step = cell_grid(zoom)
    return Field({"domain": values}, (first, first), (step, step))


def cell_grid(zoom: float) -> tuple[float, float]:
    """Centre of the first cell, and their distance [px of the image]."""
    return float(from_zoomed(np.array((CELL - 1) / 2), zoom)), CELL / zoom


def domain_at(field: Field, position: npt.NDArray[np.float64]) -> Array:
    """The map at positions (N, 2) [px of the image]; beyond the outermost cells it goes on as there."""
    at = ((position - field.origin) / field.step).T
    return np.asarray(map_coordinates(field.maps["domain"].astype(float), at, order=1, mode="nearest"))


def doubts(columns: npt.NDArray[np.float64], field: Field) -> list[str]:
    """What to say about `domain` of the columns (N,) and of the whole image."""
    told = []
    if len(columns) and np.mean(columns < UNKNOWN) > MANY:
        told.append(
            f"more than {100 * MANY:.0f} % of the columns stand where the image looks like nothing that the model knows "
            "(domain below 0.5): vacuum, amorphous or thick parts, or no atomic resolution"
        )
    if np.mean(field.maps["domain"] < UNKNOWN) > MOST:
        told.append(
            f"more than {100 * MOST:.0f} % of the image looks like nothing that the model knows (domain below 0.5)"
        )
    return told


def blank_texture(shape: tuple[int, ...], zoom: float) -> FloatArray:
    """For `describe` of all tiles of an image of `shape` (Y, X) px."""
    cells = [-(-n // CELL) for n in zoomed_shape((shape[0], shape[1]), zoom)]
    return np.zeros((17, *cells), np.float32)


@lru_cache(maxsize=1)
def load_weights(path: Path = WEIGHTS) -> Weights:
    told = json.loads(path.read_text())
    centre, spread, precision, linear = (
        np.array(told[name], dtype=float) for name in ("centre", "spread", "precision", "linear")
    )
    return Weights(centre, spread, precision, linear, float(told["offset"]))


def _peak_sums(
    position: npt.NDArray[np.float64], logit: npt.NDArray[np.floating], cells: tuple[int, ...]
) -> FloatArray:
    """(8, Gy, Gx) sums over the maxima in each cell: score; sure ones; undecided share; and of the sure ones the logit,
    its square, the log distance of the nearest, its square, and how far from the next place of a lattice one is."""
    sums = np.zeros((8, *cells))
    if not len(position):
        return sums.astype(np.float32)
    index = np.clip((position + 0.5) // CELL, 0, np.array(cells) - 1).astype(int)
    flat = index[:, 0] * cells[1] + index[:, 1]
    score = expit(np.asarray(logit, dtype=float))
    sure = score >= SURE
    logit = np.clip(logit, -4, 4)
    distance, order = _neighbours(position[sure])
    values = [score, sure, 4 * score * (1 - score), sure * logit, sure * logit**2]
    sums[:5] = [np.bincount(flat, v, minlength=cells[0] * cells[1]).reshape(cells) for v in values]
    lattice = [distance, distance**2, order]
    sums[5:] = [np.bincount(flat[sure], v, minlength=cells[0] * cells[1]).reshape(cells) for v in lattice]
    return sums.astype(np.float32)


def _neighbours(position: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """(N,) log distance of the nearest, in SPACING, and how far a maximum is from where a lattice has one.

    A column with neighbours j and k has, in a lattice and in a honeycomb, another one at x + (x_j − x_k).
    """
    if len(position) < 4:
        return np.full(len(position), 1.0), np.ones(len(position))
    tree = cKDTree(position)
    distance, near = tree.query(position, k=3)
    gap, _ = tree.query(position + position[near[:, 1]] - position[near[:, 2]])
    order = np.minimum(gap / np.maximum(distance[:, 1], 1e-9), 1.0)
    return np.clip(np.log(distance[:, 1] / SPACING), -1, 1), order


def _whole(values: FloatArray) -> FloatArray:
    fill = [(0, -n % CELL) for n in values.shape]
    return np.pad(values, fill, "symmetric") if any(b for _, b in fill) else values


def _halved(values: FloatArray) -> FloatArray:
    rows = values[::2] + values[1::2]
    return np.asarray(0.25 * (rows[:, ::2] + rows[:, 1::2]), np.float32)


def _means(values: FloatArray, side: int) -> FloatArray:
    while side > 1:
        values, side = _halved(values), side // 2
    return values


def _smooth(values: FloatArray) -> FloatArray:
    """Binomial over 3 × 3."""
    for axis in (0, 1):
        before, after = _beside(values, axis)
        values = 0.5 * values + 0.25 * (before + after)
    return values


def _slope(values: FloatArray, axis: int) -> FloatArray:
    before, after = _beside(values, axis)
    return 0.5 * (after - before)


def _beside(values: FloatArray, axis: int) -> tuple[FloatArray, FloatArray]:
    """The values before and after along an axis, repeated at the border."""
    first, last = (np.take(values, [i], axis) for i in (0, -1))
    whole = np.concatenate([first, values, last], axis)
    n = values.shape[axis]
    return (whole[:n], whole[2:]) if axis == 0 else (whole[:, :n], whole[:, 2:])
