"""Column images: one learned peak shape per image, evaluated in windows, and the sparse normal equations.

Everything here is plain arrays in padded image coordinates: images carry a border of `Shape.radius`
pixels whose weight is zero, so a column at the border needs no special case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

REACH2 = 11.0  # squared radius, in units of the Gaussian's own width, at which the skirt ends
PAIR_REACH = 5.2  # columns further apart than this many σ do not share pixels worth counting
SHAPE_PARAMETERS = 4
CHUNK = 128  # windows at a time, so that the work stays in the cache


@dataclass(frozen=True)
class Shape:
    """g = (1 − skirt)·exp(−q/2) + skirt·(1 − q/11)³₊, q = yy·dy² + xx·dx² + 2·yx·dy·dx. Units: px⁻².

    The compact second term is 1.35 times as wide as the Gaussian and ends exactly at the window's
    edge; a positive share of it stands for probe tails and the detector's MTF, a negative one for a
    flat top.
    """

    yy: float
    xx: float
    yx: float = 0.0
    skirt: float = 0.0

    @property
    def covariance(self) -> Floats:
        """(2, 2) covariance of the Gaussian [px²], (y, x)."""
        return np.linalg.inv(np.array([[self.yy, self.yx], [self.yx, self.xx]]))

    @property
    def width(self) -> float:
        """Geometric mean σ of the Gaussian [px]."""
        return float((self.yy * self.xx - self.yx**2) ** -0.25)

    @property
    def radius(self) -> int:
        return max(2, int(np.ceil(np.sqrt(REACH2 * self.covariance.diagonal().max()) - 0.5)))

    def moved(self, step: Floats, *, limits: tuple[float, float]) -> Shape:
        """Shape after a step in (yy, xx, yx, skirt), each at most 30 %, σ kept inside `limits` [px]."""
        low, high = limits[1] ** -2.0, limits[0] ** -2.0
        yy = float(np.clip(self.yy * (1 + np.clip(step[0] / self.yy, -0.3, 0.3)), low, high))
        xx = float(np.clip(self.xx * (1 + np.clip(step[1] / self.xx, -0.3, 0.3)), low, high))
        bound = 0.5 * np.sqrt(yy * xx)
        yx = float(np.clip(self.yx + step[2], -bound, bound))
        return replace(self, yy=yy, xx=xx, yx=yx, skirt=float(np.clip(self.skirt + step[3], -0.4, 0.6)))


def replace_covariance(shape: Shape, covariance: Floats) -> Shape:
    """The shape with another covariance (2, 2) [px²], not narrower than 0.3 px."""
    value, vector = np.linalg.eigh(covariance)
    inverse = (vector / np.maximum(value, 0.09)) @ vector.T
    return replace(shape, yy=float(inverse[0, 0]), xx=float(inverse[1, 1]), yx=float(inverse[0, 1]))


def round_shape(width: float) -> Shape:
    return Shape(yy=width**-2.0, xx=width**-2.0)


@dataclass(frozen=True)
class Windows:
    """Unit peaks and their derivatives in windows of side n = 2·radius + 1 around the nearest pixel.

    basis: (N, 3, n·n) g, ∂g/∂y, ∂g/∂x of the column's position. index: (N, n·n) into the padded image.
    corner: (N, 2) first pixel of the window in padded coordinates.
    """

    basis: npt.NDArray[np.float32]
    index: npt.NDArray[np.intp]
    corner: Ints
    radius: int
    shape_slopes: npt.NDArray[np.float32] | None = None


def pad(image: Floats, radius: int) -> Floats:
    return np.pad(np.asarray(image, np.float32), radius)


def _profile(q: Floats, skirt: float) -> tuple[Floats, Floats, Floats]:
    """g, −2·dg/dq and the compact term minus the Gaussian, of squared radius q."""
    gauss = np.exp(-0.5 * q)
    rest = np.maximum(1 - q / np.float32(REACH2), 0)
    square = rest * rest
    compact = square * rest
    value = gauss + np.float32(skirt) * (compact - gauss)
    slope = np.float32(1 - skirt) * gauss + np.float32(6 * skirt / REACH2) * square
    return value, slope, compact - gauss


def _evaluate(
    positions: Floats, centre: Ints, side: Ints, shape: Shape
) -> tuple[npt.NDArray[np.float32], Floats, Floats, Floats, Floats]:
    """Basis (N, 3, n, n), −2·dg/dq, compact term minus Gaussian, and the offsets dy, dx (N, n)."""
    offset = (centre - positions).astype(np.float32)
    dy = offset[:, :1] + side.astype(np.float32)
    dx = offset[:, 1:] + side.astype(np.float32)
    yy, xx, yx = (np.float32(v) for v in (shape.yy, shape.xx, shape.yx))
    q = (yy * dy * dy)[:, :, None] + (xx * dx * dx)[:, None, :]
    if shape.yx:
        q += (2 * yx * dy)[:, :, None] * dx[:, None, :]
    value, slope, change = _profile(q, shape.skirt)
    basis = np.empty((len(q), 3, *q.shape[1:]), np.float32)
    basis[:, 0] = value
    np.multiply(slope, (yy * dy)[:, :, None] + (yx * dx)[:, None, :], out=basis[:, 1])
    np.multiply(slope, (xx * dx)[:, None, :] + (yx * dy)[:, :, None], out=basis[:, 2])
    return basis, slope, change, dy, dx


def windows(positions: Floats, shape: Shape, *, size: tuple[int, int], slopes: bool = False) -> Windows:
    """Windows of columns at `positions` (N, 2) [px]. size: unpadded (Y, X). slopes: with ∂g/∂shape (N, 4, n·n)."""
    r = shape.radius
    limit = np.array(size) - 1
    centre = np.clip(np.rint(positions).astype(np.intp), 0, limit)
    side = np.arange(-r, r + 1)
    basis, slope, change, dy, dx = _evaluate(positions, centre, side, shape)
    stride = size[1] + 2 * r
    n = len(positions)
    index = ((centre[:, :1] + r + side) * stride)[:, :, None] + (centre[:, 1:] + r + side)[:, None, :]
    extra = None
    if slopes:
        half = np.float32(-0.5) * slope
        extra = np.empty((n, SHAPE_PARAMETERS, *slope.shape[1:]), np.float32)
        extra[:, 0] = half * (dy * dy)[:, :, None]
        extra[:, 1] = half * (dx * dx)[:, None, :]
        extra[:, 2] = -slope * dy[:, :, None] * dx[:, None, :]
        extra[:, 3] = change
        extra = extra.reshape(n, SHAPE_PARAMETERS, -1)
    return Windows(basis.reshape(n, 3, -1), index.reshape(n, -1), centre, r, extra)


def stamp(values: Floats, index: Ints, *, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Sum of windowed values (N, n·n) at `index`, as an image of padded `size`."""
    total = np.bincount(index.ravel(), values.ravel(), minlength=size[0] * size[1])
    return total.reshape(size).astype(np.float32)


