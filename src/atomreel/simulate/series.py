"""Focal series of HRTEM images of an exit wave: how they are taken, and what the detector records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
from scipy import ndimage

from atomreel.simulate import detector
from atomreel.simulate.hrtem import Optics, image_waves

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
FOCUS = (-170.0, -40.0, 90.0)  # Å, underfocus positive (J. Madsen et al. 2018, section 4.3)


@dataclass(frozen=True)
class Shot:
    """How a series was taken. dose: [e/Å² and image]. pixel: of the detector [Å]. mtf: c1, c2, c3. shifts: (F, 2) [Å]
    of the images against each other. ramp: (2,) relative change of the illumination across the field."""

    optics: tuple[Optics, ...]
    dose: float
    pixel: float
    mtf: Mapping[str, float]
    shifts: Array
    ramp: Array


def random_shot(rng: np.random.Generator) -> Shot:
    """Focus, aberrations, dose and detector of a series: ranges of the paper, a little widened.

    Two of three doses lie in the upper half of the range, where there is most to be learned.
    """
    common = {
        "voltage": 300.0,
        "cs": float(rng.uniform(-21, -9)),
        "c5": float(rng.uniform(0, 5)),
        "astigmatism": float(min(rng.exponential(6), 30)),
        "angle": float(rng.uniform(-180, 180)),
        "focal_spread": float(rng.uniform(19, 41)),
        "deflection": float(rng.uniform(0, 0.26)),
    }
    offset = float(rng.uniform(-30, 30))
    dose = (1000.0, 20_000.0) if rng.random() < 0.65 else (50.0, 1000.0)
    return Shot(
        tuple(Optics(defocus=f + offset, **common) for f in FOCUS),
        dose=float(np.exp(rng.uniform(*np.log(dose)))),
        pixel=float(rng.uniform(0.09, 0.15)),
        mtf={
            "c1": float(rng.uniform(0, 0.1)),
            "c2": float(rng.uniform(0.4, 0.6)),
            "c3": float(rng.uniform(2, 3)),
        },
        shifts=rng.normal(0, 0.08 * (rng.random() < 0.4), (len(FOCUS), 2)),
        ramp=rng.normal(0, 0.04 * (rng.random() < 0.3), 2),
    )


def expose(wave: Complex, shot: Shot, rng: np.random.Generator, *, pixel: float) -> Float32:
    """Counts (F, Y, X) on the wave's pixels of `pixel` [Å], as if the finer ones of the detector had been averaged.

    Fast, for training: signal and noise pass the modulation transfer of the fine pixels, and the signal the average's.
    """
    n = wave.shape[0]
    qy, qx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None]
    clean = image_waves(
        torch.from_numpy(wave)[None].expand(len(shot.optics), -1, -1), pixel, shot.optics
    ).numpy()
    area = (np.sinc(qy) * np.sinc(qx)).astype(np.float32)
    spread = detector.mtf(np.hypot(qy, qx) * shot.pixel / pixel, **shot.mtf).astype(np.float32)
    light = _light(n, shot.ramp)
    series = np.empty(clean.shape, dtype=np.float32)
    for k, image in enumerate(clean):
        phase = np.exp(-2j * np.pi * (qy * shot.shifts[k, 0] + qx * shot.shifts[k, 1]) / pixel) * area
        mean = scipy.fft.irfft2(scipy.fft.rfft2(image) * phase.astype(np.complex64), s=image.shape)
        counts = detector.add_counts(shot.dose * pixel**2 * mean * light, rng)
        series[k] = scipy.fft.irfft2(scipy.fft.rfft2(counts) * spread, s=image.shape)
    return series


def record(wave: Complex, shot: Shot, rng: np.random.Generator) -> Float32:
    """Counts (F, Y, X) on the detector's own pixels, for tests. wave: on pixels of `shot.pixel`."""
    waves = torch.from_numpy(wave)[None].expand(len(shot.optics), -1, -1)
    clean = image_waves(waves, shot.pixel, shot.optics).numpy() * _light(wave.shape[0], shot.ramp)
    moved = [
        ndimage.shift(c, s / shot.pixel, order=3, mode="wrap")
        for c, s in zip(clean, shot.shifts, strict=True)
    ]
    counts = [detector.add_counts(shot.dose * shot.pixel**2 * image, rng) for image in moved]
    return np.stack([detector.apply_mtf(image, **shot.mtf) for image in counts])


def _light(n: int, ramp: Array) -> Float32:
    t = np.linspace(-0.5, 0.5, n, dtype=np.float32)
    return np.asarray(1 + np.float32(ramp[0]) * t[:, None] + np.float32(ramp[1]) * t, dtype=np.float32)
