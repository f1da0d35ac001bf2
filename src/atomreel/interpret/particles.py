"""Particles that are brighter or darker than what is around them: found, counted, measured; nothing is set by hand.

Their size and whether they are bright or dark come from the image: extrema over place and scale of the scale-normalised
Laplacian of Gaussian (Lindeberg, Int. J. Comput. Vision 30 (1998) 79). Particles are told from noise by the two heaps
that the strengths of all extrema form. Areas end at half of each particle's contrast, neighbours are parted by a watershed (Meyer, Signal Process. 38 (1994) 113).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import fft, ndimage
from skimage.segmentation import watershed

from atomreel.core.errors import InputError
from atomreel.interpret.blobs import find_blobs

Array = npt.NDArray[np.float64]
STEP = 1.12  # ratio of neighbouring scales
SURE = 5.0  # standard deviations of noise above which an extremum counts for the survey
SEEN = 3.5  # and for a particle
BLOCK = 768  # px: a larger frame is surveyed in its middle
SIZES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.12, 1.25, 1.4, 1.6)  # of the usual radius: particles differ in size
APART = 1.5  # natural log units between the heaps' middles, below which they are one heap
TOUCH = 1.3  # radii: what is further from every particle is background
FAR = 2.2  # radii: a particle ends here at the latest
COLUMNS = ("y", "x", "y_err", "x_err", "score", "area", "area_err", "contrast", "contrast_err", "cut")
_WHITE = 1 / np.sqrt(2 * np.pi)  # LoG of white noise of σ 1 at scale s, times s


@dataclass(frozen=True)
class Look:
    """How the particles of a movie look. sigma: scale at which they answer most [px]; a disc has radius √2·sigma.
    dark: darker than their surroundings. heaps: (2, 3) middle, width (natural log of strength) and share of the heap of noise
    and of particles; noise with share 0 where all extrema above the noise are particles."""

    sigma: float
    dark: bool
    heaps: tuple[tuple[float, float, float], tuple[float, float, float]]

    @property
    def radius(self) -> float:
        return float(np.sqrt(2) * self.sigma)


def survey_particles(frames: Sequence[npt.ArrayLike]) -> Look:
    """Size and contrast sign of the particles, from one or several frames (Y, X) of a movie.

    Raises InputError where nothing of any size stands out from the noise.
    """
    images = [_block(_checked(frame)) for frame in frames]
    if not images:
        raise InputError("particles: no frame to look at")
    heights: dict[bool, list[Array]] = {False: [], True: []}
    for image in images:
        scales = STEP ** np.arange(0, np.log(min(image.shape) / 12) / np.log(STEP))
        answer = _answers(image, scales)
        floor = SURE * _WHITE * _noise(image) / scales
        for dark, sign in ((False, 1.0), (True, -1.0)):
            top = sign * answer
            peak = (top == ndimage.maximum_filter(top, (3, 5, 5))) & (top > floor[:, None, None])
            peak[[0, -1]] = False
            z, y, x = np.nonzero(peak)
            heights[dark].append(np.stack([top[z, y, x], scales[z]]))
    both = {dark: np.concatenate(found, axis=1) for dark, found in heights.items()}
    # The gaps between particles answer too, with the other sign, but less: the third power tells who is strong.
    power = {dark: float((found[0] ** 3).sum()) for dark, found in both.items()}
    if not max(power.values()) > 0:
        raise InputError(
            "no particle stands out from the noise at any size: average frames, or crop to where they are"
        )
    dark = power[True] > power[False]
    strength, scale = both[dark]
    order = np.argsort(scale)
    weight = np.cumsum(strength[order] ** 3)
    sigma = float(scale[order][np.searchsorted(weight, weight[-1] / 2)])
    logs = [np.log(_candidates(image, sigma, dark, above=1.0)[1]) for image in images]
    # Half of all power lies in extrema stronger than this; a third of it still is a particle, however rare they are.
    order = np.argsort(strength)
    weight = np.cumsum(strength[order] ** 3)
    strong = float(strength[order][np.searchsorted(weight, weight[-1] / 2)])
    return Look(sigma, bool(dark), _heaps(np.concatenate(logs), start=float(np.log(strong / 3))))


def find_particles(image: npt.ArrayLike, look: Look | None = None) -> pd.DataFrame:
    """Particles of one frame (Y, X), in reading order.

    Columns: y, x, y_err, x_err [px], score (probability that it is a particle, not noise), area, area_err [px²],
    contrast, contrast_err (against the background, image units, positive), cut (it reaches the border).
    look: of the movie (`survey_particles`), so that all frames are judged alike; by default the frame's own.
    Where extrema cannot be told from noise their score is low and they are still listed: cut at 0.5 to count.
    Errors are those of white noise in the image. Raises InputError.
    """
    data = _checked(image)
    look = survey_particles([data]) if look is None else look
    position, strength, sigma = _candidates(data, look.sigma, look.dark, above=SEEN)
    score = _score(np.log(strength), look)
    sign = -1.0 if look.dark else 1.0
    return _measure(sign * data, position, np.sqrt(2) * sigma, score=score)


def _answers(image: Array, scales: Array) -> Array:
    """(S, Y, X) scale-normalised −σ²∇²(G_σ ∗ image), mirrored at the border: at any scale the cost of one cosine transform."""
    waves = [np.pi * np.arange(n) / n for n in image.shape]
    square = waves[0][:, None] ** 2 + waves[1][None] ** 2
    spectrum = fft.dctn(image, norm="ortho")
    return np.stack(
        [fft.idctn(spectrum * s**2 * square * np.exp(-0.5 * square * s**2), norm="ortho") for s in scales]
    )


def _checked(image: npt.ArrayLike) -> Array:
    data = np.asarray(image, dtype=float)
    if data.ndim != 2 or min(data.shape) < 24 or not np.isfinite(data).all():
        raise InputError(f"particles need a finite image of at least 24 × 24 pixels, got shape {data.shape}")
    return data


def _block(image: Array) -> Array:
    start = [max(0, (n - BLOCK) // 2) for n in image.shape]
    return image[start[0] : start[0] + BLOCK, start[1] : start[1] + BLOCK]


def _noise(image: Array) -> float:
    """σ of the noise, from what is left of the image by second differences both ways (Immerkær 1996), robustly."""
    kernel = np.outer([1, -2, 1], [1, -2, 1]) / 6.0
    left = ndimage.convolve(image, kernel)[1:-1, 1:-1]
    return max(float(np.median(np.abs(left))) / 0.6745, 1e-9 * float(np.ptp(image)), 1e-30)


def _candidates(image: Array, sigma: float, dark: bool, *, above: float) -> tuple[Array, Array, Array]:
    """(N, 2) places, strengths and scales of all extrema `above` so many standard deviations of the noise at their scale."""
    floor = 2 * above * _WHITE * _noise(image) / sigma
    blobs = find_blobs(-image if dark else image, sigma, threshold=floor / max(SIZES), scales=SIZES)
    seen = blobs.score > floor * sigma / blobs.sigma
    return blobs.position[seen], blobs.score[seen], blobs.sigma[seen]


def _heaps(logs: Array, *, start: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Two Gaussians in the logarithm of strength, by expectation maximisation from either side of `start`."""
    if len(logs) < 10:
        return (0.0, 1.0, 0.0), (float(np.mean(logs)) if len(logs) else 0.0, 1.0, 1.0)
    upper = (logs > start).astype(float)
    for _ in range(200):
        weight = np.stack([1 - upper, upper])
        share = weight.sum(1) / len(logs)
        middle = (weight @ logs) / np.maximum(weight.sum(1), 1e-9)
        spread = (weight * (logs - middle[:, None]) ** 2).sum(1) / np.maximum(weight.sum(1), 1e-9)
        width = np.sqrt(np.maximum(spread, 0.05**2))
        likely = (
            share[:, None] * np.exp(-0.5 * ((logs - middle[:, None]) / width[:, None]) ** 2) / width[:, None]
        )
        upper = likely[1] / np.maximum(likely.sum(0), 1e-300)
    if middle[1] - middle[0] < APART:
        return (0.0, 1.0, 0.0), (float(logs.mean()), float(max(logs.std(), 0.05)), 1.0)
    low, high = ((float(middle[k]), float(width[k]), float(share[k])) for k in (0, 1))
    return low, high


