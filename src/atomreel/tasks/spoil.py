"""Cutting, turning and spoiling simulated images, so that one serves many times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atomreel.prepare.scale import zoom_image, zoomed_shape

FloatArray = npt.NDArray[np.float32]


def turn(image: FloatArray, columns: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """One of the eight mirrors and quarter turns of a square image."""
    last = np.array(image.shape, dtype=np.float32) - 1
    for axis in (0, 1):
        if rng.random() < 0.5:
            image = np.flip(image, axis)
            columns = columns.copy()
            columns[:, axis] = last[axis] - columns[:, axis]
    if rng.random() < 0.5:
        image, columns = image.T, columns[:, ::-1]
    return image, columns


def spoil(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """What the simulator leaves out: a detector that is not linear, slow shading, line offsets, a little more noise."""
    ny, nx = image.shape
    if rng.random() < 0.3:
        low = float(image.min())
        span = max(float(np.quantile(image, 0.999)) - low, 1e-6)
        image = span * ((image - low) / span) ** float(rng.uniform(0.6, 1.6))
    if rng.random() < 0.3:
        shade = ndimage.zoom(rng.normal(0, rng.uniform(0, 1.5), (3, 3)), (ny / 3, nx / 3), order=1)
        image = image + float(image.std()) * shade.astype(np.float32)
    if rng.random() < 0.15:
        image = image + float(image.std()) * rng.normal(0, rng.uniform(0, 0.5), (ny, 1)).astype(np.float32)
    if rng.random() < 0.15:
        image = ndimage.gaussian_filter(image, float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.2:
        image = image + float(image.std()) * rng.normal(0, rng.uniform(0, 0.5), (ny, nx)).astype(np.float32)
    return image


def cut(
    image: FloatArray, side: int, rng: np.random.Generator, *, spacing: float, wanted: tuple[float, float]
) -> tuple[FloatArray, float, tuple[int, int]]:
    """A piece of `side` px, zoomed to a random spacing in the wanted range; its zoom and its corner.

    An image too small for that is zoomed further, until the piece fits.
    """
    zoom = float(np.exp(rng.uniform(*np.log(wanted)))) / spacing
    zoom = max(zoom, side / min(image.shape))
    ny, nx = zoomed_shape((image.shape[0], image.shape[1]), zoom)
    y, x = int(rng.integers(0, ny - side + 1)), int(rng.integers(0, nx - side + 1))
    return zoom_image(image, zoom, rows=(y, y + side), cols=(x, x + side)), zoom, (y, x)
