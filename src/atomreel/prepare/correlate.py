"""Shift between two images by cross-correlation: every peak weighed, the best one refined, its error measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

Array = npt.NDArray[np.float32]

_LOW_PASS = 1.2  # px σ: below a column's width, above single-pixel noise
_HIGH_PASS = 0.06  # of the frame, σ: illumination and drifting background are no drift
_LARGEST = 512  # px: bigger frames are binned, since a drift needs no more pixels
_TEMPER = 10.0  # real images differ by more than counting noise: the log-likelihood is divided by this
_CLIP = 2.5  # robust deviations
_UNLIKE = 0.05  # of the power: two frames never agree better than this
_NEARLY = 0.5  # peaks below this share of the highest are no rivals
_BLOCKS = 8  # per side, for the sandwich error and the shear


@dataclass(frozen=True)
class Shift:
    """dy, dx [px] with 1σ errors; shear x′ = x + s·y; ambiguity = probability of the other peaks together.

    alias: (dy, dx) [px] from the chosen reading to the likeliest other one (NaN: none). correlation: −1…1.
    significance: height of the peak in standard deviations of chance.
    """

    dy: float
    dx: float
    dy_err: float
    dx_err: float
    shear: float
    shear_err: float
    ambiguity: float
    alias: tuple[float, float]
    correlation: float
    significance: float


def compare(a: Array, b: Array, *, around: tuple[float, ...], radius: float, scatter: float | None) -> Shift:
    """Shift of `b` against `a`, looked for within `radius` [px] of `around`.

    scatter: usual distance [px] of shifts from `around`, or None when nothing is known (then 2 px).
    """
    factor = int(np.ceil(max(a.shape) / _LARGEST))
    if factor > 1:
        small = compare(
            _binned(a, factor),
            _binned(b, factor),
            around=tuple(value / factor for value in around),
            radius=radius / factor,
            scatter=None if scatter is None else scatter / factor,
        )
        return _scaled(small, factor)
    base = np.round(around).astype(int)
    left = _spectrum(_cut(a, base))
    right = _spectrum(b)
    offsets, heights, size = _peaks(left, right, a.shape, radius)
    chosen, ambiguity, alias = _weigh(offsets, base - np.asarray(around), heights, size, scatter)
    whole = base + offsets[chosen]
    left = _spectrum(_cut(a, whole))
    fine = _climb(np.conj(left) * right, a.shape)
    errors, shear, shear_err = _spread(left, right, fine, a.shape)
    dy, dx = (float(value) for value in whole + fine)
    return Shift(
        dy=dy,
        dx=dx,
        dy_err=errors[0],
        dx_err=errors[1],
        shear=shear,
        shear_err=shear_err,
        ambiguity=ambiguity,
        alias=alias,
        correlation=float(heights[chosen]),
        significance=float(heights[chosen] * np.sqrt(size)),
    )


def flatten(image: Array) -> Array:
    """`image` band-passed and clipped at ±2.5 robust deviations.

    One bright atom that walks through a crystal would otherwise outweigh the crystal, and its hops be taken for drift.
    """
    passed = fft.irfft2(fft.rfft2(image - image.mean()) * _band(image.shape), s=image.shape)
    limit = _CLIP * 1.4826 * float(np.median(np.abs(passed[::2, ::2])))
    if limit <= 0:
        return np.asarray(passed, dtype=np.float32)
    return np.asarray(np.clip(passed, -limit, limit), dtype=np.float32)


def subpixel_shift(image: Array, shift: npt.NDArray[np.float64]) -> Array:
    """`image` moved by a fraction of a pixel through its Fourier phases (periodic at the border)."""
    qy, qx = _frequencies(image.shape)
    phase = np.exp(-2j * np.pi * qy * shift[0])[:, None] * np.exp(-2j * np.pi * qx * shift[1])
    return np.asarray(fft.irfft2(fft.rfft2(image) * phase, s=image.shape), dtype=np.float32)


@lru_cache(maxsize=4)
def _frequencies(shape: tuple[int, ...]) -> tuple[Array, Array]:
    return (
        np.fft.fftfreq(shape[0]).astype(np.float32),
        np.fft.rfftfreq(shape[1]).astype(np.float32),
    )


@lru_cache(maxsize=4)
def _window(shape: tuple[int, ...]) -> Array:
    return np.outer(np.hanning(shape[0]), np.hanning(shape[1])).astype(np.float32)


@lru_cache(maxsize=4)
def _band(shape: tuple[int, ...]) -> Array:
    """Difference of two Gaussians on the half-plane of rfft2."""
    qy, qx = _frequencies(shape)

    def gauss(sigma: float) -> Array:
        scale = -2 * (np.pi * sigma) ** 2
        return np.asarray(np.exp(scale * qy**2)[:, None] * np.exp(scale * qx**2), dtype=np.float32)

    return gauss(_LOW_PASS) - gauss(_HIGH_PASS * min(shape))


@lru_cache(maxsize=4)
def _both_halves(shape: tuple[int, ...]) -> Array:
    """How often each column of rfft2 counts in a sum over the whole plane."""
    twice = np.full(shape[1] // 2 + 1, 2, dtype=np.float32)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    return twice


def _spectrum(image: Array) -> npt.NDArray[np.complex64]:
    window = _window(image.shape)
    mean = float(np.vdot(image, window) / window.sum())
    return np.asarray(fft.rfft2((image - mean) * window))


def _cut(image: Array, shift: npt.NDArray[np.int_]) -> Array:
    """`image` moved by whole pixels; what comes in from outside has the mean brightness."""
    dy, dx = int(shift[0]), int(shift[1])
    if (dy, dx) == (0, 0):
        return image
    out = np.full_like(image, image.mean())
    height, width = image.shape
    out[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = image[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    return out


def _peaks(
    left: npt.NDArray[np.complex64], right: npt.NDArray[np.complex64], shape: tuple[int, ...], radius: float
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.float64], float]:
    """(P, 2) whole-pixel offsets of the correlation's peaks, their correlation, and independent pixels."""
    twice, pixels = _both_halves(shape), shape[0] * shape[1]
    power_l, power_r = float((np.abs(left) ** 2 @ twice).sum()), float((np.abs(right) ** 2 @ twice).sum())
    both = fft.irfft2(np.conj(left) * right, s=shape)
    # If `b` were noise alone it would have the band's spectrum; so many independent values has it against `a`.
    band = _band(shape) ** 2
    size = (
        power_l * float((band @ twice).sum()) / max(float(((np.abs(left) ** 2 * band) @ twice).sum()), 1e-30)
    )
    size *= float((_window(shape) ** 2).mean() ** 2 / (_window(shape) ** 4).mean())
    reach = int(radius)
    ry, rx = min(reach, shape[0] // 2 - 1), min(reach, shape[1] // 2 - 1)
    rows, columns = np.arange(-ry, ry + 1), np.arange(-rx, rx + 1)
    near = both[np.ix_(rows % shape[0], columns % shape[1])] * (
        pixels / max(np.sqrt(power_l * power_r), 1e-30)
    )
    allowed = np.hypot(rows[:, None], columns) <= radius + 0.5
    best = float(near[allowed].max())
    top = allowed & (near == ndimage.maximum_filter(near, size=5, mode="nearest")) & (near >= _NEARLY * best)
    y, x = np.nonzero(top) if best > 0 and top.any() else (np.array([ry]), np.array([rx]))
    return np.stack([rows[y], columns[x]], axis=1), _crest(near, y, x), size


def _crest(near: Array, y: npt.NDArray[np.int_], x: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """Heights between pixels, by a parabola along each axis: a peak must not lose for lying between two."""
    padded = np.pad(near, 1, mode="edge").astype(float)
    top = padded[y + 1, x + 1]
    gain = np.zeros(len(y))
    for before, after in ((padded[y, x + 1], padded[y + 2, x + 1]), (padded[y + 1, x], padded[y + 1, x + 2])):
        bend = np.maximum(2 * top - before - after, 1e-12)
        gain += np.minimum((after - before) ** 2 / (8 * bend), bend / 2)
    return top + gain


def _weigh(
    offsets: npt.NDArray[np.int_],
    base: npt.NDArray[np.float64],
    heights: npt.NDArray[np.float64],
    size: float,
    scatter: float | None,
) -> tuple[int, float, tuple[float, float]]:
    """(chosen peak, probability of the others, offset to the best other one)."""
    width = max(1.0, 3 * scatter) if scatter is not None else 2.0
    distance = np.hypot(*(offsets + base).T)
    # A stage can slip, so the prior falls off like a power and evidence can overrule it.
    log_prior = -3 * np.log1p((distance / width) ** 2)
    log_like = -size / (2 * _TEMPER) * np.log(1 + _UNLIKE - np.clip(heights, 0, 1) ** 2)
    posterior = log_like + log_prior
    share = np.exp(posterior - posterior.max())
    share /= share.sum()
    chosen = int(np.argmax(share))
    if len(share) == 1:
        return chosen, 0.0, (float("nan"), float("nan"))
    other = int(np.argmax(np.where(np.arange(len(share)) == chosen, -1, share)))
    dy, dx = offsets[other] - offsets[chosen]
    return chosen, float(1 - share[chosen]), (float(dy), float(dx))


def _climb(cross: npt.NDArray[np.complex64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Sub-pixel maximum of the correlation near 0 by Newton steps; cross = conj(left) · right."""
    qy, qx = (2 * np.pi * q.astype(float) for q in _frequencies(shape))
    twice = _both_halves(shape)
    shift = np.zeros(2)
    for _ in range(8):
        ey, ex = np.exp(1j * qy * shift[0]), np.exp(1j * qx * shift[1]) * twice
        p0, p1, p2 = cross @ ex, cross @ (ex * qx), cross @ (ex * qx**2)
        gradient = -np.array([((ey * qy) @ p0).imag, (ey @ p1).imag])
        yy, xx, yx = -((ey * qy**2) @ p0).real, -(ey @ p2).real, -((ey * qy) @ p1).real
        hessian = np.array([[yy, yx], [yx, xx]])
        if yy >= 0 or np.linalg.det(hessian) <= 0:
            break
        step = -np.linalg.solve(hessian, gradient)
        step *= min(1.0, 0.5 / max(float(np.hypot(*step)), 1e-12))
        shift = np.clip(shift + step, -1.5, 1.5)
        if np.abs(step).max() < 1e-5:
            break
    return shift


def _spread(
    left: npt.NDArray[np.complex64],
    right: npt.NDArray[np.complex64],
    fine: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> tuple[tuple[float, float], float, float]:
    """((dy_err, dx_err), shear, shear_err) from how blocks of the frame disagree.

    With a and b the aligned images, ½(a ∂b − b ∂a) is each pixel's pull on the shift: zero where they agree,
    whatever their contrast, so its scatter over blocks is noise only.
    """
    qy, qx = _frequencies(shape)
    back = np.exp(2j * np.pi * qy * fine[0])[:, None] * np.exp(2j * np.pi * qx * fine[1])
    a, ay, ax = _with_slopes(left, qy, qx, shape)
    b, by, bx = _with_slopes(right * back, qy, qx, shape)
    pull = np.stack([_blocks(a * by - b * ay), _blocks(a * bx - b * ax)]) / 2
    curve = np.stack([_blocks(ay * by), _blocks(ax * bx), _blocks((ay * bx + ax * by) / 2)])
    hyy, hxx, hyx = curve.sum(axis=(1, 2))
    hessian = np.array([[hyy, hyx], [hyx, hxx]])
    nan = float("nan")
    if hyy <= 0 or hxx <= 0 or np.linalg.det(hessian) <= 0:
        return (nan, nan), 0.0, nan
    flat = pull.reshape(2, -1)
    count = (np.abs(flat).sum(0) > 0).sum()
    scores = flat @ flat.T * count / max(count - 1, 1)
    inverse = np.linalg.inv(hessian)
    covariance = inverse @ scores @ inverse
    shear, shear_err = _shear(pull[1], curve[1], shape)
    errors = np.sqrt(np.diag(covariance))
    return (float(errors[0]), float(errors[1])), shear, shear_err


def _shear(
    pull: npt.NDArray[np.float64], curve: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[float, float]:
    """Slope of the local x-shift with y, weighted by how well each block knows its shift."""
    rows = (np.arange(pull.shape[0]) + 0.5) * (shape[0] / pull.shape[0])
    stiff = np.maximum(curve.sum(axis=1), 0)
    y = rows - (stiff * rows).sum() / max(float(stiff.sum()), 1e-30)
    inertia = float((stiff * y**2).sum())
    if inertia <= 0:
        return 0.0, float("nan")
    slope = float((y * pull.sum(axis=1)).sum()) / inertia
    residual = pull - slope * y[:, None] * curve
    return slope, float(np.sqrt(((y[:, None] * residual) ** 2).sum())) / inertia


def _with_slopes(
    spectrum: npt.NDArray[np.complex64], qy: Array, qx: Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    turn = 2j * np.pi * spectrum
    return (
        fft.irfft2(spectrum, s=shape),
        fft.irfft2(turn * qy[:, None], s=shape),
        fft.irfft2(turn * qx, s=shape),
    )


def _blocks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    edges = [np.arange(_BLOCKS) * size // _BLOCKS for size in values.shape]
    rows = np.add.reduceat(values, edges[0], axis=0, dtype=float)
    return np.asarray(np.add.reduceat(rows, edges[1], axis=1))


def _binned(image: Array, factor: int) -> Array:
    height, width = (size // factor * factor for size in image.shape)
    return np.asarray(
        image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    )


def _scaled(shift: Shift, factor: int) -> Shift:
    return replace(
        shift,
        dy=factor * shift.dy,
        dx=factor * shift.dx,
        dy_err=factor * shift.dy_err,
        dx_err=factor * shift.dx_err,
        alias=(factor * shift.alias[0], factor * shift.alias[1]),
    )
