"""Images that show no atomic columns: what a model of columns must not take for its own.

Textures and shapes here are statistical, not physical: they need only look like what ends up before a microscopist's
eyes, or in a folder of files, beside atomic resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.registry import lookup
from atomreel.simulate import detector

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
SMALLEST = 32  # px


@dataclass(frozen=True)
class Outsider:
    """image: (Y, X) float32, any unit. kind: one of KINDS."""

    image: Float32
    kind: str


def random_outsider(
    rng: np.random.Generator | int | None, *, size: tuple[int, int] = (256, 256), kind: str | None = None
) -> Outsider:
    """One image (Y, X) of `size` px without columns; kind: one of KINDS, or any.

    The same generator state gives the same bytes. Raises InputError for fields under 32 px, UnknownNameError.
    """
    rng = np.random.default_rng(rng)
    if min(size) < SMALLEST:
        raise InputError(f"size {size}: at least {SMALLEST} px on each side are needed")
    kind = kind or str(rng.choice(sorted(KINDS)))
    image = lookup("kind of outsider", kind, KINDS)(size, rng)
    return Outsider(np.ascontiguousarray(image, dtype=np.float32), kind)


def put_beside(
    image: npt.ArrayLike, foreign: npt.ArrayLike, rng: np.random.Generator
) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """`image` (Y, X) with a part replaced by `foreign` (Y, X) at a like level and contrast; where it was (Y, X).

    The part is about half of the field, with a smooth border between the two that is some pixels wide.
    """
    own, other = np.asarray(image, dtype=np.float32), np.asarray(foreign, dtype=np.float32)
    if own.shape != other.shape:
        raise InputError(f"images of one shape are needed, got {own.shape} and {other.shape}")
    level = detector.smooth_field(own.shape, rng, scale=0.7 * min(own.shape))
    mask = level > np.quantile(level, rng.uniform(0.35, 0.65))
    soft = gaussian_filter(mask.astype(np.float32), float(rng.uniform(0.5, 3.0)))
    spread = float(own.std() * rng.uniform(0.4, 1.4) / max(float(other.std()), 1e-12))
    shift = float(own.mean() + own.std() * rng.normal(0, 0.7))
    other = (other - other.mean()) * spread + shift
    return np.asarray(own * (1 - soft) + other * soft, dtype=np.float32), mask


def vacuum(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Nothing but counts: few or many, perhaps on a slope, through a camera or a scan."""
    dose = _between(rng, 0.05, 300)
    slope = rng.normal(0, 0.3, 2) * (rng.random() < 0.5)
    even = detector.add_background(np.zeros(size), level=1.0, ramp=(slope[0], slope[1]))
    return _read_out(detector.add_counts(dose * np.clip(even, 0.05, None), rng), rng)


