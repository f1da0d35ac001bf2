"""A smooth background: bilinear hats on a coarse grid of knots, fitted together with the columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import sparse

from atomreel.interpret.chunks import in_halves
from atomreel.interpret.loops import compiled
from atomreel.interpret.peaks import Floats, Windows

BOTH = (
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
)  # of a pixel's two knots along an axis: the first with itself, with the second, …


@dataclass(frozen=True)
class Line:
    """One axis: pixel p of the padded image has 1 − share[p] of knot first[p] and share[p] of the next of `count`."""

    first: npt.NDArray[np.intp]
    share: npt.NDArray[np.float32]
    count: int


@dataclass(frozen=True)
class Hats:
    y: Line
    x: Line

    @property
    def knots(self) -> tuple[int, int]:
        return self.y.count, self.x.count

    def add(self, image: npt.NDArray[np.float32], heights: Floats) -> None:
        """Add knots of these heights (Ky·Kx,) to a padded image (Y', X')."""
        grid = np.asarray(heights, np.float32).reshape(self.knots)
        _add(image, (self.y.first, self.y.share, self.x.first, self.x.share), grid)

    def collect(self, image: Floats) -> npt.NDArray[np.float64]:
        """(Ky·Kx,) sums of image × hat."""
        out = np.zeros(self.knots)
        _collect(image, (self.y.first, self.y.share, self.x.first, self.x.share), out)
        return out.ravel()


def count_knots(size: tuple[int, int], step: float) -> tuple[int, int]:
    """Knots about `step` px apart over (Y, X); a single constant where the image is shorter than 1.5 steps."""
    ky, kx = (max(1, round((n - 1) / step)) + 1 if n > 1.5 * step else 1 for n in size)
    return ky, kx


def make_hats(size: tuple[int, int], *, knots: tuple[int, int], border: int) -> Hats:
    """Hats over an image of unpadded `size`, the outermost knots on its border pixels."""
    y, x = (_line(length, count, border) for length, count in zip(size, knots, strict=True))
    return Hats(y, x)


def _line(length: int, count: int, border: int) -> Line:
    place = np.clip(np.arange(-border, length + border), 0, length - 1) * (count - 1) / max(length - 1, 1)
    first = np.minimum(place.astype(np.intp), max(count - 2, 0))
    return Line(first, (place - first).astype(np.float32), count)


@compiled
def _add(image, lines, grid):
    y_first, y_share, x_first, x_share = lines
    last_y, last_x = grid.shape[0] - 1, grid.shape[1] - 1
    across = np.empty((grid.shape[0], image.shape[1]), np.float32)
    for k in range(grid.shape[0]):
        for x in range(image.shape[1]):
            low, high = grid[k, x_first[x]], grid[k, min(x_first[x] + 1, last_x)]
            across[k, x] = low + x_share[x] * (high - low)
    for y in range(image.shape[0]):
        low_line, high_line = across[y_first[y]], across[min(y_first[y] + 1, last_y)]
        for x in range(image.shape[1]):
            image[y, x] += low_line[x] + y_share[y] * (high_line[x] - low_line[x])


@compiled
def _collect(image, lines, out):
    y_first, y_share, x_first, x_share = lines
    last_y, last_x = out.shape[0] - 1, out.shape[1] - 1
    down = np.zeros((out.shape[0], image.shape[1]), np.float32)
    for y in range(image.shape[0]):
        low_line, high_line = down[y_first[y]], down[min(y_first[y] + 1, last_y)]
        for x in range(image.shape[1]):
            part = y_share[y] * image[y, x]
            low_line[x] += image[y, x] - part
            high_line[x] += part
    for k in range(out.shape[0]):
        for x in range(image.shape[1]):
            part = x_share[x] * down[k, x]
            out[k, x_first[x]] += down[k, x] - part
            out[k, min(x_first[x] + 1, last_x)] += part


def own_matrix(hats: Hats, weight: Floats) -> sparse.csr_array:
    """(K, K) Σ weight · hat · hatᵀ, with a slight pull of each knot towards its neighbours.

    The pull decides knots that no pixel speaks for (masked or covered by columns).
    """
    ky, kx = hats.knots
    cells = np.zeros((max(ky - 1, 1), 3, max(kx - 1, 1), 3))
    _cells(weight, (hats.y.first, hats.y.share, hats.x.first, hats.x.share), cells)
    pattern = _pattern(ky, kx)
    values = np.concatenate([cells[:, a + b, :, c + d].ravel() for a, b in BOTH for c, d in BOTH])
    sums = np.bincount(pattern.place, values, minlength=len(pattern.indices))
    data = sums + 1e-3 * float(sums[pattern.diagonal].mean()) * pattern.roughness
    return sparse.csr_array((data, pattern.indices, pattern.starts), shape=(ky * kx, ky * kx))


@compiled
def _cells(weight, lines, out):
    """Of every cell between knots (Cy, 3, Cx, 3) the sums of weight times both hats of the first knot, the hats of
    both, both of the second, along y and along x."""
    y_first, y_share, x_first, x_share = lines
    down = np.zeros((out.shape[0], 3, weight.shape[1]), np.float32)
    for y in range(weight.shape[0]):
        t, lines_of = y_share[y], down[y_first[y]]
        s = 1 - t
        first, both, second = lines_of[0], lines_of[1], lines_of[2]
        for x in range(weight.shape[1]):
            w = weight[y, x]
            first[x] += s * s * w
            both[x] += s * t * w
            second[x] += t * t * w
    for k in range(out.shape[0]):
        for c in range(3):
            for x in range(weight.shape[1]):
                t, m, w = x_share[x], x_first[x], down[k, c, x]
                out[k, c, m, 0] += (1 - t) * (1 - t) * w
                out[k, c, m, 1] += (1 - t) * t * w
                out[k, c, m, 2] += t * t * w


@dataclass(frozen=True)
class _Pattern:
    """Where the knots' matrix has entries: place: of each sum of `_cells` in them; roughness: the pull's entries."""

    place: npt.NDArray[np.intp]
    diagonal: npt.NDArray[np.intp]
    roughness: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]


@cache
def _pattern(ky: int, kx: int) -> _Pattern:
    def knots(step_y: int, step_x: int) -> npt.NDArray[np.intp]:
        y, x = np.arange(max(ky - 1, 1)) + step_y, np.arange(max(kx - 1, 1)) + step_x
        return (np.minimum(y, ky - 1)[:, None] * kx + np.minimum(x, kx - 1)).ravel()

    keys = np.concatenate([knots(a, c) * (ky * kx) + knots(b, d) for a, b in BOTH for c, d in BOTH])
    entries, place = np.unique(keys, return_inverse=True)
    row, col = np.divmod(entries, ky * kx)
    whole = sparse.csr_array(
        sparse.kron(_roughness(ky), sparse.eye_array(kx)) + sparse.kron(sparse.eye_array(ky), _roughness(kx))
    )
    starts = np.searchsorted(row, np.arange(ky * kx + 1)).astype(np.int32)
    return _Pattern(place, np.flatnonzero(row == col), whole[row, col], col.astype(np.int32), starts)


def _roughness(n: int) -> sparse.csr_array:
    if n == 1:
        return sparse.csr_array((1, 1))
    step = sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
    return sparse.csr_array(step.T @ step)


def cross_blocks(
    hats: Hats, weight: Floats, w: Windows, *, factor: Floats
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """(N, 3, L) Σ weight · basis · hat, times factor (N, 3), of columns with the knots (N, L) that their windows touch."""
    n, (ky, kx) = 2 * w.radius + 1, hats.knots
    y, x = w.corner.T
    wide_y = int((hats.y.first[y + n - 1] - hats.y.first[y]).max(initial=0)) + 2
    wide_x = int((hats.x.first[x + n - 1] - hats.x.first[x]).max(initial=0)) + 2
    blocks = np.zeros((len(w.corner), 3, wide_y, wide_x))

    def fill(at: slice) -> None:
        lines = hats.y.first, hats.y.share, hats.x.first, hats.x.share
        _cross(weight, (lines, w.part(at), np.ascontiguousarray(factor[at], np.float64)), blocks[at])

    in_halves(fill, len(blocks))
    # past the last knot the sums are zero: any knot may take them
    knot_y = np.minimum(hats.y.first[y][:, None] + np.arange(wide_y), ky - 1)
    knot_x = np.minimum(hats.x.first[x][:, None] + np.arange(wide_x), kx - 1)
    touched = knot_y[:, :, None] * kx + knot_x[:, None, :]
    return blocks.reshape(len(blocks), 3, -1), touched.reshape(len(blocks), -1)


@compiled
def _cross(weight, given, out):
    (y_first, y_share, x_first, x_share), window, factor = given
    (corner, offset), (value, slope), (yy, xx, yx, _) = window
    n = value.shape[1]
    half = n // 2
    # sums down the columns of pixels, of g, of the slope and of y·slope; and what each pixel of a line has of every knot
    down = np.empty((out.shape[2], 3, n), np.float32)
    hat, ramp = np.empty((out.shape[3], n), np.float32), np.empty(n, np.float32)
    for c in range(len(corner)):
        y0, x0 = corner[c, 0], corner[c, 1]
        down[:], hat[:] = np.float32(0), np.float32(0)
        for j in range(n):
            dy, share = offset[c, 0] + np.float32(j - half), y_share[y0 + j]
            line, low = weight[y0 + j, x0 : x0 + n], y_first[y0 + j] - y_first[y0]
            first, second = down[low], down[low + 1]
            for k in range(n):
                by_value, by_slope = line[k] * value[c, j, k], line[k] * slope[c, j, k]
                by_y = by_slope * dy
                first[0, k] += by_value - share * by_value
                first[1, k] += by_slope - share * by_slope
                first[2, k] += by_y - share * by_y
                second[0, k] += share * by_value
                second[1, k] += share * by_slope
                second[2, k] += share * by_y
        for k in range(n):
            m = x_first[x0 + k] - x_first[x0]
            hat[m, k], hat[m + 1, k] = 1 - x_share[x0 + k], x_share[x0 + k]
            ramp[k] = offset[c, 1] + np.float32(k - half)
        for q in range(out.shape[2]):
            for m in range(out.shape[3]):
                whole, along_y, along_x = np.float32(0), np.float32(0), np.float32(0)
                for k in range(n):
                    whole += hat[m, k] * down[q, 0, k]
                    along_y += hat[m, k] * down[q, 2, k]
                    along_x += hat[m, k] * down[q, 1, k] * ramp[k]
                out[c, 0, q, m] = whole * factor[c, 0]
                out[c, 1, q, m] = (yy * along_y + yx * along_x) * factor[c, 1]
                out[c, 2, q, m] = (yx * along_y + xx * along_x) * factor[c, 2]
