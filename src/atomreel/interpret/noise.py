"""The noise of an image, measured on the image: variance against intensity, and its correlation between pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from atomreel.interpret.loops import compiled
from atomreel.interpret.peaks import Floats

BINS = 16
CROP = 256
SAMPLE = 24000  # pixels that are enough for a straight line: a hundredth of the variance
SMOOTHING = 0.012  # share of the spectrum's width over which it is averaged


@dataclass(frozen=True)
class Noise:
    """variance(m) = max(gain·m + zero, least).

    gain: image units per electron (negative for an inverted image, 0 when the noise does not depend on
    intensity). zero: variance extrapolated to intensity 0: readout² − gain·offset of the detector.
    """

    gain: float
    zero: float
    least: float

    def variance(self, intensity: Floats) -> npt.NDArray[np.float32]:
        line = np.float32(self.gain) * np.asarray(intensity, np.float32)
        line += np.float32(self.zero)
        return np.maximum(line, np.float32(self.least), out=line)

    def weights(self, intensity: npt.NDArray[np.float32], seen: Floats) -> npt.NDArray[np.float32]:
        """seen / variance of every pixel of an image."""
        out = np.empty_like(intensity)
        _weights((intensity, seen), np.array([self.gain, self.zero, self.least], np.float32), out)
        return out


@compiled
def _weights(images, line, out):
    intensity, seen = images
    gain, zero, least = line
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = seen[y, x] / max(gain * intensity[y, x] + zero, least)


def fit_noise(residual: Floats, intensity: Floats, *, freedom: float = 1.0) -> Noise:
    """Variance as a straight line in intensity, from residuals in bins of equal population.

    residual, intensity: (n,) pixels. freedom: share of the degrees of freedom left by the fit that made
    the residuals. A slope below three times its own error is taken as zero: Gaussian noise of one width.
    """
    every = max(1, len(residual) // SAMPLE)
    intensity = intensity[::every]
    square = residual[::every].astype(float) ** 2 / freedom
    edges = np.quantile(intensity[::5], np.linspace(0, 1, BINS + 1)[1:-1])
    sums = np.zeros((4, BINS))
    _in_bins(np.ascontiguousarray(intensity, np.float32), (square, edges.astype(np.float32)), sums)
    use = sums[0] > 20
    count = sums[0, use]
    level, value, power = sums[1:, use] / count
    spread = power - value**2
    mean = max(float(square.mean()), 1e-12)
    flat = Noise(0.0, mean, 0.05 * mean)
    if use.sum() < 3 or np.ptp(level) <= 0:
        return flat
    line = value
    for _ in range(3):  # the weight of a bin is its expected, not its observed scatter
        sd = np.sqrt(np.maximum(spread, 1e-12 * mean**2).mean() / count) * np.maximum(line, 0.1 * mean) / mean
        weight = sd**-2.0
        total, middle = weight.sum(), weight @ level / weight.sum()
        information = weight @ (level - middle) ** 2
        slope = (weight * (level - middle)) @ value / information
        zero = weight @ value / total - slope * middle
        line = slope * level + zero
    misfit = max(1.0, float(np.mean(((value - line) / sd) ** 2)))
    if abs(slope) < 3 * np.sqrt(misfit / information):
        return flat
    return Noise(float(slope), float(zero), max(0.05 * mean, 0.7 * float(value.min())))


@compiled
def _in_bins(intensity, given, sums):
    """Add to each bin: one, the intensity, the square and the square's square of every pixel in it."""
    square, edges = given
    for p in range(len(intensity)):
        k = 0
        for edge in edges:  # so few that comparing with all beats branching
            k += edge < intensity[p]
        sums[0, k] += 1
        sums[1, k] += intensity[p]
        sums[2, k] += square[p]
        sums[3, k] += square[p] ** 2