def thick(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """So thick that columns are lost: intensity saturates, with bend and thickness contours, cracks and grain."""
    depth = np.exp(rng.uniform(0.1, 0.8) * detector.smooth_field(size, rng, scale=rng.uniform(40, 200)))
    level = 1 - np.exp(-depth * rng.uniform(0.5, 3.0))
    if rng.random() < 0.5:
        level = level + 0.2 * rng.random() * np.cos(rng.uniform(4, 40) * depth)
    level = level + rng.uniform(0, 0.08) * band_noise(
        size, rng, low=0, high=1 / rng.uniform(3, 20), sharp=0.3
    )
    return _recorded(level, rng, least=20)


def amorphous(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Grain of the information limit: a ring or a disc in the spectrum, perhaps with rings of the transfer function."""
    finest = rng.uniform(3, 16)  # px
    ring = rng.random() < 0.6
    grain = band_noise(
        size,
        rng,
        low=rng.uniform(0.2, 0.8) / finest if ring else 0.0,
        high=1 / finest,
        sharp=rng.uniform(0.05, 0.4),
        rings=rng.uniform(1, 8) if rng.random() < 0.4 else 0.0,
    )
    return _recorded(1 + rng.uniform(0.03, 0.35) * grain, rng, least=5)


def contamination(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Soft patches of all sizes over a support with a little grain."""
    image = np.zeros(size)
    for _ in range(int(rng.integers(2, 6))):
        width = _between(rng, 2, 0.3 * min(size))
        count = int(np.clip(0.15 * size[0] * size[1] / width**2, 2, 150) * rng.uniform(0.2, 1))
        image = image + detector.add_contamination(
            np.zeros(size), rng, blobs=count, height=rng.uniform(0.2, 1), width=width
        )
    image = image / max(float(image.mean()), 1e-9) + rng.uniform(0, 0.3) * (
        1 + band_noise(size, rng, low=0, high=1 / rng.uniform(2, 8), sharp=0.3)
    )
    return _recorded(image + 0.1, rng)


def texture(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Power falls as |q|^−β in all directions, or in some more than in others."""
    qy, qx = _frequencies(size)
    turn, stretch = rng.uniform(0, np.pi), np.exp(abs(rng.normal(0, 0.6)) * (rng.random() < 0.5))
    q = np.hypot(qy * np.cos(turn) + qx * np.sin(turn), stretch * (qx * np.cos(turn) - qy * np.sin(turn)))
    power = np.maximum(q, 1 / max(size)) ** -rng.uniform(0.5, 4.0)
    image = _shaped(power, size, rng)
    if rng.random() < 0.3:
        image = np.abs(image)  # sharp valleys, as of folds
    return _recorded(1 + 0.3 * image, rng)


def particles(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Round particles, flat or ball-shaped, dark or bright, of unlike sizes, in a layer or in heaps, on a support."""
    radius = _between(rng, 3.5, 30)
    spread, layer = rng.uniform(0.08, 0.4), rng.random() < 0.6
    ball, edge = rng.random() < 0.4, rng.uniform(0.5, 1.5)
    gap = rng.uniform(1.9, 2.6) * radius
    count = int(min(900, 1.2 * size[0] * size[1] / gap**2) * (1 if layer else rng.uniform(0.3, 2)))
    centres = rng.uniform(-radius, np.array(size) + radius, (3 * count, 2))
    centres = _apart(centres, gap)[:count] if layer else centres[:count]
    image = np.zeros(size)
    for centre, r in zip(centres, radius * np.exp(rng.normal(0, spread, len(centres))), strict=True):
        _stamp(image, centre, r, ball=ball, edge=edge, squeeze=np.exp(rng.normal(0, 0.12)), rng=rng)
    image = np.minimum(image, rng.uniform(1, 2.5))
    grain = band_noise(size, rng, low=0, high=1 / rng.uniform(2, 6), sharp=0.3)
    sign = 1.0 if rng.random() < 0.5 else -0.3
    return _recorded(1 + sign * image + rng.uniform(0, 0.15) * grain, rng)


def surface(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """A scanning electron micrograph: relief lit from one side, bright edges, grains with facets or pores."""
    height = _between(rng, 0.5, 6) * _shaped(
        np.maximum(np.hypot(*_frequencies(size)), 1 / max(size)) ** -rng.uniform(2.5, 4), size, rng
    )
    if rng.random() < 0.6:
        seeds = rng.uniform(-20, np.array(size) + 20, (int(_between(rng, 12, 600)), 2))
        near, which = cKDTree(seeds).query(np.moveaxis(np.indices(size), 0, -1), k=2)
        rise = np.sqrt(size[0] * size[1] / len(seeds))
        facet = rng.uniform(0.2, 1.0, len(seeds))[which[..., 0]] * rise * 0.3
        height = height + (
            facet if rng.random() < 0.5 else rise * np.tanh(2 * (near[..., 1] - near[..., 0]) / rise)
        )
    height = gaussian_filter(height, rng.uniform(0.7, 2.0))
    dy, dx = np.gradient(height)
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.hypot(dy, dx)
    lit = dy * np.sin(turn) + dx * np.cos(turn)
    image = (
        1 + 0.25 * np.tanh(lit / max(lit.std(), 1e-9)) + 0.3 * rng.random() * slope / max(slope.max(), 1e-9)
    )
    return _recorded(image, rng)


def stripes(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Planes in one direction only, bent, with a beat of two periods, or a curve of a spectrum drawn out to lines."""
    y, x = np.indices(size).astype(float)
    bend = rng.uniform(0, 3) * detector.smooth_field(size, rng, scale=0.5 * min(size))
    turn, period = rng.uniform(0, np.pi), _between(rng, 4, 40)
    if rng.random() < 0.3:  # a profile with peaks, the same in every line, as a line spectrum
        turn = float(rng.choice([0, np.pi / 2]))
        n = sum(size)
        profile = gaussian_filter(rng.standard_gamma(0.3, n), rng.uniform(0.5, 4))
        along = np.clip((y if turn else x) + bend, 0, n - 1)
        image = np.interp(along, np.arange(n), profile / max(profile.std(), 1e-9))
    else:
        along = y * np.sin(turn) + x * np.cos(turn) + bend
        image = np.cos(2 * np.pi * along / period)
        if rng.random() < 0.5:
            image = image + rng.random() * np.cos(2 * np.pi * along / (period * rng.uniform(1.05, 1.3)))
        if rng.random() < 0.3:
            image = np.sign(image) * np.abs(image) ** rng.uniform(0.2, 1)
    return _recorded(1.3 + rng.uniform(0.1, 0.6) * image, rng)


def interference(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Noise of instruments: lines, spikes, mains hum, bursts, steps between scan lines; perhaps nothing else."""
    noise = rng.standard_normal(size) * rng.uniform(0.2, 1)
    heavy = rng.uniform(0, 3) * (rng.random() < 0.5)
    noise = np.sign(noise) * np.abs(noise) ** (1 + heavy)
    image = detector.add_line_noise(
        noise, rng, sigma=rng.uniform(0, 1.5), drift=rng.uniform(0, 0.2) * (rng.random() < 0.5)
    )
    if rng.random() < 0.6:  # hum: a wave in time, whose phase differs from line to line
        n = size[0] * size[1]
        phase = 2 * np.pi * np.arange(n) * _between(rng, 1 / 80, 1 / 3)
        wave = rng.uniform(0.3, 1.5) * np.cos(phase + rng.uniform(0, 6)).reshape(size)
        image = image + wave.astype(np.float32)
    if rng.random() < 0.4:
        spikes = rng.random(size) < _between(rng, 1e-4, 0.02)
        height = float(rng.uniform(3, 30) * rng.choice([-1, 1]))
        image = image + (height * spikes).astype(np.float32)
    if rng.random() < 0.4:
        image = detector.afterglow(image, decay=rng.uniform(0.5, 6))
    return np.asarray(
        gaussian_filter(image, rng.uniform(0, 1.2)) if rng.random() < 0.4 else image, np.float32
    )


def screen(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """A screen shot: text, bars, axes and curves on an even ground, saved as 8 bits."""
    from PIL import Image, ImageDraw, ImageFont

    ground, ink = (float(v) for v in rng.permutation([rng.uniform(0, 90), rng.uniform(150, 255)]))
    page = Image.new("L", (size[1], size[0]), int(ground))
    draw = ImageDraw.Draw(page)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,-=+µ ()"))
    y = float(rng.uniform(0, 10))
    while y < size[0] - 8:
        part = rng.random()
        if part < 0.75:
            font = ImageFont.load_default(size=float(rng.uniform(8, 26)))
            words = "".join(rng.choice(letters, int(rng.integers(3, 80))))
            draw.text((float(rng.uniform(0, 0.4 * size[1])), y), words, fill=int(ink), font=font)
            y += font.size * float(rng.uniform(1.0, 1.8))  # type: ignore[union-attr]
        elif part < 0.9:
            left, wide, high = rng.uniform(0, size[1] / 2), rng.uniform(10, size[1] / 2), rng.uniform(2, 30)
            draw.rectangle([left, y, left + wide, y + high], fill=int(rng.uniform(0, 255)))
            y += high + float(rng.uniform(2, 12))
        else:
            high = float(rng.uniform(30, 90))
            curve = np.cumsum(rng.standard_normal(size[1]))
            curve = y + high * (curve - curve.min()) / max(np.ptp(curve), 1e-9)
            draw.line([(float(x), float(v)) for x, v in enumerate(curve)], fill=int(ink), width=1)
            y += high
    image = np.asarray(page, dtype=np.float32)
    if rng.random() < 0.5:
        image = detector.jpeg(image, quality=int(rng.integers(30, 95)))
    return image


KINDS: dict[str, Callable[[tuple[int, int], np.random.Generator], Float32]] = {
    "amorphous": amorphous,
    "contamination": contamination,
    "interference": interference,
    "particles": particles,
    "screen": screen,
    "stripes": stripes,
    "surface": surface,
    "texture": texture,
    "thick": thick,
    "vacuum": vacuum,
}


def band_noise(
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    low: float,
    high: float,
    sharp: float,
    rings: float = 0.0,
) -> Array:
    """Gaussian noise of mean 0 and standard deviation 1 with frequencies from `low` to `high` [cycles/px].

    sharp: width of the band's edges, in units of `high`. rings: zeros of a transfer function sin²(πr·(q/high)²) per band.
    """
    q = np.hypot(*_frequencies(size)) / high
    power = 1 / (1 + np.exp((q - 1) / sharp * 4))
    if low > 0:
        power = power / (1 + np.exp((low / high - q) / sharp * 4))
    if rings > 0:
        power = power * np.sin(np.pi * rings * q**2) ** 2
    return _shaped(power, size, rng)


def _frequencies(size: tuple[int, int]) -> tuple[Array, Array]:
    return scipy.fft.fftfreq(size[0])[:, None], scipy.fft.rfftfreq(size[1])[None]


def _shaped(power: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """White noise through `power` (Y, X // 2 + 1), of mean 0 and standard deviation 1."""
    spectrum = scipy.fft.rfft2(rng.standard_normal(size)) * np.sqrt(power)
    spectrum[0, 0] = 0
    image = scipy.fft.irfft2(spectrum, s=size)
    return np.asarray(image / max(float(image.std()), 1e-12))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _apart(points: Array, gap: float) -> Array:
    """Of points (N, 2) the first ones that keep `gap` px from all before them."""
    keep = np.ones(len(points), dtype=bool)
    for first, second in sorted(cKDTree(points).query_pairs(gap)):
        if keep[first]:
            keep[second] = False
    return points[keep]


def _stamp(
    image: Array,
    centre: Array,
    radius: float,
    *,
    ball: bool,
    edge: float,
    squeeze: float,
    rng: np.random.Generator,
) -> None:
    """Adds an ellipse to `image` in place: a ball's thickness, or 1 with an edge of `edge` px."""
    reach = int(radius * 1.6 + 4)
    top, left = (max(0, int(c) - reach) for c in centre)
    y, x = np.ogrid[top : int(centre[0]) + reach, left : int(centre[1]) + reach]
    part = (
        image[top : int(centre[0]) + reach, left : int(centre[1]) + reach] if min(centre) > -reach else None
    )
    if part is None or part.size == 0:
        return
    y, x = y[: part.shape[0]] - centre[0], x[:, : part.shape[1]] - centre[1]
    turn = rng.uniform(0, np.pi)
    along, across = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    r = np.hypot(along * squeeze, across / squeeze)
    part += (
        np.sqrt(np.maximum(1 - (r / radius) ** 2, 0))
        if ball
        else 1 / (1 + np.exp(np.clip((r - radius) / edge * 2, -50, 50)))
    )


def _recorded(level: npt.ArrayLike, rng: np.random.Generator, *, least: float = 2.0) -> Float32:
    """Counted at a random dose (`least` to 3000 per px at the mean) and read out; a third as a saved picture."""
    mean = np.maximum(np.asarray(level, dtype=np.float64), 0)
    mean = mean / max(float(mean.mean()), 1e-12) * _between(rng, least, 3000)
    image = _read_out(detector.add_counts(mean, rng), rng)
    if rng.random() < 0.33:
        image = detector.to_8bit(image, clip=float(rng.choice([0, 0.01])), gamma=rng.uniform(0.6, 1.5))
        image = detector.jpeg(image, quality=int(rng.integers(40, 95))) if rng.random() < 0.4 else image
    return image


def _read_out(image: Float32, rng: np.random.Generator) -> Float32:
    """Through a camera whose pixels share their counts, or a scan with noisy lines; with read-out noise."""
    if rng.random() < 0.4:
        image = detector.apply_mtf(
            image, c1=rng.uniform(0, 0.3), c2=rng.uniform(0.1, 0.5), c3=rng.uniform(1.5, 3.5)
        )
    spread = max(float(image.std()), 1e-6)
    if rng.random() < 0.3:
        image = detector.add_line_noise(image, rng, sigma=spread * rng.uniform(0, 0.4))
    return detector.add_readout(image, rng, sigma=spread * rng.uniform(0, 0.5))
