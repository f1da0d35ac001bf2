"""Changing the sampling of an image, tile by tile, and reading its scale off its spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

FloatArray = npt.NDArray[np.float32]


def zoomed_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Shape of an image of `shape` after `zoom`: the last pixel may be part outside."""
    ny, nx = (max(1, int(np.ceil(n * zoom - 1e-9))) for n in shape)
    return ny, nx


def to_zoomed(position: npt.NDArray[np.float64], zoom: float) -> npt.NDArray[np.float64]:
    """Coordinates [px] of the source in the zoomed image; outer edges of the two coincide."""
    return (position + 0.5) * zoom - 0.5


def from_zoomed(position: npt.NDArray[np.float64], zoom: float) -> npt.NDArray[np.float64]:
    """Inverse of `to_zoomed`."""
    return (position + 0.5) / zoom - 0.5


@dataclass(frozen=True)
class ZoomAxis:
    """weights @ source[first:last] gives the zoomed pixels of one axis."""

    weights: sparse.csr_array
    first: int
    last: int


def zoom_axis(length: int, zoom: float, span: tuple[int, int]) -> ZoomAxis:
    """Weights of zoomed pixels `span` (start, stop) from a source of `length` pixels.

    zoom ≤ 1 averages the area that a pixel covers (so that counts add up and nothing aliases);
    zoom > 1 is Keys' cubic convolution (1981, a = −½). A pixel depends on its own number only, so
    any tile of the zoomed image is exactly a cut from the whole.
    """
    start, stop = span
    centre = from_zoomed(np.arange(start, stop, dtype=float), zoom)
    if zoom <= 1:
        half = 0.5 / zoom
        low, high = np.maximum(centre - half, -0.5), np.minimum(centre + half, length - 0.5)
        count = int(np.ceil(1 / zoom)) + 1
        source = np.floor(low + 0.5).astype(int)[:, None] + np.arange(count)
        share = np.minimum(high[:, None], source + 0.5) - np.maximum(low[:, None], source - 0.5)
        weight = np.maximum(share, 0.0)
        weight /= weight.sum(1, keepdims=True)
    else:
        source = np.floor(centre).astype(int)[:, None] + np.arange(-1, 3)
        weight = _keys(np.abs(source - centre[:, None]))
    source = np.clip(source, 0, length - 1)
    first, last = int(source.min()), int(source.max()) + 1
    rows = np.repeat(np.arange(stop - start), source.shape[1])
    matrix = sparse.csr_array(
        (weight.ravel().astype(np.float32), (rows, source.ravel() - first)),
        shape=(stop - start, last - first),
    )
    return ZoomAxis(matrix, first, last)


def _keys(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def zoom_image(
    image: npt.ArrayLike,
    zoom: float,
    *,
    rows: tuple[int, int] | None = None,
    cols: tuple[int, int] | None = None,
) -> FloatArray:
    """(Y, X) → the zoomed image, or its rows and columns [start, stop) only, float32.

    Anything that can be sliced will do; only the part that is needed is read. Values that are not
    finite become the mean of the finite ones of that part.
    """
    array = image if hasattr(image, "shape") and hasattr(image, "__getitem__") else np.asarray(image)
    ny, nx = (int(n) for n in array.shape)
    my, mx = zoomed_shape((ny, nx), zoom)
    y, x = zoom_axis(ny, zoom, rows or (0, my)), zoom_axis(nx, zoom, cols or (0, mx))
    part = np.asarray(array[y.first : y.last, x.first : x.last], dtype=np.float32)  # type: ignore[index]
    bad = ~np.isfinite(part)
    if bad.any():
        part = np.where(bad, part[~bad].mean() if not bad.all() else 0.0, part).astype(np.float32)
    return np.ascontiguousarray((x.weights @ (y.weights @ part).T).T.astype(np.float32))


@dataclass(frozen=True)
class SpectralScale:
    """spacing: of the strongest lattice planes [px]. strength: height of their spot over the noise of its ring, in
    standard deviations; below about 8 an image shows no lattice."""

    spacing: float
    strength: float


def spectral_spacing(image: npt.ArrayLike, *, shortest: float = 2.5) -> SpectralScale:
    """The spacing of the strongest periodicity of `image` (Y, X), from its power spectrum.

    A spot is judged against the spread of log power in its own ring, so steep backgrounds do not count.
    Spacings under `shortest` px or over a sixth of the image are not considered.
    """
    data = np.nan_to_num(np.asarray(image, dtype=np.float32))
    ny, nx = data.shape
    flat = data - ndimage.gaussian_filter(data, min(ny, nx) / 8)
    window = np.hanning(ny)[:, None] * np.hanning(nx)
    power = np.log(np.abs(np.fft.rfft2(flat * window)) ** 2 + 1e-20)
    power = ndimage.gaussian_filter(power, 0.7, mode="wrap")
    q = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx))
    ring = (q * min(ny, nx)).astype(int)
    use = (q > 6 / min(ny, nx)) & (q < 1 / shortest)
    if not use.any() or not np.isfinite(power).all():
        return SpectralScale(float("nan"), 0.0)
    count = np.maximum(np.bincount(ring[use], minlength=ring.max() + 1), 1)
    mean = np.bincount(ring[use], power[use], minlength=len(count)) / count
    square = np.bincount(ring[use], power[use] ** 2, minlength=len(count)) / count
    spread = np.median(np.sqrt(np.maximum(square - mean**2, 0))[np.unique(ring[use])])
    height = np.where(use, (power - mean[ring]) / max(float(spread), 1e-9), -np.inf)
    best = np.unravel_index(int(np.argmax(height)), height.shape)
    return SpectralScale(float(1 / q[best]), float(height[best]))
