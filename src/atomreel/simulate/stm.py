"""STM-like images: smooth lobes on a corrugated surface, scanned slowly by an imperfect tip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.simulate import detector
from atomreel.simulate.stem import Probe, render_stem

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


def render_stm(
    positions: Array,
    heights: Array,
    shape: tuple[int, int],
    *,
    fwhm: float,
    ratio: float = 1.0,
    angle: float = 0.0,
) -> Float32:
    """Noise-free topograph (Y, X): Gaussian lobes of `fwhm` px, `ratio` long over short axis along `angle` [°].

    positions: (N, 2) px; heights: (N,) image units.
    """
    probe = Probe(fwhm, ratio=ratio, angle=angle)
    return render_stem(
        positions, heights, shape, probe=probe, pixel=1.0, pad=max(24, int(2.5 * fwhm * ratio))
    )


def scan_artefacts(
    image: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    noise: float,
    lines: float = 0.0,
    wander: float = 0.0,
    plane: tuple[float, float] = (0.0, 0.0),
    tip_changes: int = 0,
    height: float = 1.0,
) -> Float32:
    """A tip's marks. noise: white, sd. lines, wander: offset of each line, white and random walk, sd.

    plane: rise over the field (y, x). tip_changes: rows from which on the image is offset and scaled.
    height: corrugation, that all of these (plane, too) are multiples of.
    """
    image = np.asarray(image, dtype=np.float32)
    for row in np.sort(rng.integers(0, image.shape[0], tip_changes)):
        gain = np.where(np.arange(image.shape[0]) >= row, np.exp(rng.normal(0, 0.2)), 1.0)[:, None]
        offset = np.where(np.arange(image.shape[0]) >= row, height * rng.normal(0, 0.8), 0.0)[:, None]
        image = (image * gain + offset).astype(np.float32)
    image = detector.add_background(image, ramp=(height * plane[0], height * plane[1]))
    image = detector.add_line_noise(image, rng, sigma=height * lines, drift=height * wander)
    return detector.add_readout(image, rng, sigma=height * noise)
