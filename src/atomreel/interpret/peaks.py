"""Column images: one learned peak shape per image, evaluated in windows, and the sparse normal equations.

Everything here is plain arrays in padded image coordinates: images carry a border of `Shape.radius`
pixels whose weight is zero, so a column at the border needs no special case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

from atomreel.interpret.chunks import in_chunks

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

REACH2 = 11.0  # squared radius, in units of the Gaussian's own width, at which the skirt ends
PAIR_REACH = 5.2  # columns further apart than this many σ share nothing worth counting; leaving out more makes what is left indefinite
SHAPE_PARAMETERS = 4


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
    """Unit peaks and their slopes in windows of side n = 2·radius + 1 around the nearest pixel.

    value: (N, n·n) g. slope: (N, n·n) −2·dg/dq, so that ∂g/∂position = slope · M · d, with M the form's
    matrix and d the pixel's distance from the column. offset: (N, 2) window centre − position [px].
    index: (N, n·n) into the padded image. corner: (N, 2) first pixel of the window in padded coordinates.
    """

    value: npt.NDArray[np.float32]
    slope: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    index: npt.NDArray[np.int32]
    corner: Ints
    radius: int
    shape: Shape
    shape_slopes: npt.NDArray[np.float32] | None = None

    @cached_property
    def basis(self) -> npt.NDArray[np.float32]:
        """(N, 3, n·n) g, ∂g/∂y, ∂g/∂x of the column's position."""
        n = 2 * self.radius + 1
        side = np.arange(n, dtype=np.float32) - self.radius
        parts = (self.value.reshape(-1, n, n), self.slope.reshape(-1, n, n))
        return _tilted(*parts, self.offset, side, self.shape).reshape(len(self.value), 3, -1)


def _tilted(
    value: Floats, slope: Floats, offset: Floats, side: Floats, shape: Shape
) -> npt.NDArray[np.float32]:
    """(N, 3, n, n) g, ∂g/∂y, ∂g/∂x from g and −2·dg/dq."""
    dy, dx = offset[:, :1] + side, offset[:, 1:] + side
    yy, xx, yx = (np.float32(v) for v in (shape.yy, shape.xx, shape.yx))
    out = np.empty((len(slope), 3, *slope.shape[1:]), np.float32)
    out[:, 0] = value
    np.multiply(slope, (yy * dy)[:, :, None] + (yx * dx)[:, None, :], out=out[:, 1])
    np.multiply(slope, (xx * dx)[:, None, :] + (yx * dy)[:, :, None], out=out[:, 2])
    return out


def pad(image: Floats, radius: int) -> npt.NDArray[np.float32]:
    out = np.zeros((image.shape[0] + 2 * radius, image.shape[1] + 2 * radius), np.float32)
    out[radius:-radius, radius:-radius] = image
    return out


def _fill(
    offset: Floats, side: Floats, shape: Shape, *, value: Floats, slope: Floats, gauss: Floats | None = None
) -> None:
    """g, −2·dg/dq and the bare Gaussian of windows with these offsets, written to arrays (N, n, n).

    On a grid d = offset + k the Gaussian is a product of a row, a column and, with yx, one table of all
    windows, exp(−yx·k_y·k_x), so that no exponential is taken per pixel.
    """
    yy, xx, yx, skirt = (np.float32(v) for v in (shape.yy, shape.xx, shape.yx, shape.skirt))
    fy, fx = offset[:, :1], offset[:, 1:]
    dy, dx = fy + side, fx + side
    rows = np.exp(np.float32(-0.5) * yy * dy * dy - yx * fx * dy)
    if gauss is None:
        rows *= 1 - skirt
    cols = np.exp(np.float32(-0.5) * xx * dx * dx - yx * fy * side)
    core = slope if gauss is None else gauss
    np.multiply(rows[:, :, None], cols[:, None, :], out=core)
    if yx:
        core *= np.exp(-yx * side[:, None] * side)
    if gauss is not None:
        np.multiply(gauss, 1 - skirt, out=slope)
    if not skirt:
        value[...] = slope
        return
    part = np.float32(1 / REACH2)
    np.add((1 - part * yy * dy * dy)[:, :, None], (-part * xx * dx * dx)[:, None, :], out=value)
    if yx:
        value -= (2 * part * yx * dy)[:, :, None] * dx[:, None, :]
    np.maximum(value, 0, out=value)
    square = value * value
    square *= skirt
    value *= square
    value += slope
    square *= np.float32(6 / REACH2)
    slope += square


