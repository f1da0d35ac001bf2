"""What an instrument does to an image. Each effect is a plain function: array in, new array out.

Images are (Y, X); randomness only through `rng`; nothing changes its input.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter, spline_filter1d
from scipy.signal import lfilter

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
NORMAL_ABOVE = 30.0  # counts: beyond this a Poisson number is drawn as a rounded normal one


def add_counts(expected: npt.ArrayLike, rng: np.random.Generator) -> Float32:
    """Poisson counts of the expected ones (Y, X) ≥ 0; above 30 the normal approximation (skew 0.18, mean exact)."""
    mean = np.maximum(np.asarray(expected, dtype=np.float32), 0)
    few = mean < NORMAL_ABOVE
    share = few.mean()
    if share == 1:
        return rng.poisson(mean).astype(np.float32)
    counts = np.rint(mean + np.sqrt(mean) * rng.standard_normal(mean.shape, dtype=np.float32))
    if share > 0:
        counts[few] = rng.poisson(mean[few])
    return np.maximum(counts, 0).astype(np.float32)


def mtf(q: npt.ArrayLike, *, c1: float, c2: float, c3: float) -> Array:
    """Modulation transfer (1 − c₁)/(1 + (q / 2c₂q_N)^c₃) + c₁ at q [cycles/px], q_N = ½ (J. Madsen 2018, table 1)."""
    return (1 - c1) / (1 + (np.abs(q) / c2) ** c3) + c1


def apply_mtf(image: npt.ArrayLike, *, c1: float, c2: float, c3: float) -> Float32:
    """`image` (Y, X) through the detector's modulation transfer: counts of one pixel spill into its neighbours.

    Signal and noise both pass. The edges wrap around.
    """
    image = np.asarray(image, dtype=np.float32)
    qy = scipy.fft.fftfreq(image.shape[0])[:, None]
    qx = scipy.fft.rfftfreq(image.shape[1])[None]
    transfer = mtf(np.hypot(qy, qx), c1=c1, c2=c2, c3=c3).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(scipy.fft.rfft2(image) * transfer, s=image.shape), dtype=np.float32)


def line_jitter(
    lines: int, rng: np.random.Generator, *, y: float = 0.0, x: float = 0.0, memory: float = 0.3
) -> tuple[Array, Array]:
    """Random shifts (lines,) of the scan lines, standard deviations `y` and `x` [px]; neighbours correlate by `memory`."""
    white = rng.standard_normal((2, lines))
    white[:, 1:] *= np.sqrt(1 - memory**2)
    noise = lfilter([1.0], [1.0, -memory], white, axis=1)
    return y * noise[0], x * noise[1]


def jitter_lines(image: npt.ArrayLike, dy: npt.ArrayLike, dx: npt.ArrayLike) -> Float32:
    """Every scan line (row i) read at y = i + dy[i], x + dx[i] (shifts in px); cubic in y, Fourier in x.

    dy, dx: (Y,). Content moves to the opposite side. Lines at the border repeat.
    """
    moved = np.asarray(image, dtype=np.float32)
    n, width = moved.shape
    dy, dx = np.asarray(dy, dtype=float), np.asarray(dx, dtype=float)
    if np.any(dy):
        at = np.clip(np.arange(n) + dy, 0, n - 1)
        base = np.minimum(at.astype(int), n - 2)
        t = (at - base)[:, None]
        coefficients = spline_filter1d(moved, axis=0, mode="mirror", output=np.float64)
        rows = [_mirror(base + k, n) for k in (-1, 0, 1, 2)]
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
        parts = [w / 6 * coefficients[r] for w, r in zip(weights, rows, strict=True)]
        moved = np.sum(parts, axis=0, dtype=np.float32)
    if np.any(dx):
        margin = int(np.ceil(np.abs(dx).max())) + 8
        wide = np.pad(moved, ((0, 0), (margin, margin)), mode="reflect" if margin < width else "edge")
        q = scipy.fft.rfftfreq(wide.shape[1])
        phase = np.exp(2j * np.pi * q * dx[:, None]).astype(np.complex64)
        wide = scipy.fft.irfft(scipy.fft.rfft(wide, axis=1) * phase, n=wide.shape[1], axis=1)
        moved = wide[:, margin : margin + width]
    return np.asarray(moved, dtype=np.float32)


def _mirror(index: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    folded = np.mod(index, 2 * n - 2)
    return np.where(folded < n, folded, 2 * n - 2 - folded)


def drift(
    positions: Array, *, rate: tuple[float, float], bend: tuple[float, float] = (0.0, 0.0), lines: int
) -> Array:
    """Where columns (N, 2) [px] are seen while the specimen drifts during a slow scan from the top line down.

    rate: (dy, dx) [px] over the whole frame of `lines`. bend: additional quadratic part, 0 at both ends and the centre
    line displaced by it. To first order in the drift.
    """
    t = np.asarray(positions)[:, :1] / max(lines - 1, 1)
    return np.asarray(positions + (t - 0.5) * np.asarray(rate) + 4 * t * (1 - t) * np.asarray(bend))


def smooth_field(
    shape: tuple[int, int], rng: np.random.Generator, *, scale: float, grain: int = 4
) -> Float32:
    """Random map (Y, X), mean 0 and standard deviation 1, that varies over about `scale` px."""
    small = tuple(max(int(np.ceil(n / max(scale / grain, 1))) + 4, 6) for n in shape)
    noise = gaussian_filter(rng.standard_normal(small), grain / 2)
    noise = (noise - noise.mean()) / max(noise.std(), 1e-9)
    y = np.linspace(1, small[0] - 2, shape[0])
    x = np.linspace(1, small[1] - 2, shape[1])
    return np.asarray(_hat(y, small[0]) @ noise @ _hat(x, small[1]).T, dtype=np.float32)


def _hat(at: Array, n: int) -> Array:
    """(len(at), n) weights of quadratic B-splines at positions `at` on n nodes: smooth, no kinks."""
    d = np.abs(at[:, None] - np.arange(n))
    return np.where(d < 0.5, 0.75 - d**2, np.where(d < 1.5, 0.5 * (1.5 - d) ** 2, 0.0))


def add_contamination(
    image: npt.ArrayLike, rng: np.random.Generator, *, blobs: int, height: float, width: float
) -> Float32:
    """Soft bright patches: `blobs` of them, about `height` (image units) high and `width` px wide."""
    image = np.asarray(image, dtype=np.float32).copy()
    ny, nx = image.shape
    y, x = np.arange(ny, dtype=np.float32), np.arange(nx, dtype=np.float32)
    for _ in range(blobs):
        cy, cx = rng.uniform(-0.1, 1.1, 2) * (ny, nx)
        sy, sx = width * np.exp(rng.normal(0, 0.4, 2))
        h = np.float32(height * rng.exponential())
        image += h * np.exp(-0.5 * ((y - cy) / sy) ** 2)[:, None] * np.exp(-0.5 * ((x - cx) / sx) ** 2)
    return image


def add_background(
    image: npt.ArrayLike, *, level: float = 0.0, ramp: tuple[float, float] = (0.0, 0.0)
) -> Float32:
    """A constant and a linear ramp (change from the first to the last line, column) in image units."""
    image = np.asarray(image, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, image.shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, image.shape[1], dtype=np.float32)
    return np.asarray(image + level + ramp[0] * y + ramp[1] * x, dtype=np.float32)


def add_vacuum(
    image: npt.ArrayLike, mask: npt.ArrayLike, *, level: float = 0.0, edge: float = 1.0
) -> Float32:
    """`image` replaced by `level` where `mask` (Y, X) is true, with an edge of `edge` px."""
    image = np.asarray(image, dtype=np.float32)
    soft = (
        gaussian_filter(np.asarray(mask, dtype=np.float32), edge)
        if edge > 0
        else np.asarray(mask, np.float32)
    )
    return np.asarray(image * (1 - soft) + level * soft, dtype=np.float32)


def add_readout(image: npt.ArrayLike, rng: np.random.Generator, *, sigma: float) -> Float32:
    """Gaussian read-out noise of `sigma` (image units)."""
    image = np.asarray(image, dtype=np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image + np.float32(sigma) * noise, dtype=np.float32)


def add_line_noise(
    image: npt.ArrayLike, rng: np.random.Generator, *, sigma: float, drift: float = 0.0
) -> Float32:
    """Each scan line offset by white noise of `sigma` and by a random walk of `drift` per line (image units)."""
    image = np.asarray(image, dtype=np.float32)
    n = image.shape[0]
    offset = sigma * rng.standard_normal(n) + drift * np.cumsum(rng.standard_normal(n))
    return image + offset.astype(np.float32)[:, None]


def blur(image: npt.ArrayLike, *, sigma: float) -> Float32:
    """Gaussian blur of `sigma` px, as of an unstable stage during the exposure."""
    return np.asarray(gaussian_filter(np.asarray(image, dtype=np.float32), sigma), dtype=np.float32)


def afterglow(image: npt.ArrayLike, *, decay: float) -> Float32:
    """A slow detector smears along the fast scan direction: exponential with `decay` px (causal, to the right)."""
    image = np.asarray(image, dtype=np.float32)
    if decay <= 0:
        return image.copy()
    length = max(int(6 * decay), 1)
    kernel = np.exp(-np.arange(length + 1) / decay)
    kernel /= kernel.sum()
    padded = np.pad(image, ((0, 0), (length, 0)), mode="edge")
    smeared = np.zeros_like(image)
    for i, k in enumerate(kernel.astype(np.float32)):
        smeared += k * padded[:, length - i : padded.shape[1] - i]
    return smeared


def to_8bit(image: npt.ArrayLike, *, clip: float = 0.0, gamma: float = 1.0) -> Float32:
    """Grey values 0…255 as a screen shot has them: the share `clip` saturated at either end, then `gamma`."""
    image = np.asarray(image, dtype=np.float32)
    low, high = np.quantile(image, [clip, 1 - clip]) if clip > 0 else (image.min(), image.max())
    scaled = np.clip((image - low) / max(high - low, 1e-12), 0, 1) ** gamma
    return np.asarray(np.rint(255 * scaled), dtype=np.float32)


def jpeg(image: npt.ArrayLike, *, quality: int = 75) -> Float32:
    """Grey values after JPEG at `quality` (8 bits)."""
    from PIL import Image as Picture

    stream = io.BytesIO()
    Picture.fromarray(to_8bit(image).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Picture.open(stream), dtype=np.float32)
