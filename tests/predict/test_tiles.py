"""The map does not depend on the tiles, and only what is needed is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.columns import HALO, STRIDE, WINDOW_HALO, UNet
from atomreel.predict.tiles import EMPTY, map_tiles
from atomreel.prepare.scale import zoomed_shape


class Watched:
    """An array that remembers the largest piece that was asked for."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape, self.largest = data, data.shape, 0

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        piece = self.data[key]
        self.largest = max(self.largest, piece.size)
        return piece


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    """Random but fixed weights."""
    net = UNet(8).eval().requires_grad_(False)
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.copy_(torch.from_numpy(rng.normal(0, 0.15, tuple(p.shape)).astype(np.float32)))
    return net


def whole(net: torch.nn.Module, image: object, zoom: float, tile: int) -> np.ndarray:
    out = np.full(zoomed_shape(image.shape, zoom), np.nan, dtype=np.float32)  # type: ignore[attr-defined]
    with torch.no_grad():
        for t in map_tiles(image, net, zoom=zoom, tile=tile):  # type: ignore[arg-type]
            (y0, y1), (x0, x1) = t.core
            out[y0:y1, x0:x1] = t.values[y0 - t.rows[0] : y1 - t.rows[0], x0 - t.cols[0] : x1 - t.cols[0]]
    return out


@pytest.mark.parametrize(("zoom", "shape"), [(1.0, (333, 410)), (0.43, (900, 700)), (1.6, (210, 190))])
def test_any_tile_gives_the_same_map(net: torch.nn.Module, zoom: float, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).poisson(3.0, shape).astype(np.float32)
    one = whole(net, image, zoom, 4096)
    assert np.isfinite(one).all()
    assert one.std() > 0.01
    for tile in (64, 136):
        assert np.abs(whole(net, image, zoom, tile) - one).max() < 1e-4 * np.abs(one).max()


def test_little_is_read_at_a_time(net: torch.nn.Module) -> None:
    image = Watched(np.random.default_rng(3).random((700, 700)).astype(np.float32))
    whole(net, image, 1.0, 64)
    reach = STRIDE + HALO + WINDOW_HALO  # what can change the values of a tile and of its neighbourhoods
    assert image.largest <= (64 + 2 * reach + 1) ** 2 < 500**2


@pytest.mark.parametrize("shape", [(2, 2), (5, 40), (16, 9)])
def test_tiny_images_pass(net: torch.nn.Module, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(4).random(shape).astype(np.float32)
    assert np.isfinite(whole(net, image, 1.0, 64)).all()


class Counted:
    """The network, and how often it was asked."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.net, self.asked = net, 0

    def __call__(self, piece: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return self.net(piece)  # type: ignore[no-any-return]


def far_half() -> np.ndarray:
    """Counts in the left 200 columns of 200 × 1000; the rest holds one value, as padding does."""
    image = np.full((200, 1000), 7.0, np.float32)
    image[:, :200] = np.random.default_rng(5).poisson(7.0, (200, 200))
    return image


@pytest.mark.parametrize("level", [0.0, 7.0, -3.3, 1e4 + 0.1])
@pytest.mark.parametrize("zoom", [1.0, 0.43, 1.6])
def test_where_nothing_was_recorded_nobody_asks_the_network(
    net: torch.nn.Module, level: float, zoom: float
) -> None:
    """Rounding in the zoom must not count as content."""
    asked = Counted(net)
    empty = whole(asked, np.full((150, 170), level, np.float32), zoom, 64)  # type: ignore[arg-type]
    assert asked.asked == 0
    assert (empty == EMPTY).all()


def test_only_tiles_that_see_nothing_are_skipped(net: torch.nn.Module) -> None:
    """Within reach of any content the map is that of the whole image; a logit of −20 is no column anywhere."""
    asked = Counted(net)
    one, tiled = whole(net, far_half(), 1.0, 4096), whole(asked, far_half(), 1.0, 64)  # type: ignore[arg-type]
    skipped = (tiled == EMPTY).all(axis=0)
    assert asked.asked < 4 * -(-1000 // 64)
    assert not skipped[: 200 + HALO + WINDOW_HALO].any() and skipped[-64:].all()
    assert np.abs(tiled - one)[:, ~skipped].max() < 1e-4 * np.abs(one).max()
    assert 1 / (1 + np.exp(-EMPTY)) < 1e-8


def test_a_faint_thing_is_no_emptiness(net: torch.nn.Module) -> None:
    image = np.full((64, 64), 1000.0, np.float32)
    image[32, 32] += 0.1
    assert not (whole(net, image, 1.0, 64) == EMPTY).any()
