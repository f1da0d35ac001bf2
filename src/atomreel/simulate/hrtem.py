"""HRTEM: exit wave → image by the contrast transfer function, batched in torch; thin specimens as phase objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.stem import frequencies, padded_shape, point_spectrum, wavelength

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
MOTT = 47.87801  # V Å²: projected potential per scattering factor, h²/(2π m e)


@dataclass(frozen=True)
class Optics:
    """voltage [kV]. defocus [Å], positive = underfocus. cs [µm], c5 [mm]. astigmatism [Å] at `angle` [°],
    counter-clockwise on screen. focal_spread [Å], standard deviation. deflection [Å], standard deviation of the
    image's blur during the exposure. (J. Madsen et al. 2018, table 1.)"""

    voltage: float
    defocus: float = 0.0
    cs: float = 0.0
    c5: float = 0.0
    astigmatism: float = 0.0
    angle: float = 0.0
    focal_spread: float = 0.0
    deflection: float = 0.0


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[Array, Array]]:
    rows = np.genfromtxt(
        Path(__file__).with_name("scattering.csv"), delimiter=",", skip_header=3, dtype=None, encoding="utf-8"
    )
    return {str(row[1]): (np.array(list(row)[2:7]), np.array(list(row)[7:12])) for row in rows}


def scattering_factor(symbol: str, q2: npt.ArrayLike) -> Float32:
    """Electron scattering factor [Å] of a neutral atom at squared frequency q² [1/Å²] (Lobato & Van Dyck 2014)."""
    table = _table()
    if symbol not in table:
        raise UnknownNameError("element", symbol, table)
    a, b = table[symbol]
    q2 = np.asarray(q2, dtype=np.float32)
    factor = np.zeros_like(q2)
    for ai, bi in zip(a.astype(np.float32), b.astype(np.float32), strict=True):
        factor += ai * (2 + bi * q2) / (1 + bi * q2) ** 2
    return factor


def interaction(voltage: float) -> float:
    """Interaction constant σ [rad/(V Å)] at `voltage` [kV]: phase per projected potential."""
    rest = 510.99895
    return float(2 * np.pi / (wavelength(voltage) * voltage * 1e3) * (rest + voltage) / (2 * rest + voltage))


def phase_object(
    positions: Mapping[str, Array],
    weights: Mapping[str, Array],
    shape: tuple[int, int],
    *,
    pixel: float,
    voltage: float,
    thermal: float = 0.07,
) -> Complex:
    """Exit wave exp(iσV) (Y, X) of a thin specimen on a periodic grid.

    positions: element → (N, 2) [px]; weights: element → (N,) atoms at each. thermal: rms displacement per axis [Å].
    """
    qy, qx = frequencies(shape)
    q2 = (qy**2 + qx**2) / np.float32(pixel**2)
    total = np.zeros(q2.shape, dtype=np.complex64)
    blur = np.exp(-2 * np.pi**2 * thermal**2 * q2)
    for symbol, at in positions.items():
        total += point_spectrum(at, weights[symbol], shape) * (scattering_factor(symbol, q2) * blur)
    phase = scipy.fft.irfft2(total, s=shape) * np.float32(interaction(voltage) * MOTT / pixel**2)
    return np.asarray(np.exp(1j * phase), dtype=np.complex64)


def transfer(shape: tuple[int, int], pixel: float, optics: Sequence[Optics]) -> torch.Tensor:
    """(B, Y, X) complex transfer of waves exp(−iχ) · envelopes, on the fft grid, one per Optics.

    χ(q) = π λ q² (−Δf + A cos 2(φ − φ_A)) + ½π Cs λ³ q⁴ + ⅓π C5 λ⁵ q⁶.
    """
    qy = torch.fft.fftfreq(shape[0], pixel)[:, None]
    qx = torch.fft.rfftfreq(shape[1], pixel)[None]  # χ is even: the other half mirrors this one
    q2 = qy**2 + qx**2
    cos2, sin2 = (qx**2 - qy**2), (-2 * qy * qx)  # q² cos 2φ and q² sin 2φ, φ counter-clockwise on screen
    values = torch.tensor(
        [
            [
                wavelength(o.voltage),
                o.defocus,
                o.cs * 1e4,
                o.c5 * 1e7,
                o.astigmatism,
                np.deg2rad(o.angle),
                o.focal_spread,
            ]
            for o in optics
        ],
        dtype=torch.float32,
    )
    lam, defocus, cs, c5, astig, turn, spread = (v[:, None, None] for v in values.T)
    chi = torch.pi * (
        lam * (-defocus * q2 + astig * (cos2 * torch.cos(2 * turn) + sin2 * torch.sin(2 * turn)))
        + 0.5 * cs * lam**3 * q2**2
        + c5 / 3 * lam**5 * q2**3
    )
    envelope = torch.exp(-0.5 * (torch.pi * lam * spread * q2) ** 2)
    half = torch.polar(envelope, -chi)
    mirrored = half[:, :, 1 : (shape[1] + 1) // 2].flip(1, 2).roll(1, 1)
    return torch.cat([half, mirrored], dim=2)


def image_waves(waves: torch.Tensor, pixel: float, optics: Sequence[Optics]) -> torch.Tensor:
    """Intensities (B, Y, X) of exit waves (B, Y, X) complex64, mean of the vacuum = 1, edges wrap.

    Quasi-coherent for the focal spread; the deflection blurs the intensity.
    """
    shape = (waves.shape[-2], waves.shape[-1])
    spectrum = torch.fft.fft2(waves) * transfer(shape, pixel, optics)
    intensity: torch.Tensor = torch.fft.ifft2(spectrum).abs() ** 2
    shake = torch.tensor([o.deflection for o in optics], dtype=torch.float32)[:, None, None]
    if bool((shake > 0).any()):
        qy = torch.fft.fftfreq(shape[0], pixel)[:, None]
        qx = torch.fft.rfftfreq(shape[1], pixel)[None]
        blur = torch.exp(-2 * torch.pi**2 * shake**2 * (qy**2 + qx**2))
        intensity = torch.fft.irfft2(torch.fft.rfft2(intensity) * blur, s=shape)
    return intensity


def best_defocus(q: float, *, voltage: float, cs: float, bright: bool, order: int = 0) -> float:
    """Defocus [Å] (positive = underfocus) where frequency q [1/Å] of a phase object shows with full contrast.

    sin χ(q) = 1 makes atoms bright, −1 dark (χ as in `transfer`, exit wave exp(+iσV)).
    """
    lam = wavelength(voltage)
    target = (0.5 if bright else -0.5) * np.pi + 2 * np.pi * order
    return float((0.5 * np.pi * cs * 1e4 * lam**3 * q**4 - target) / (np.pi * lam * q**2))


def padded(shape: tuple[int, int], pixel: float) -> tuple[tuple[int, int], int]:
    """Grid and margin [px] that hold off wrap-around of delocalised fringes."""
    pad = int(np.clip(8 / pixel, 24, 48))
    return padded_shape(shape, pad), pad
