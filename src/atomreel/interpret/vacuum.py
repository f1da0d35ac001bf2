"""The vacuum level of an electron image in grey values, measured by its noise: what one electron is worth.

Counting noise is white and passes the detector's modulation transfer M as the image does: where there is no specimen the
power spectrum is gain² N M(q)², N being the expected count of a pixel. Its limit at q → 0 and the known N give the gain,
whatever the detector's offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, optimize

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
BLOCK = 32  # px; blocks overlap by half
SMALLEST = 3 * BLOCK
QUIET = 0.2  # share of the blocks of an image that are taken for vacuum
LOWEST = 2.0  # cycles per block: below are the window's own width and slow changes of the illumination
BAND = 2.2  # 1/Å: beyond, no specimen shows; below, vacuum and specimen are told apart by it
RING = 0.025  # cycles/px: width of the rings of the whole image's spectrum
CONSERVED = (
    0.02  # how near the mean intensity of the whole field is to that of vacuum (most scattering is elastic)
)
HANN_2D = (35 / 18) ** 2  # how many neighbouring modes share their noise under a Hann window
OVERLAP = (1 + 2 / 36) ** 2  # and how many overlapping blocks: (1 + 2 ρ²) along each axis, ρ = 1/6
START = np.array([0.05, 0.5, 2.5])  # c1, c2, c3: detectors of J. Madsen et al. 2018, table 1 ...
SPREAD = np.array([0.05, 0.1, 0.5])  # ... how far they differ, generously
LOW, HIGH = np.array([0.0, 0.3, 1.5]), np.array([0.2, 0.8, 4.0])


@dataclass(frozen=True)
class Rings:
    """Powers of noise in rings: q [cycles/px], log power, its 1σ error. blur: of q by the window [cycles/px]."""

    q: Array
    log_power: Array
    error: Array
    blur: float


def vacuum_level(series: npt.ArrayLike, *, pixel: float, dose: float) -> tuple[float, float]:
    """Vacuum level above the detector's offset, gain · N [grey values], and its relative 1σ error.

    series: (F ≥ 2, Y, X), both sides ≥ 96 px, grey = offset + gain · counts behind the modulation transfer; images of
    one dose and gain that show vacuum in the same places. pixel: [Å]. dose: [e/Å² and image], N = dose · pixel².
    Low frequencies are measured in the quietest blocks, chosen for each image in the others so that the choice does
    not favour low noise; those beyond 2.2 Å⁻¹, where lattices no longer show, also in the whole field, whose mean
    intensity is nearly that of vacuum. Modulation transfer: J. Madsen et al. 2018, table 1.
    (nan, inf) where there is no noise to measure. Raises InputError.
    """
    counts, images, rounding = _checked(series, pixel, dose)
    ramps = np.stack([_plane(image) for image in images])
    flat = (images - ramps).astype(np.float32)
    if not np.all(flat.std((1, 2), dtype=float) > 1e-6 * np.abs(images).max()):
        return float("nan"), float("inf")
    blocks, q, modes = _block_powers(flat)
    chosen = _quiet(blocks[..., q < BAND * pixel])
    light = np.stack([_blocks(ramp).mean((2, 3)) for ramp in ramps - ramps.mean((1, 2), keepdims=True)])
    whole = _whole_rings(flat, BAND * pixel, rounding)
    level = np.inf
    for _ in range(2):  # where it is dimmer there is less noise: known once the level is
        power = (blocks / np.clip(1 + light / level, 0.5, 2)[..., None])[chosen].mean(0) - rounding
        if np.any(power <= 0):
            return float("nan"), float("inf")
        share = HANN_2D * OVERLAP / (modes * chosen.sum())
        vacuum = Rings(q, np.log(power), np.sqrt(2 * share), np.sqrt(2 / 3) / BLOCK)
        log_power, error = _fit(vacuum, whole)
        level = float(np.sqrt(np.exp(log_power) * counts))
    # few electrons: their noise is not normal, and its power varies by the kurtosis 1/N of a pixel in all rings alike
    area = chosen.sum() * (BLOCK / 2) ** 2
    return level, float(0.5 * np.hypot(error, 1 / np.sqrt(counts * area)))


def _checked(series: npt.ArrayLike, pixel: float, dose: float) -> tuple[float, Array, float]:
    """Expected counts of a pixel, the images (F, Y, X), and the variance that rounding to whole numbers added."""
    given = np.asarray(series)
    if given.ndim != 3 or len(given) < 2 or min(given.shape[1:]) < SMALLEST:
        raise InputError(
            f"series of shape {given.shape}: expected (images, rows, columns), two images or more of at least "
            f"{SMALLEST} × {SMALLEST} px; the vacuum of one image is found in the others"
        )
    if given.dtype.kind not in "buif" or not np.all(np.isfinite(given)):
        raise InputError(
            f"series of {given.dtype} with values that are no finite numbers: crop or mend it first"
        )
    for name, value, unit in (("pixel", pixel, "Å"), ("dose", dose, "e/Å² and image")):
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} = {value}: expected a positive number [{unit}]")
    whole_numbers = given.dtype.kind in "bui" or bool(np.all(given == np.rint(given)))
    return float(dose * pixel**2), given.astype(float), whole_numbers / 12


def _plane(image: Array) -> Array:
    """Least-squares plane of an image (Y, X); rows and columns are orthogonal, so each slope stands alone."""
    plane = np.full(image.shape, image.mean())
    for axis in (0, 1):
        t = np.arange(image.shape[axis]) - (image.shape[axis] - 1) / 2
        line = t * (image.mean(1 - axis) @ t) / (t @ t)
        plane += line[:, None] if axis == 0 else line
    return plane


def _blocks(image: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(By, Bx, BLOCK, BLOCK) views of blocks that overlap by half."""
    step = BLOCK // 2
    return np.lib.stride_tricks.sliding_window_view(image, (BLOCK, BLOCK))[::step, ::step]