def windows(positions: Floats, shape: Shape, *, size: tuple[int, int], slopes: bool = False) -> Windows:
    """Windows of columns at `positions` (N, 2) [px]. size: unpadded (Y, X). slopes: with ∂g/∂shape (N, 4, n·n)."""
    r, count = shape.radius, len(positions)
    centre = np.clip(np.rint(positions), 0, np.array(size) - 1).astype(np.int32)
    offset = (centre - positions).astype(np.float32)
    whole = np.arange(2 * r + 1, dtype=np.int32)
    side = (whole - r).astype(np.float32)
    n = len(side)
    stride = size[1] + 2 * r
    index = ((centre[:, :1] + whole) * stride)[:, :, None] + (centre[:, 1:] + whole)[:, None, :]
    value, slope = np.empty((2, count, n, n), np.float32)
    gauss = np.empty((count, n, n), np.float32) if slopes else None

    def fill(at: slice) -> None:
        bare = None if gauss is None else gauss[at]
        _fill(offset[at], side, shape, value=value[at], slope=slope[at], gauss=bare)

    in_chunks(fill, count)
    extra = None if gauss is None else _shape_slopes(offset, side, shape, slope=slope, gauss=gauss)
    flat = (count, n * n)
    return Windows(
        value.reshape(flat), slope.reshape(flat), offset, index.reshape(flat), centre.astype(np.intp), r, shape, extra
    )  # fmt: skip


def _shape_slopes(
    offset: Floats, side: Floats, shape: Shape, *, slope: Floats, gauss: Floats
) -> npt.NDArray[np.float32]:
    """(N, 4, n·n) derivatives of g by yy, xx, yx and skirt."""
    out = np.empty((len(offset), SHAPE_PARAMETERS, *slope.shape[1:]), np.float32)
    yy, xx, yx = (np.float32(v / REACH2) for v in (shape.yy, shape.xx, 2 * shape.yx))

    def fill(at: slice) -> None:
        dy, dx = offset[at, :1] + side, offset[at, 1:] + side
        half = np.float32(-0.5) * slope[at]
        np.multiply(half, (dy * dy)[:, :, None], out=out[at, 0])
        np.multiply(half, (dx * dx)[:, None, :], out=out[at, 1])
        half *= 2 * dy[:, :, None]
        np.multiply(half, dx[:, None, :], out=out[at, 2])
        left = np.multiply((-yx * dy)[:, :, None], dx[:, None, :], out=half)
        left += (1 - yy * dy * dy)[:, :, None]
        left -= (xx * dx * dx)[:, None, :]
        np.maximum(left, 0, out=left)
        np.multiply(left, left, out=out[at, 3])
        out[at, 3] *= left
        out[at, 3] -= gauss[at]

    in_chunks(fill, len(offset))
    return out.reshape(len(offset), SHAPE_PARAMETERS, -1)


def stamp(
    values: Floats, index: Ints, *, size: tuple[int, int], heights: Floats | None = None
) -> npt.NDArray[np.float32]:
    """Sum of windowed values (N, n·n) times heights (N,) at `index`, as an image of padded `size`."""
    count, pixels = values.shape
    starts = np.arange(count + 1, dtype=index.dtype) * pixels
    # one column of this matrix is one window, so that the sum is a product with the heights
    matrix = sparse.csc_array((values.ravel(), index.ravel(), starts), shape=(size[0] * size[1], count))
    factor = np.ones(count, np.float32) if heights is None else heights.astype(np.float32)
    return np.asarray(matrix @ factor).reshape(size)


def gather(image: Floats, w: Windows) -> npt.NDArray[np.float32]:
    """(N, n·n) windows of a padded image."""
    n = 2 * w.radius + 1
    view = np.lib.stride_tricks.sliding_window_view(image, (n, n))
    return view[w.corner[:, 0], w.corner[:, 1]].reshape(len(w.corner), n * n)