def gather(image: Floats, w: Windows) -> npt.NDArray[np.float32]:
    """(N, n·n) windows of a padded image."""
    n = 2 * w.radius + 1
    view = np.lib.stride_tricks.sliding_window_view(image, (n, n))
    return view[w.corner[:, 0], w.corner[:, 1]].reshape(len(w.corner), n * n)


def project(image_windows: Floats, w: Windows) -> npt.NDArray[np.float64]:
    """(N, 3) sums of windowed image values times the basis."""
    return np.asarray(np.matmul(w.basis, image_windows[:, :, None])[:, :, 0].astype(float))


def own_blocks(weight_windows: Floats, w: Windows) -> npt.NDArray[np.float64]:
    """(N, 3, 3) Σ weight · basis · basisᵀ of every column with itself."""
    return np.asarray(
        np.matmul(w.basis * weight_windows[:, None, :], w.basis.transpose(0, 2, 1)).astype(float)
    )


def neighbours(positions: Floats, reach: float) -> npt.NDArray[np.intp]:
    """(P, 2) pairs i < j of columns closer than `reach` [px]."""
    return np.asarray(cKDTree(positions).query_pairs(reach, output_type="ndarray").astype(np.intp))


def pair_blocks(
    positions: Floats, pairs: Ints, shape: Shape, *, weight: Floats, size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """(P, 3, 3) Σ weight · basis_i · basis_jᵀ. weight: padded by shape.radius.

    The product of two peaks is a peak √2 narrower at their midpoint, so a smaller window is enough.
    """
    parts = [np.zeros((0, 3, 3))]
    for first in range(0, len(pairs), CHUNK):
        parts.append(_pair_blocks(positions, pairs[first : first + CHUNK], shape, weight, size))
    return np.concatenate(parts)


def _pair_blocks(
    positions: Floats, pairs: Ints, shape: Shape, weight: Floats, size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    r = max(2, int(np.ceil(0.72 * shape.radius)))
    middle = 0.5 * (positions[pairs[:, 0]] + positions[pairs[:, 1]])
    centre = np.clip(np.rint(middle).astype(np.intp), 0, np.array(size) - 1)
    side = np.arange(-r, r + 1)
    n = 2 * r + 1
    border = shape.radius - r
    view = np.lib.stride_tricks.sliding_window_view(weight, (n, n))
    weights = view[centre[:, 0] + border, centre[:, 1] + border].reshape(len(pairs), 1, n * n)
    first, second = (
        _evaluate(positions[pairs[:, k]], centre, side, shape)[0].reshape(len(pairs), 3, -1) for k in (0, 1)
    )
    first *= weights
    return np.asarray(np.matmul(first, second.transpose(0, 2, 1)).astype(float))
