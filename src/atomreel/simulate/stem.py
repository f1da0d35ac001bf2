"""HAADF STEM of thin specimens: scattering power of the columns ⊗ the probe's intensity.

All rendering is done in Fourier space: point columns are spread with quintic B-splines, whose transfer is then
divided out, so that sub-pixel positions are exact and any probe costs the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
# Quintic B-spline on the 6 nodes around a point at fraction t: rows = nodes, columns = powers of t.
_SPLINE = (
    np.array(
        [
            [1, -5, 10, -10, 5, -1],
            [26, -50, 20, 20, -20, 5],
            [66, 0, -60, 0, 30, -10],
            [26, 50, 20, -20, -20, 10],
            [1, 5, 10, 10, 5, -5],
            [0, 0, 0, 0, 0, 1],
        ]
    )
    / 120.0
)


@dataclass(frozen=True)
class Probe:
    """Intensity of the probe. fwhm: [Å] of the Gaussian core. tail: share of the intensity in a wider Gaussian
    of `tail_ratio` times the width. ratio, angle: long over short axis, direction of the long one [°]."""

    fwhm: float
    tail: float = 0.0
    tail_ratio: float = 3.0
    ratio: float = 1.0
    angle: float = 0.0

    def transfer(self, shape: tuple[int, int], pixel: float) -> Float32:
        """(Y, X//2+1) optical transfer function on the rfft grid; 1 at zero frequency."""
        qy, qx = frequencies(shape)
        c, s = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        along, across = qx * c - qy * s, qx * s + qy * c
        sigma = self.fwhm / np.sqrt(8 * np.log(2)) / pixel
        q2 = self.ratio * along**2 + across**2 / self.ratio
        core = np.exp(-2 * np.pi**2 * sigma**2 * q2)
        if self.tail == 0:
            return np.asarray(core, dtype=np.float32)
        wide = np.exp(-2 * np.pi**2 * (sigma * self.tail_ratio) ** 2 * q2)
        return np.asarray((1 - self.tail) * core + self.tail * wide, dtype=np.float32)


@dataclass(frozen=True)
class AberratedProbe:
    """Probe of an aperture with aberrations and an effective source. voltage [kV], semiangle [mrad], defocus [Å]
    (positive = underfocus), cs [µm], astigmatism [Å] at `angle` [°], coma [Å] (with the tilt that
    keeps the peak where it is), source [Å] FWHM."""

    voltage: float
    semiangle: float
    defocus: float = 0.0
    cs: float = 0.0
    astigmatism: float = 0.0
    angle: float = 0.0
    coma: float = 0.0
    source: float = 0.5

    def transfer(self, shape: tuple[int, int], pixel: float) -> Complex:
        wave_length = wavelength(self.voltage)
        qy = np.fft.fftfreq(shape[0], pixel)[:, None]
        qx = np.fft.fftfreq(shape[1], pixel)[None]
        step = wave_length / (pixel * min(shape))
        soft = np.clip((self.semiangle * 1e-3 - wave_length * np.hypot(qy, qx)) / step + 0.5, 0, 1)
        iy, ix = np.nonzero(soft)
        y, x = -qy[iy, 0], qx[0, ix]  # y up
        alpha2 = wave_length**2 * (y**2 + x**2)
        phi = np.arctan2(y, x) - np.deg2rad(self.angle)
        chi = (
            0.5 * alpha2 * (-self.defocus + self.astigmatism * np.cos(2 * phi))
            + 0.25e4 * self.cs * alpha2**2
            + self.coma / 3 * (alpha2 - 2 / 3 * (1e-3 * self.semiangle) ** 2) * np.sqrt(alpha2) * np.cos(phi)
        ) * (2 * np.pi / wave_length)
        pupil = np.zeros(shape, dtype=np.complex64)
        pupil[iy, ix] = soft[iy, ix] * np.exp(-1j * chi)
        amplitude = scipy.fft.ifft2(pupil)
        intensity = np.abs(amplitude) ** 2
        spectrum = scipy.fft.rfft2(intensity / intensity.sum())
        ky, kx = frequencies(shape)
        blur = np.exp(-2 * np.pi**2 * (self.source / 2.3548 / pixel) ** 2 * (ky**2 + kx**2))
        return np.asarray(spectrum * blur, dtype=np.complex64)


def wavelength(voltage: float) -> float:
    """Relativistic electron wavelength [Å] at `voltage` [kV]."""
    e = voltage * 1e3
    return float(12.2643 / np.sqrt(e * (1 + 0.978476e-6 * e)))


def z_contrast(atoms: Sequence[str], exponent: float = 1.7) -> float:
    """Scattering into a high-angle annular detector, Σ Z^exponent (S. J. Pennycook, Ultramicroscopy 30 (1989) 58)."""
    return float(sum(_number(symbol) ** exponent for symbol in atoms))


@lru_cache(maxsize=256)
def _number(symbol: str) -> int:
    from ase.data import atomic_numbers

    return int(atomic_numbers[symbol])


@lru_cache(maxsize=16)
def frequencies(shape: tuple[int, int]) -> tuple[Float32, Float32]:
    """(Y, 1) and (1, X//2+1) [cycles/px] of the rfft grid."""
    qy = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    qx = np.fft.rfftfreq(shape[1]).astype(np.float32)[None]
    return qy, qx


@lru_cache(maxsize=16)
def _unspread(shape: tuple[int, int]) -> Float32:
    qy, qx = frequencies(shape)
    return (1 / (np.sinc(qy) * np.sinc(qx)) ** 6).astype(np.float32)


def point_spectrum(positions: Array, weights: Array, shape: tuple[int, int]) -> npt.NDArray[np.complex64]:
    """rfft2 of Σ weight · δ(position) on a periodic (Y, X) grid; positions (N, 2) [px], any real number.

    Exact at low frequencies; the error at frequency f [cycles/px] is about (f / (1 − f))^6.
    """
    if len(positions) == 0:
        return np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.complex64)
    node = np.floor(positions)
    powers = (positions - node)[..., None] ** np.arange(6)
    taps = powers @ _SPLINE.T  # (N, 2, 6)
    index = node.astype(np.int64)[..., None] + np.arange(-2, 4)
    rows, columns = index[:, 0] % shape[0], index[:, 1] % shape[1]
    flat = rows[:, :, None] * shape[1] + columns[:, None, :]
    value = (taps[:, 0] * np.asarray(weights)[:, None])[:, :, None] * taps[:, 1][:, None, :]
    grid = np.bincount(flat.ravel(), value.ravel(), minlength=shape[0] * shape[1])
    spectrum = scipy.fft.rfft2(grid.reshape(shape).astype(np.float32)) * _unspread(shape)
    return np.asarray(spectrum, dtype=np.complex64)


