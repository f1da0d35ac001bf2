"""How much of a known lattice is at each place of an image: its spots in the Fourier transform, filtered out and put back.

The amplitude of reflection g at r is A_g(r) = Σ_s I(s) exp(−2πi g·s) w(s − r) with a Gaussian w: dark-field imaging done on
the computer (as geometric phase analysis does it, M. J. Hÿtch et al., Ultramicroscopy 74 (1998) 131). Only a small part of
the transform around g is put back, so the amplitude comes on a coarse grid and costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]
SPREAD = 2.0  # σ of the Gaussian in shortest lattice vectors: a 3° turn is resolved, an edge is found to a tenth of it
FURTHEST = 1.8  # times the shortest reflection: further ones are weak
NYQUIST = 0.45  # cycles per px


@dataclass(frozen=True)
class Spectrum:
    """Transform of a padded frame, and the grid on which amplitudes are wanted: cells of `step` px from the first pixel on."""

    values: npt.NDArray[np.complexfloating]
    shape: tuple[int, int]
    step: int
    spread: float

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.shape[0] // self.step), -(-self.shape[1] // self.step)


def open_spectrum(image: npt.NDArray[np.floating], *, step: int, spread: float) -> Spectrum:
    """image: (Y, X), NaN counts as the mean. step: of the grid [px]. spread: σ of the Gaussian [px], at least a step."""
    data = np.asarray(image, dtype=np.float32)
    data = np.where(np.isfinite(data), data, np.nanmean(data))
    data = data - data.mean()
    size = [step * fft.next_fast_len(-(-int(n + 4 * spread) // step)) for n in data.shape]
    shape = (int(data.shape[0]), int(data.shape[1]))
    return Spectrum(fft.fft2(data, s=size), shape, step, spread)


def power_at(spectrum: Spectrum, g: FloatArray) -> FloatArray:
    """(Gy, Gx) |A_g|² at the centres of the grid's cells. g: (y, x) [cycles/px]."""
    size, step = spectrum.values.shape, spectrum.step
    rows = [_around(float(k), n, step) for k, n in zip(g, size, strict=True)]
    weights = [
        np.exp(-2 * (np.pi * spectrum.spread) ** 2 * (index / n - k) ** 2)
        * np.exp(2j * np.pi * index / n * (step - 1) / 2)
        for index, n, k in zip(rows, size, g, strict=True)
    ]
    part = spectrum.values[np.ix_(rows[0] % size[0], rows[1] % size[1])]
    put_back = fft.ifft2(fft.ifftshift(part * weights[0][:, None] * weights[1])) / step**2
    return np.asarray(np.square(np.abs(put_back[: spectrum.grid[0], : spectrum.grid[1]])), dtype=np.float64)


def presence(spectrum: Spectrum, vectors: FloatArray) -> FloatArray:
    """(Gy, Gx) power of the lattice's spots over what is beside them, 0 or more, in squared brightness.

    vectors: (2, 2), rows a and b as (y, x) [px]. A place half way into the lattice has a quarter of the power inside, at
    the border of the frame too. What is beside the spots is the median at places half way between them.
    """
    reciprocal = np.linalg.inv(vectors).T
    index = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5), indexing="ij"), -1).reshape(-1, 2) / 2
    index = index[(index[:, 0] > 0) | ((index[:, 0] == 0) & (index[:, 1] > 0))]
    g = index @ reciprocal
    length = np.hypot(g[:, 0], g[:, 1])
    whole = (index == np.rint(index)).all(1)
    near = (length <= FURTHEST * length[whole].min()) & (np.abs(g).max(1) < NYQUIST)
    spots = g[whole & near]
    beside = g[~whole & near & (length >= 0.8 * length[whole].min())]
    power = sum((power_at(spectrum, one) for one in spots), np.zeros(spectrum.grid))
    if len(beside):
        power = power - len(spots) * np.median([power_at(spectrum, one) for one in beside], axis=0) / np.log(
            2
        )
    return np.maximum(power, 0) / np.square(_coverage(spectrum))


def _around(k: float, size: int, step: int) -> npt.NDArray[np.int64]:
    """The frequencies [1/size] nearest to k that a grid of `step` px can hold."""
    count = size // step
    return np.arange(count) - count // 2 + round(k * size)


def _coverage(spectrum: Spectrum) -> FloatArray:
    """(Gy, Gx) share of the Gaussian that lies in the frame."""
    from scipy.special import erf

    sides = []
    for n, cells in zip(spectrum.shape, spectrum.grid, strict=True):
        at = np.minimum(spectrum.step * np.arange(cells) + (spectrum.step - 1) / 2, n - 1)
        reach = np.sqrt(2) * spectrum.spread
        sides.append(0.5 * (erf((at + 0.5) / reach) + erf((n - 0.5 - at) / reach)))
    return np.asarray(sides[0][:, None] * sides[1])