def _score(logs: Array, look: Look) -> Array:
    """Probability of the heap of particles, never falling with strength."""
    (low, low_width, low_share), (high, high_width, high_share) = look.heaps
    if low_share == 0:
        return np.full(len(logs), 0.99)
    # Beyond either middle the nearer heap decides: tails of two Gaussians cross twice.
    at = np.clip(logs, low, high)
    a = np.log(low_share / low_width) - 0.5 * ((at - low) / low_width) ** 2
    b = np.log(high_share / high_width) - 0.5 * ((at - high) / high_width) ** 2
    return np.asarray(1 / (1 + np.exp(np.clip(a - b, -50, 50))))


def _measure(bright: Array, position: Array, radius: Array, *, score: Array) -> pd.DataFrame:
    """Table of blobs of an image in which particles are bright."""
    count = len(position)
    if not count:
        return pd.DataFrame({name: np.zeros(0, dtype=bool if name == "cut" else float) for name in COLUMNS})
    noise, blur = _noise(bright), max(0.5, 0.2 * float(np.median(radius)))
    pixel = np.clip(np.rint(position).astype(int), 0, np.array(bright.shape) - 1)
    particle = score >= 0.5
    contrast = bright - _background(bright, pixel[particle], radius[particle])
    smooth = ndimage.gaussian_filter(contrast, blur)
    seeds = np.zeros(bright.shape, dtype=np.int32)
    seeds[tuple(pixel.T)] = np.arange(1, count + 1)
    label = watershed(-smooth, seeds) - 1
    own = label.ravel()

    def summed(values: npt.NDArray[np.generic]) -> Array:
        return np.asarray(np.bincount(own, values.ravel(), count), dtype=float)

    y, x = np.indices(bright.shape)
    away = np.hypot(y - position[label, 0], x - position[label, 1])
    core = away <= np.maximum(0.5 * radius, 0.8)[label]
    number = np.maximum(summed(core), 1)
    height, height_err = summed(core * contrast) / number, noise / np.sqrt(number)
    steep = np.maximum(np.hypot(*np.gradient(smooth)), 0.02 * np.abs(height)[label] / radius[label] + 1e-30)
    share = np.clip(0.5 + (smooth - height[label] / 2) / steep, 0, 1) * (away <= FAR * radius[label])
    rim = np.where((share > 0) & (share < 1), 1 / steep, 0.0)
    scatter = summed(ndimage.gaussian_filter(rim, blur) ** 2)
    border = (y == 0) | (x == 0) | (y == bright.shape[0] - 1) | (x == bright.shape[1] - 1)
    out: dict[str, npt.NDArray[Any]] = {"score": score, "contrast": height, "contrast_err": height_err}
    whole = summed(share) + np.pi * _blur(steep, share, height[label], particle[label]) ** 2
    out |= {"area": whole, "cut": summed(border & (share > 0.5)) > 0}
    out["area_err"] = np.sqrt(noise**2 * scatter + (summed(rim) * height_err / 2) ** 2)
    weight = share * np.maximum(smooth, 0)
    mass = np.maximum(summed(weight), 1e-30)
    for k, (name, grid) in enumerate((("y", y), ("x", x))):
        off = grid - position[label, k]
        shift = summed(weight * off) / mass
        out[name] = position[:, k] + shift
        # What a pixel's noise does to the centre: by its own weight, and at the rim by moving the border.
        lever = (share + rim * np.maximum(smooth, 0)) * (off - shift[label])
        out[f"{name}_err"] = noise * np.sqrt(summed(ndimage.gaussian_filter(lever, blur) ** 2)) / mass
    return pd.DataFrame({name: out[name] for name in COLUMNS})


