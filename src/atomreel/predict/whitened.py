"""The part of a focal series around a particle, as Fourier coefficients whose noise is white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import optimize

from atomreel.interpret.vacuum import HIGH, LOW, SPREAD, START
from atomreel.predict.synthesis import CUT, Grid

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
RING = 0.02  # cycles/px
LEVEL_ERROR = 0.04  # relative: how well a known level ties the noise's power


@dataclass(frozen=True)
class Recorded:
    """A square of the series. spectra: (F, s, s // 2 + 1) of grey values. corner: (2,) its first pixel. side: s [px].
    pixel: [Å]. mean: grey level."""

    spectra: npt.NDArray[np.complex128]
    corner: Index
    side: int
    pixel: float
    mean: float


@dataclass(frozen=True)
class Noise:
    """power: of the white noise of a pixel ahead of the detector's spread [grey²]. spread: c1, c2, c3 (`simulate.detector`).
    level: of the vacuum [grey]."""

    power: float
    spread: Array
    level: float

    def transfer(self, q: Array) -> Array:
        """At q [cycles/px]."""
        c1, c2, c3 = self.spread
        return np.asarray((1 - c1) / (1 + (q / c2) ** c3) + c1)


def record(images: Array, at: Array, *, pixel: float, margin: float) -> Recorded:
    """The square around columns (N, 2) [px] and `margin` [Å]; where it reaches beyond the images there is vacuum."""
    low, high = at.min(0) - margin / pixel, at.max(0) + margin / pixel
    side = 2 * int(np.ceil((high - low).max() / 2))
    corner = np.rint((low + high - side) / 2).astype(np.int64)
    first, last = np.maximum(corner, 0), np.minimum(corner + side, images.shape[1:])
    inside = images[:, first[0] : last[0], first[1] : last[1]]
    square = np.zeros((len(images), side, side))
    a, b = first - corner, last - corner
    square[:, a[0] : b[0], a[1] : b[1]] = inside - inside.mean((1, 2), keepdims=True)
    return Recorded(scipy.fft.rfft2(square), corner, side, pixel, float(inside.mean()))


def measure_noise(
    recorded: Recorded,
    grid: Grid,
    noise: Noise | None,
    *,
    model: npt.NDArray[np.complexfloating] | None,
    counts: float,
    level: float,
) -> Noise:
    """Noise from what the model (F, R) leaves (in units of the vacuum), or beyond the frequencies of specimens if None.

    counts: electrons per pixel, level: of the vacuum; NaN where not known.
    """
    spectra = recorded.spectra
    s = recorded.side
    k = np.hypot(np.fft.fftfreq(s)[:, None], np.fft.rfftfreq(s)[None])
    least = CUT * recorded.pixel
    if model is not None and noise is not None:
        spectra, least = spectra.copy(), 1.5 / s
        rows, columns = places(recorded, grid)
        spectra[:, rows, columns] -= model * s**2 * noise.level * noise.transfer(k[rows, columns])
    power = (spectra.real**2 + spectra.imag**2).mean(0) / s**2
    ring = ((k - least) / RING).astype(int)
    fine = (k > least) & (k < 0.5)
    number = np.bincount(ring[fine])
    mean = np.bincount(ring[fine], power[fine]) / np.maximum(number, 1)
    q = np.bincount(ring[fine], k[fine]) / np.maximum(number, 1)
    use = (number > 8) & (mean > 0)
    log_power, error = np.log(mean[use]), 1 / np.sqrt(number[use] * len(spectra))

    def residuals(p: Array) -> Array:
        shape = 2 * np.log(Noise(1.0, p[1:4], 1.0).transfer(q[use]))
        parts = [(log_power - p[0] - shape) / error, (p[1:4] - START) / SPREAD]
        if np.isfinite(level) and np.isfinite(counts):
            parts.append(np.array([(p[0] - np.log(level**2 / counts)) / (2 * LEVEL_ERROR)]))
        return np.concatenate(parts)

    start = np.array([log_power.max(), *START])
    bounds = (np.array([-np.inf, *LOW]), np.array([np.inf, *HIGH]))
    found = optimize.least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=3.0).x
    if not np.isfinite(level):
        level = float(np.sqrt(np.exp(found[0]) * counts)) if np.isfinite(counts) else recorded.mean
    return Noise(float(np.exp(found[0])), found[1:4], level)


def places(recorded: Recorded, grid: Grid) -> tuple[Index, Index]:
    """Where the coefficients of `grid.rows` are in the recorded spectra."""
    rows = np.rint(np.fft.fftfreq(grid.coarse) * grid.coarse).astype(np.int64)[grid.rows[0]]
    return rows % recorded.side, grid.rows[1]


def coefficients(recorded: Recorded, grid: Grid, noise: Noise) -> tuple[npt.NDArray[np.complex128], float]:
    """(F, R) coefficients ahead of the detector's spread, the vacuum being 1, and the weight that gives real and imaginary
    parts unit noise."""
    rows, columns = places(recorded, grid)
    q = np.hypot(*grid.at) * recorded.pixel
    scale = recorded.side**2 * noise.level
    found = recorded.spectra[:, rows, columns] / (scale * noise.transfer(q))
    return found, float(np.sqrt(2 / noise.power) * recorded.side * noise.level)
