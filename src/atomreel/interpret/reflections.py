"""The lattice of one frame in its spectrum: two reciprocal vectors and the harmonics that stand above the noise.

What stands out of the spectrum's rings is kept only where a lattice explains it: an image without one is refused.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
SMALLEST = 48  # px; less holds too few cells
PEAK = 30.0  # power over the ring's median from which a maximum is a peak: noise has it once in 10⁹ cells
HARMONIC = 8.0  # the same where the lattice says that a reflection should be
MOST = 30  # peaks that are looked at
SEEDS = 10  # of which so many make bases
CLUSTER = 0.08  # share of |q| within which weaker peaks belong to a stronger one
NEAR = 1.2  # cycles per frame: how far a reflection may be from its place
FEWEST_CELLS = 5.0  # lattice planes across the frame
EXPLAINED = 0.6  # share of the peaks' weight that the lattice must explain


@dataclass(frozen=True, eq=False)
class Reflections:
    """basis: (2, 2), rows are reciprocal vectors (y, x) [cycles/px]. indices: (R, 2), one of each pair ±G, without 0.

    power: (R,) over the median of the ring. explained: share of the weight of all peaks that lies on the lattice.
    """

    basis: Array
    indices: npt.NDArray[np.int64]
    power: Array
    explained: float

    @property
    def frequencies(self) -> Array:
        """(R, 2) [cycles/px]."""
        return np.asarray(self.indices @ self.basis)

    @property
    def spacing(self) -> float:
        """The widest spacing of lattice planes seen [px]."""
        return float(1 / np.linalg.norm(self.frequencies, axis=1).min())

    @property
    def vectors(self) -> Array:
        """(2, 2), rows are the lattice vectors (y, x) [px] that go with the basis."""
        return np.asarray(np.linalg.inv(self.basis).T)

    def scaled(self, factor: float) -> Reflections:
        """The same lattice in an image that has `factor` times as many pixels along each side; what it cannot show is left out."""
        keep = np.abs(self.indices @ self.basis / factor).max(1) < 0.5
        return Reflections(self.basis / factor, self.indices[keep], self.power[keep], self.explained)


def find_reflections(image: npt.ArrayLike, *, known: Reflections | None = None) -> Reflections:
    """The lattice that explains the spectrum of an image (Y, X) of finite numbers.

    Peaks are maxima of the windowed spectrum at least 30 times the median of their ring; bases are pairs of the
    strongest. Of bases that explain nearly as much the coarsest reciprocal lattice is
    taken. known: the lattice of another frame; where no lattice is found, that one is looked for at its places, and is there with
    three reflections above the noise (noise has that once in some hundred frames).
    Raises InputError: no image, or no lattice in it.
    """
    data = _checked(image)
    power = _excess(data)
    try:
        return _found(data, power)
    except InputError:
        if known is None:
            raise
        indices, _ = _harmonics(known.basis, power)
        old = (indices[:, None] == known.indices).all(2).any(1)
        if old.sum() < 3 or np.linalg.matrix_rank(indices[old]) < 2:
            raise
        return Reflections(known.basis, known.indices, np.ones(len(known.indices)), 0.0)


def _found(data: Array, power: Array) -> Reflections:
    peaks, weight = _peaks(power)
    if len(peaks) < 2:
        raise InputError(
            f"no lattice: {len(peaks)} reflections stand out of the spectrum of this {data.shape[0]} × {data.shape[1]} "
            "image; at least two directions are needed. Choose a frame (or input.roi) that shows the lattice"
        )
    basis = _best_basis(peaks, weight, data.shape)
    if basis is None:
        raise InputError(
            f"no lattice: the {len(peaks)} reflections of this image lie on one line, or fewer than {FEWEST_CELLS:.0f} "
            "lattice planes fit into it; choose a larger region or one with two directions of lattice planes"
        )
    basis = _refined(basis, peaks, weight, data.shape)
    share = float(weight[_on(basis, peaks, data.shape)].sum() / weight.sum())
    indices, strength = _harmonics(basis, power)
    independent = len(indices) > 1 and np.linalg.matrix_rank(indices) == 2
    if share < EXPLAINED or not independent:
        raise InputError(
            f"no lattice: the best one explains {share:.0%} of the reflections of this image, {EXPLAINED:.0%} are needed; "
            "particles, several grains or an amorphous film look like this. Choose a region of one grain (input.roi)"
        )
    return Reflections(basis, indices, strength, share)


def _checked(image: npt.ArrayLike) -> Array:
    data = np.asarray(image, dtype=float)
    if data.ndim != 2 or min(data.shape) < SMALLEST:
        raise InputError(f"image of shape {data.shape}: expected (Y, X) of at least {SMALLEST} px each")
    if not np.all(np.isfinite(data)):
        raise InputError("the image has values that are no finite numbers: mend it first (prepare.clean)")
    if np.ptp(data) <= 1e-9 * max(1.0, float(np.abs(data).max())):
        raise InputError("the image is flat: there is no lattice in it")
    return data


def _excess(data: Array) -> Array:
    """Power spectrum (Y, X), centred, over the median of its ring."""
    flat = data - ndimage.gaussian_filter(data, 0.08 * min(data.shape), mode="reflect")
    low, high = np.percentile(flat, [0.2, 99.8])
    window = np.outer(np.hanning(data.shape[0]), np.hanning(data.shape[1]))
    power = np.abs(fft.fftshift(fft.fft2(np.clip(flat, low, high) * window))) ** 2
    radius = _radius(data.shape)
    ring = np.rint(radius * min(data.shape)).astype(int)
    median = np.asarray(ndimage.median(power, ring, np.arange(ring.max() + 1)))
    median = ndimage.median_filter(median, 5, mode="nearest")
    out = power / np.maximum(median[ring], 1e-12 * power.max() + 1e-300)
    return np.where(radius * min(data.shape) < FEWEST_CELLS, 0.0, out)


def _radius(shape: tuple[int, ...]) -> Array:
    """(Y, X) |q| [cycles/px] of the centred spectrum."""
    fy, fx = (fft.fftshift(fft.fftfreq(n)) for n in shape)
    return np.hypot(fy[:, None], fx)


def _peaks(power: Array) -> tuple[Array, Array]:
    """(P, 2) frequencies [cycles/px] of the upper half plane and their weights (amplitude over the noise), strongest first."""
    top = (power == ndimage.maximum_filter(power, 5)) & (power > PEAK)
    y, x = np.nonzero(top)
    centre = np.array(power.shape) // 2
    upper = (y < centre[0]) | ((y == centre[0]) & (x > centre[1]))
    inside = (y > 0) & (x > 0) & (y < power.shape[0] - 1) & (x < power.shape[1] - 1)
    y, x = y[upper & inside], x[upper & inside]
    order = np.argsort(-power[y, x], kind="stable")[: 20 * MOST]
    away = np.stack([y - centre[0], x - centre[1]], 1).astype(float)
    kept: list[int] = []
    for i in order:  # drift makes a reflection a cluster of maxima
        gap = np.linalg.norm(away[kept] - away[i], axis=1)
        if len(kept) < MOST and np.all(gap > CLUSTER * np.linalg.norm(away[i]) + 3):
            kept.append(int(i))
    where = np.array([_summit(power, y[i], x[i]) for i in kept]).reshape(-1, 2)
    return (where - centre) / np.array(power.shape), np.sqrt(power[y[kept], x[kept]])


def _summit(power: Array, y: int, x: int) -> tuple[float, float]:
    """Vertex of the parabolas through the logarithms at a maximum: a Hann window's lobe is nearly a Gaussian."""
    out = []
    for at, line in ((y, power[y - 1 : y + 2, x]), (x, power[y, x - 1 : x + 2])):
        a, b, c = np.log(np.maximum(line, 1e-12))
        bend = a - 2 * b + c
        out.append(at + (float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0))
    return out[0], out[1]


