"""Running a network over an image of any size in tiles whose results do not depend on the tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from atomreel.nets.columns import HALO, STRIDE, WINDOW_HALO, local_normalise
from atomreel.prepare.scale import zoom_image, zoomed_shape

FloatArray = npt.NDArray[np.float32]
EMPTY = -20.0  # logit where everything in reach has one value: padding, nothing recorded
TILE = 768  # px: bounds the memory to about half a GiB


@dataclass(frozen=True)
class Tile:
    """A piece of the zoomed image: maps of rows and cols [start, stop), of which `core` belongs to this tile alone.

    values: what the network makes of it. seen: the normalised image that it was given.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    core: tuple[tuple[int, int], tuple[int, int]]
    values: FloatArray
    seen: FloatArray


def map_tiles(
    image: npt.ArrayLike,
    network: Callable[[torch.Tensor], torch.Tensor],
    *,
    zoom: float,
    sign: float = 1.0,
    tile: int = TILE,
    margin: int = STRIDE,
) -> Iterator[Tile]:
    """`network` (normalised (1, 1, Y, X) → (1, 1, Y, X)) over `sign` · `image` at `zoom`, tile by tile.

    tile: side of a core [px], in whole strides. margin: px beyond the core that are given too (rounded up to
    whole strides), so that neighbourhoods can be looked at. Tiles start at whole strides and see everything that could
    change their values, so any tile size gives the same map to within rounding.
    """
    shape = zoomed_shape(np.shape(image)[:2], zoom)
    whole = (-(-shape[0] // STRIDE) * STRIDE, -(-shape[1] // STRIDE) * STRIDE)
    tile = max(STRIDE, tile // STRIDE * STRIDE)
    margin = -(-margin // STRIDE) * STRIDE
    for y in range(0, shape[0], tile):
        for x in range(0, shape[1], tile):
            core = ((y, min(y + tile, shape[0])), (x, min(x + tile, shape[1])))
            given, seen, read = (
                [
                    (max(0, low - reach), min(n, -(-high // STRIDE) * STRIDE + reach))
                    for (low, high), n in zip(core, whole, strict=True)
                ]
                for reach in (margin, margin + HALO, margin + HALO + WINDOW_HALO)
            )
            data = _read(image, zoom, read, shape)
            ends = [(low, min(high, n)) for (low, high), n in zip(given, shape, strict=True)]
            size = (ends[0][1] - ends[0][0], ends[1][1] - ends[1][0])
            if np.ptp(data) <= 1e-5 * np.abs(data).max():  # beyond rounding in the zoom
                blank = np.zeros(size, dtype=np.float32)
                yield Tile(ends[0], ends[1], core, blank + np.float32(EMPTY), blank)
                continue
            part = _crop(local_normalise(torch.from_numpy(sign * data)[None, None]), seen, read)
            values = network(part.contiguous(memory_format=torch.channels_last))
            maps = (_crop(m, given, seen)[0, 0, : size[0], : size[1]].float().numpy() for m in (values, part))
            yield Tile(ends[0], ends[1], core, *maps)


def _read(
    image: npt.ArrayLike, zoom: float, part: list[tuple[int, int]], shape: tuple[int, int]
) -> FloatArray:
    """Rows and columns of the zoomed image, mirrored beyond its far edges."""
    inside = [(low, min(high, n)) for (low, high), n in zip(part, shape, strict=True)]
    data = zoom_image(image, zoom, rows=inside[0], cols=inside[1])
    fill = [(0, outer[1] - inner[1]) for outer, inner in zip(part, inside, strict=True)]
    return np.pad(data, fill, "symmetric") if any(b for _, b in fill) else data


def _crop(
    values: torch.Tensor, wanted: list[tuple[int, int]], present: list[tuple[int, int]]
) -> torch.Tensor:
    (y0, y1), (x0, x1) = (
        (low - first, high - first) for (low, high), (first, _) in zip(wanted, present, strict=True)
    )
    return values[..., y0:y1, x0:x1]