def blurred(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A Gaussian blur of an image by `sigma` px, its border being a mirror, out to four σ."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    out, wide = np.empty_like(image), np.pad(image, reach, mode="symmetric")
    _blur(wide, kernel, out)
    return out


@compiled
def _blur(wide, kernel, out):
    """Rows first, then along them. wide: with a border of half the kernel's length."""
    taps, (lines, length) = len(kernel), out.shape
    row = np.empty(wide.shape[1], np.float32)
    for y in range(lines):
        row[:] = 0
        for t in range(taps):
            weight, line = kernel[t], wide[y + t]
            for x in range(len(row)):
                row[x] += weight * line[x]
        out[y] = 0
        for t in range(taps):
            weight, line, part = kernel[t], out[y], row[t : t + length]
            for x in range(length):
                line[x] += weight * part[x]


def guess_noise(image: Floats, smooth: Floats, *, blur: float) -> Noise:
    """First guess from what a Gaussian blur of `blur` px removed from an image to make it `smooth`."""
    spot = np.zeros((33, 33))
    spot[16, 16] = 1
    kernel = spot - ndimage.gaussian_filter(spot, blur)
    return fit_noise((image - smooth).ravel(), smooth.ravel(), freedom=float((kernel**2).sum()))


def quiet(scaled: Floats, blur: float, *, reach: int = 0) -> npt.NDArray[np.bool_]:
    """(Y, X) where the local power of a scaled residual is not beyond what noise alone would show, which is misfit.

    blur: σ [px] of what is local; reach: how far misfit spoils its surroundings [px]. Blurs of 1.5 px and more
    are done on pixels twice as wide.
    """
    step = 2 if blur >= 1.5 else 1
    power = np.square(scaled, dtype=np.float32)
    if step == 2:
        odd = [(0, n % 2) for n in power.shape]
        power = np.pad(power, odd) if any(n for _, n in odd) else power
        power = power[::2] + power[1::2]
        power = power[:, ::2] + power[:, 1::2]
    counts = power[::3, ::3] > 0
    power = blurred(power, blur / step)
    seen = power[::3, ::3][counts]
    if not len(seen):
        return np.ones(scaled.shape, bool)
    typical = float(np.median(seen))
    usual = typical + 5 * 1.4826 * float(np.median(np.abs(seen - typical)))
    loud = power >= max(usual, 1e-12)
    if reach:
        loud = ndimage.maximum_filter(loud, 2 * round(reach / step) + 1)
    calm = ~loud
    if step == 2:
        calm = calm.repeat(2, axis=0).repeat(2, axis=1)
    return calm[: scaled.shape[0], : scaled.shape[1]]


def around(centre: Floats, size: tuple[int, ...], *, side: int) -> tuple[slice, ...]:
    """A square of `side` px about `centre` (y, x), moved and cut to lie in an image of `size`."""
    start = [int(np.clip(c - side // 2, 0, max(0, s - side))) for c, s in zip(centre, size, strict=True)]
    return tuple(slice(first, first + side) for first in start)


def correlation_factors(
    scaled: Floats, reference: Floats, profiles: Floats, *, centre: Floats
) -> npt.NDArray[np.float64]:
    """How much correlated noise and misfit widen the scatter of projections onto `profiles`: (Q,) variance ratios.

    scaled: (Y, X) residual over its expected σ. reference: white noise that went through the same fit, so
    that what the fit swallows cancels in the ratio of the two power spectra. profiles: (Q, n, n).
    The estimator weighs pixels as if they were independent; its variance is Σ S·|F|² / Σ |F|², S being
    the spectrum of the noise (the sandwich estimate for stationary noise).
    """
    cut = around(centre, scaled.shape, side=CROP)
    size = scaled[cut].shape
    width = [SMOOTHING * s for s in size]

    def spectrum(image: Floats) -> Floats:
        half = fft.rfft2(image[cut].astype(np.float32))
        power = half.real**2 + half.imag**2
        # the mirror image is also turned over along y, which matters within `width` of that edge alone
        smooth: Floats = ndimage.gaussian_filter(power, width, mode=("wrap", "reflect"))
        return smooth

    ratio = spectrum(scaled) / np.maximum(spectrum(reference), 1e-12)
    half = fft.rfft2(profiles.astype(np.float32), s=size)
    weight = half.real**2 + half.imag**2
    weight[..., 1 : (size[1] + 1) // 2] *= 2  # each stands for its mirror image too
    factors: npt.NDArray[np.float64] = (ratio * weight).sum((1, 2)) / weight.sum((1, 2))
    return factors