def _blur(steep: Array, share: Array, height: Array, particle: npt.NDArray[np.bool_]) -> float:
    """σ [px] of the blur of the particles' edges, from how steep they are. At half height a blurred disc's edge lies
    σ²/2r inside the true one, so that πσ² of its area is missing whatever its radius."""
    edge = particle & (np.abs(share - 0.5) < 0.4) & (height > 0)
    return float(np.median(height[edge] / steep[edge])) / np.sqrt(2 * np.pi) if edge.any() else 0.0


def _background(bright: Array, pixel: npt.NDArray[np.int_], radius: Array) -> Array:
    """What the image would be without particles: the mean of the pixels beside them, over some radii."""
    if not len(pixel):
        return np.full(bright.shape, float(np.median(bright)))
    usual = float(np.median(radius))
    centres = np.ones(bright.shape, dtype=bool)
    centres[tuple(pixel.T)] = False
    away = ndimage.distance_transform_edt(centres)
    free = (away > TOUCH * usual).astype(float)
    reach = 3 * usual
    weight = ndimage.gaussian_filter(free, reach)
    level = float(np.median(bright[free > 0])) if free.any() else float(bright.min())
    # A pinch of the overall level, for places with nothing but particles around.
    return np.asarray((ndimage.gaussian_filter(free * bright, reach) + 1e-3 * level) / (weight + 1e-3))
