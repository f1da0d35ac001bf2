"""Blob centres against Gaussians drawn pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.blobs import find_blobs


def drawn(centres: np.ndarray, heights: np.ndarray, *, sigma: float, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for (cy, cx), height in zip(centres, heights, strict=True):
        out += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return out


def scattered(rng: np.random.Generator, shape: tuple[int, int], gap: float) -> np.ndarray:
    """Centres on a coarse grid, each moved by up to a pixel."""
    grid = np.stack(np.meshgrid(*(np.arange(gap, n - gap, gap) for n in shape), indexing="ij"), -1)
    grid = grid.reshape(-1, 2)
    return grid + rng.uniform(-1, 1, grid.shape)


@pytest.mark.parametrize("sigma", [1.5, 2.0, 4.0])
def test_centres_heights_and_sizes_of_gaussians(sigma: float, rng: np.random.Generator) -> None:
    shape = (40 * int(sigma), 44 * int(sigma) + 5)
    centres = scattered(rng, shape, 9 * sigma)
    heights = rng.uniform(0.3, 1.0, len(centres))
    found = find_blobs(drawn(centres, heights, sigma=sigma, shape=shape), sigma)
    assert len(found.position) == len(centres)
    order = np.argmin(np.linalg.norm(found.position[:, None] - centres[None], axis=2), axis=1)
    assert sorted(order) == list(range(len(centres)))
    assert np.abs(found.position - centres[order]).max() < 0.05
    np.testing.assert_allclose(found.score, heights[order], rtol=0.06)
    assert np.all(found.sigma == sigma)
    assert np.abs(found.pixel - found.position).max() <= 0.5


def test_noise_between_the_blobs_is_left_out_and_neighbours_are_kept_apart(rng: np.random.Generator) -> None:
    centres = np.array([[20.0, 20.0], [20.0, 26.0], [45.3, 31.8]])
    image = drawn(centres, np.array([0.9, 0.8, 0.4]), sigma=1.5, shape=(64, 64))
    found = find_blobs(image + rng.normal(0, 0.03, image.shape), 1.5, threshold=0.2)
    assert len(found.position) == 3
    gap = np.linalg.norm(found.position[:, None] - centres[None], axis=2).min(0)
    assert gap.max() < 0.25


def test_a_blob_beats_its_pixel_maximum_in_noise(rng: np.random.Generator) -> None:
    """The filter averages over the blob; the brightest pixel does not."""
    by_filter, by_pixel = [], []
    for _ in range(60):
        centre = 12 + rng.uniform(-0.5, 0.5, (1, 2))
        image = drawn(centre, np.ones(1), sigma=2.0, shape=(25, 25)) + rng.normal(0, 0.15, (25, 25))
        found = find_blobs(image, 2.0)
        by_filter.append(np.linalg.norm(found.position[found.score.argmax()] - centre))
        by_pixel.append(np.linalg.norm(np.unravel_index(image.argmax(), image.shape) - centre))
    assert np.median(by_filter) < 0.5 * np.median(by_pixel)


def test_a_flat_top_counts_once() -> None:
    image = np.zeros((30, 30))
    image[14:16, 14:16] = 1.0
    found = find_blobs(image, 1.5)
    assert len(found.position) == 1
    np.testing.assert_allclose(found.position, [[14.5, 14.5]], atol=1e-6)


def test_an_empty_map_has_none_and_nothing_is_changed() -> None:
    image = np.zeros((16, 16))
    assert find_blobs(image, 1.5).position.shape == (0, 2)
    assert not image.any()


@pytest.mark.parametrize(
    ("values", "radius", "words"),
    [
        (np.zeros(5), 1.5, "two-dimensional"),
        (np.full((5, 5), np.nan), 1.5, "finite"),
        (np.zeros((0, 5)), 1.5, "shape"),
        (np.zeros((5, 5)), 0.0, "radius"),
        (np.zeros((5, 5)), np.nan, "radius"),
    ],
)
def test_bad_input(values: np.ndarray, radius: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_blobs(values, radius)
    with pytest.raises(InputError, match="scales"):
        find_blobs(np.zeros((5, 5)), 1.0, scales=())