def padded_shape(shape: tuple[int, int], pad: int) -> tuple[int, int]:
    """A shape that is quick to transform and at least `pad` px larger on each side."""
    return scipy.fft.next_fast_len(shape[0] + 2 * pad, real=True), scipy.fft.next_fast_len(
        shape[1] + 2 * pad, real=True
    )


def render_stem(
    positions: Array,
    weights: Array,
    shape: tuple[int, int],
    *,
    probe: Probe | AberratedProbe,
    pixel: float,
    pad: int | None = None,
) -> Float32:
    """Noise-free image (Y, X): Σ weight · probe(r − position).

    positions: (N, 2) (y, x) [px]; those outside the field count too. pixel: [Å]. The probe has unit *peak* height,
    so `weights` are the columns' heights. pad: margin [px] against wrap-around, 24 px or more by default.
    """
    pad = max(24, int(4 / pixel)) if pad is None else pad
    large = padded_shape(shape, pad)
    inside = np.all((positions > -pad) & (positions < np.array(shape) + pad), axis=1)
    transfer = probe.transfer(large, pixel)
    peak = transfer_peak(transfer, large)
    spectrum = point_spectrum(positions[inside] + pad, np.asarray(weights)[inside], large)
    image = scipy.fft.irfft2(spectrum * transfer, s=large)[pad : pad + shape[0], pad : pad + shape[1]]
    return np.asarray(image / peak, dtype=np.float32)


def transfer_peak(transfer: Float32 | Complex, shape: tuple[int, int]) -> float:
    """Value at the origin of the kernel that has this transfer function."""
    weight = np.full(transfer.shape[1], 2.0)
    weight[0] = 1
    if shape[1] % 2 == 0:
        weight[-1] = 1
    return float((transfer.real * weight).sum() / (shape[0] * shape[1]))