def _block_powers(images: npt.NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """Mean power of each block in rings (F, By, Bx, R), their frequencies (R,) [cycles/px] and modes (R,)."""
    window = _hann(BLOCK)
    weight = np.outer(window, window).astype(np.float32)
    weight /= np.sqrt(np.sum(weight**2))
    k = np.hypot(fft.fftfreq(BLOCK)[:, None], fft.rfftfreq(BLOCK)) * BLOCK
    twice = np.where(np.isin(np.arange(k.shape[1]), (0, BLOCK // 2)), 1.0, 2.0) * np.ones_like(k)
    ring = np.rint(k - LOWEST).astype(int)
    last = BLOCK // 2 - int(LOWEST)
    pick = (ring.ravel()[:, None] == np.arange(last + 1)) * twice.ravel()[:, None]
    modes = pick.sum(0)
    q = (pick * k.ravel()[:, None]).sum(0) / modes / BLOCK
    mean = (pick / modes).astype(np.float32)
    powers = []
    for image in images:
        spectrum = fft.rfft2(_blocks(image) * weight)
        power = spectrum.real**2 + spectrum.imag**2
        powers.append(power.reshape(*power.shape[:2], -1) @ mean)
    return np.stack(powers).astype(float), q, modes


def _quiet(signal: Array) -> npt.NDArray[np.bool_]:
    """Blocks (F, By, Bx) that are vacuum in the other images, by the powers (F, By, Bx, R) of the rings of specimens.

    A block counts with its neighbours: vacuum hangs together, and fringes reach beyond the specimen's edge.
    """
    score = signal.mean(-1)
    score = score / np.quantile(score, QUIET, axis=(1, 2), keepdims=True)
    others = (score.sum(0) - score) / (len(score) - 1)
    others = ndimage.uniform_filter(others, (0, 3, 3), mode="nearest")
    return np.asarray(others <= np.quantile(others, QUIET, axis=(1, 2), keepdims=True))


def _whole_rings(images: npt.NDArray[np.float32], lowest: float, rounding: float) -> Rings | None:
    """Rings beyond `lowest` [cycles/px] of the whole images; medians, which single reflections do not move."""
    edges = np.arange(lowest, 0.5 + 1e-9, RING)
    if len(edges) < 2:
        return None
    shape = images.shape[1:]
    weight = np.outer(_hann(shape[0]), _hann(shape[1])).astype(np.float32)
    weight /= np.sqrt(np.sum(weight**2))
    k = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    ring = np.digitize(k, edges) - 1
    spectrum = fft.rfft2(images * weight)
    power = spectrum.real**2 + spectrum.imag**2
    values = [power[:, ring == i].ravel() for i in range(len(edges) - 1)]
    middle = np.array([np.median(v) for v in values]) / np.log(2) - rounding  # of an exponential distribution
    q = np.array([k[ring == i].mean() for i in range(len(edges) - 1)])
    error = np.array([np.sqrt(HANN_2D / len(v)) for v in values]) / np.log(2)
    fine = middle > 0
    return Rings(q[fine], np.log(middle[fine]), error[fine], 0.0) if fine.any() else None


def _hann(n: int) -> Array:
    return np.asarray(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2)


def _log_transfer(rings: Rings, c: Array) -> Array:
    """log M² in rings; a window blurs it by half its variance times the Laplacian, taken on four points around q."""
    q, d = rings.q, rings.blur
    points = np.stack([q, q, q, q] if d == 0 else [np.hypot(q, d), np.hypot(q, d), q + d, np.abs(q - d)])
    transfer = (1 - c[0]) / (1 + (points / c[1]) ** c[2]) + c[0]
    return np.asarray(np.log((transfer**2).mean(0)))


def _fit(vacuum: Rings, whole: Rings | None) -> tuple[float, float]:
    """log power at q → 0 and its 1σ error. Parameters: it, c1, c2, c3, and log of the whole field's mean intensity."""

    def residuals(p: Array) -> Array:
        parts = [(vacuum.log_power - p[0] - _log_transfer(vacuum, p[1:4])) / vacuum.error]
        if whole is not None:
            parts.append((whole.log_power - p[0] - p[4] - _log_transfer(whole, p[1:4])) / whole.error)
        parts += [(p[1:4] - START) / SPREAD, p[4:] / CONSERVED]
        return np.concatenate(parts)

    first = float(np.mean(vacuum.log_power - _log_transfer(vacuum, START)))
    found = optimize.least_squares(
        residuals,
        np.array([first, *START, 0.0]),
        bounds=(np.array([-np.inf, *LOW, -0.2]), np.array([np.inf, *HIGH, 0.2])),
        x_scale=np.array([0.01, *SPREAD, CONSERVED]),
        loss="soft_l1",
        f_scale=2.0,
    )
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    rings = len(vacuum.q) + (0 if whole is None else len(whole.q))
    misfit = max(1.0, 2 * float(found.cost) / max(rings - 4, 1))
    return float(found.x[0]), float(np.sqrt(covariance[0, 0] * misfit))