def _on(basis: Array, peaks: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which peaks lie on the lattice of `basis` (0 is no place for one)."""
    index = np.rint(peaks @ np.linalg.inv(basis))
    off = (peaks - index @ basis) * np.array(shape)
    far = np.linalg.norm(peaks * np.array(shape), axis=1)
    return np.asarray((np.hypot(*off.T) < np.maximum(NEAR, 0.02 * far)) & (np.abs(index).max(1) > 0))


def _best_basis(peaks: Array, weight: Array, shape: tuple[int, ...]) -> Array | None:
    """Of bases that explain nearly as much as the best, the one of the coarsest reciprocal lattice."""
    found: list[tuple[float, float, Array]] = []
    least = (FEWEST_CELLS / min(shape)) ** 2
    tolerance = (NEAR / min(shape)) ** 2 * np.pi
    for i, j in itertools.combinations(range(min(len(peaks), SEEDS)), 2):
        basis = _reduced(np.stack([peaks[i], peaks[j]]))
        area = abs(float(np.linalg.det(basis)))
        long = np.linalg.norm(basis, axis=1).max()
        if area < least or area < 0.25 * long**2:
            continue
        chance = min(1.0, tolerance / area)  # of a peak at random to lie on it
        share = float(weight[_on(basis, peaks, shape)].sum() / weight.sum())
        found.append((share - chance, area, basis))
    if not found:
        return None
    best = max(score for score, _, _ in found)
    return max((one for one in found if one[0] >= 0.93 * best), key=lambda one: one[1])[2]


def _reduced(basis: Array) -> Array:
    """Lagrange–Gauss reduction: the two shortest vectors of the lattice."""
    a, b = basis
    for _ in range(50):
        if a @ a > b @ b:
            a, b = b, a
        step = np.rint(a @ b / max(a @ a, 1e-300))
        if step == 0:
            break
        b = b - step * a
    return np.stack([a, b])


def _refined(basis: Array, peaks: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    """Least squares on the peaks that lie on it."""
    for _ in range(3):
        use = _on(basis, peaks, shape)
        index = np.rint(peaks[use] @ np.linalg.inv(basis))
        if np.linalg.matrix_rank(index) < 2:
            return basis
        w = np.sqrt(weight[use])[:, None]
        basis = np.linalg.lstsq(w * index, w * peaks[use], rcond=None)[0]
    return basis


def _harmonics(basis: Array, power: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """Indices (R, 2) of reflections above the noise, one of each pair, and their power."""
    shape = np.array(power.shape)
    reach = int(np.ceil(0.71 / np.linalg.svd(basis, compute_uv=False).min()))
    h = np.arange(-reach, reach + 1)
    index = np.stack(np.meshgrid(h, h, indexing="ij"), -1).reshape(-1, 2)
    index = index[(index[:, 0] > 0) | ((index[:, 0] == 0) & (index[:, 1] > 0))]
    where = index @ basis
    inside = np.abs(where).max(1) < 0.5 - 2 / min(power.shape)
    index, where = index[inside], where[inside]
    best = ndimage.maximum_filter(power, 3)
    y, x = np.rint(where * shape + shape // 2).astype(int).T
    height = best[y, x]
    keep = height > HARMONIC
    return index[keep].astype(np.int64), height[keep]