def _grid(radius: int) -> npt.NDArray[np.float32]:
    """(n·n, 6): 1, k_y, k_x, k_y², k_y·k_x, k_x² of the pixels of a window."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).astype(np.float32)
    return np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=1)


def _form(shape: Shape) -> Floats:
    return np.array([[shape.yy, shape.yx], [shape.yx, shape.xx]])


def project(image_windows: Floats, w: Windows) -> npt.NDArray[np.float64]:
    """(N, 3) sums of windowed image values times the basis."""
    out = np.empty((len(w.corner), 3))
    grid, form = _grid(w.radius)[:, :3].copy(), _form(w.shape)

    def fill(at: slice) -> None:
        out[at, 0] = np.vecdot(image_windows[at], w.value[at])
        sums = (image_windows[at] * w.slope[at]) @ grid
        out[at, 1:] = (sums[:, 1:] + w.offset[at] * sums[:, :1]) @ form

    in_chunks(fill, len(out))
    return out


def own_sums(weight_windows: Floats, w: Windows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(N, 3, 3) Σ weight · basis · basisᵀ of every column with itself and (N, 3) Σ weight · basis."""
    count = len(w.corner)
    own, flat = np.empty((count, 3, 3)), np.empty((count, 3))
    grid, form = _grid(w.radius), _form(w.shape)
    few = grid[:, :3].copy()

    def fill(at: slice) -> None:
        f, value, slope = w.offset[at].astype(float), w.value[at], w.slope[at]
        by_slope = weight_windows[at] * slope
        flat[at, 0] = np.vecdot(weight_windows[at], value)
        flat[at, 1:] = _first(by_slope @ few, f) @ form
        own[at, 0, 0] = np.vecdot(weight_windows[at] * value, value)
        own[at, 0, 1:] = own[at, 1:, 0] = _first((by_slope * value) @ few, f) @ form
        by_slope *= slope
        own[at, 1:, 1:] = form @ _second(by_slope @ grid, f, f) @ form

    in_chunks(fill, count)
    return own, flat


def _first(sums: Floats, f: Floats) -> Floats:
    """(N, 2) Σ v·d about the column from Σ v and Σ v·k about the centre pixel."""
    return sums[:, 1:3] + f * sums[:, :1]


def _second(sums: Floats, f: Floats, g: Floats) -> Floats:
    """(N, 2, 2) Σ v·d·eᵀ about two columns, f and g being the centre pixel's distances from them."""
    second = sums[:, [3, 4, 4, 5]].reshape(-1, 2, 2).astype(float)
    second += f[:, :, None] * sums[:, None, 1:3] + sums[:, 1:3, None] * g[:, None, :]
    return second + sums[:, 0, None, None] * f[:, :, None] * g[:, None, :]


def neighbours(positions: Floats, reach: float) -> npt.NDArray[np.intp]:
    """(P, 2) pairs i < j of columns closer than `reach` [px]."""
    return np.asarray(cKDTree(positions).query_pairs(reach, output_type="ndarray").astype(np.intp))


def pair_blocks(
    positions: Floats, pairs: Ints, shape: Shape, *, weight: Floats, size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """(P, 3, 3) Σ weight · basis_i · basis_jᵀ. weight: padded by shape.radius.

    The product of two peaks is a peak √2 narrower at their midpoint, so a smaller window is enough.
    """
    r = max(2, int(np.ceil(0.72 * shape.radius)))
    border, n = shape.radius - r, 2 * r + 1
    view = np.lib.stride_tricks.sliding_window_view(weight, (n, n))
    side = np.arange(-r, r + 1).astype(np.float32)
    grid, form = _grid(r), _form(shape)
    few = grid[:, :3].copy()
    out = np.empty((len(pairs), 3, 3))

    def fill(at: slice) -> None:
        i, j = pairs[at].T
        middle = np.rint(0.5 * (positions[i] + positions[j]))
        centre = np.clip(middle.astype(np.intp), 0, np.array(size) - 1)
        first, second = centre - positions[i], centre - positions[j]
        value, slope, value_j, slope_j = np.empty((4, len(i), n, n), np.float32)
        _fill(first.astype(np.float32), side, shape, value=value, slope=slope)
        _fill(second.astype(np.float32), side, shape, value=value_j, slope=slope_j)
        weights = view[centre[:, 0] + border, centre[:, 1] + border]
        value *= weights
        slope *= weights
        flat = (len(i), n * n)
        out[at, 0, 0] = np.vecdot(value.reshape(flat), value_j.reshape(flat))
        out[at, 0, 1:] = _first((value * slope_j).reshape(flat) @ few, second) @ form
        out[at, 1:, 0] = _first((slope * value_j).reshape(flat) @ few, first) @ form
        slope *= slope_j
        out[at, 1:, 1:] = form @ _second(slope.reshape(flat) @ grid, first, second) @ form

    in_chunks(fill, len(pairs))
    return out
