"""Column images: one learned peak shape per image, drawn and summed in windows around the columns.

Everything here is plain arrays in padded image coordinates: images carry a border of `Shape.radius`
pixels whose weight is zero, so a column at the border needs no special case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.interpret import loops
from atomreel.interpret.chunks import in_halves

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

PAIR_REACH = 5.2  # columns further apart than this many σ share nothing worth counting; leaving out more makes what is left indefinite
SHAPE_PARAMETERS = 4
ALL = slice(None)


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
        return max(2, int(np.ceil(np.sqrt(loops.REACH2 * self.covariance.diagonal().max()) - 0.5)))

    @property
    def numbers(self) -> tuple[np.float32, ...]:
        """yy, xx, yx, skirt, as the compiled loops take them."""
        return np.float32(self.yy), np.float32(self.xx), np.float32(self.yx), np.float32(self.skirt)

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

    value: (N, n, n) g. slope: (N, n, n) −2·dg/dq, so that ∂g/∂position = slope · M · d, with M the form's
    matrix and d the pixel's distance from the column. offset: (N, 2) window centre − position [px].
    corner: (N, 2) first pixel of the window in padded coordinates.
    """

    value: npt.NDArray[np.float32]
    slope: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    corner: npt.NDArray[np.intp]
    radius: int
    shape: Shape

    def part(self, at: slice = ALL) -> tuple[Any, Any, tuple[np.float32, ...]]:
        """Some of the windows, as the compiled loops take them."""
        return (self.corner[at], self.offset[at]), (self.value[at], self.slope[at]), self.shape.numbers


def pad(image: Floats, radius: int) -> npt.NDArray[np.float32]:
    out = np.zeros((image.shape[0] + 2 * radius, image.shape[1] + 2 * radius), np.float32)
    out[radius:-radius, radius:-radius] = image
    return out


def windows(positions: Floats, shape: Shape, *, size: tuple[int, int]) -> Windows:
    """Windows of columns at `positions` (N, 2) [px]. size: unpadded (Y, X)."""
    count, n = len(positions), 2 * shape.radius + 1
    # whatever is no number must not become an address
    centre = np.clip(np.rint(np.nan_to_num(positions)), 0, np.array(size) - 1).astype(np.intp)
    offset = (centre - positions).astype(np.float32)
    value, slope = np.empty((2, count, n, n), np.float32)
    in_halves(lambda at: loops.fill(offset[at], shape.numbers, (value[at], slope[at])), count)
    return Windows(value, slope, offset, centre, shape.radius, shape)


def draw(w: Windows, coefficients: Floats, *, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Image of padded `size`: Σ coefficients · (g, ∂g/∂y, ∂g/∂x) of all columns; (N, 3), or (N,) of g alone."""
    image = np.zeros(size, np.float32)
    if coefficients.ndim == 1:
        coefficients = np.stack([coefficients, *np.zeros((2, len(coefficients)))], axis=1)
    loops.draw(image, w.part(), np.ascontiguousarray(coefficients, np.float64))
    return image


def draw_shape_slopes(w: Windows, heights: Floats, *, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(4, Y', X') derivatives of the model of all columns by yy, xx, yx and skirt, of padded `size`."""
    images = np.zeros((SHAPE_PARAMETERS, *size), np.float32)
    loops.draw_shape_slopes(images, w.part(), np.asarray(heights, float))
    return images


def project(image: Floats, w: Windows) -> npt.NDArray[np.float64]:
    """(N, 3) sums of a padded image times g, ∂g/∂y and ∂g/∂x."""
    out = np.empty((len(w.corner), 3))
    loops.project(image, w.part(), out)
    return out


def means_under(image: Floats, w: Windows) -> npt.NDArray[np.float64]:
    """(N,) means of a padded image under each column, weighted by its peak where that is positive."""
    out = np.empty(len(w.corner))
    loops.means_under(image, w.part(), out)
    return out


def own_sums(weight: Floats, w: Windows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(N, 3, 3) Σ weight · basis · basisᵀ of every column with itself and (N, 3) Σ weight · basis."""
    count = len(w.corner)
    own, flat = np.empty((count, 3, 3)), np.empty((count, 3))
    in_halves(lambda at: loops.own_sums(weight, w.part(at), (own[at], flat[at])), count)
    return own, flat


def slopes_along(
    images: tuple[Floats, Floats, Floats], w: Windows, heights: Floats, *, axis: int
) -> npt.NDArray[np.float32]:
    """(4, N, n) gradient and information of the rows of each window, then of its columns, for a displacement along y
    (axis 0) or x (1). images: weight·residual, weight, and the slope of the whole model, padded."""
    count, n = len(w.corner), 2 * w.radius + 1
    out, tall = np.empty((4, count, n), np.float32), np.asarray(heights, float)

    def fill(at: slice) -> None:
        part = (*w.part(at), tall[at], axis)
        loops.slopes_along(images, part, (out[0, at], out[1, at], out[2, at], out[3, at]))

    in_halves(fill, count)
    return out


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
    first, second = positions[pairs[:, 0]], positions[pairs[:, 1]]
    middle = np.nan_to_num(0.5 * (first + second))
    centre = np.clip(np.rint(middle), 0, np.array(size) - 1).astype(np.intp)
    corner = centre + (shape.radius - r)
    first, second = (np.asarray(centre - there, np.float32) for there in (first, second))
    out = np.empty((len(pairs), 3, 3))

    def fill(at: slice) -> None:
        loops.pair_products(weight, (corner[at], first[at], second[at], shape.numbers, 2 * r + 1), out[at])

    in_halves(fill, len(pairs))
    return out
