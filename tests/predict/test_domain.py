"""Whether the model knows what it sees: crystals of a generator of its own, and things that are none."""

from __future__ import annotations

import time

import numpy as np
import pytest

from atomreel.core.field import Field
from atomreel.predict.columns import find_columns
from atomreel.predict.domain import (
    CELL,
    FEATURES,
    Weights,
    describe,
    domain_at,
    doubts,
    expand,
    features,
    known,
    load_weights,
)


def crystal(
    rng: np.random.Generator, side: int = 256, *, spacing: float = 10.0, counts: float = 40
) -> np.ndarray:
    """A hexagonal lattice of Gaussians with Poisson noise."""
    y, x = np.mgrid[:side, :side]
    turn = rng.uniform(0, np.pi)
    mean = np.zeros((side, side))
    n = int(side / spacing) + 2
    for i in range(-2 * n, 2 * n):
        for j in range(-2 * n, 2 * n):
            v = spacing * (i * np.exp(1j * turn) + j * np.exp(1j * (turn + np.pi / 3))) + side / 2 * (1 + 1j)
            if -9 < v.real < side + 9 and -9 < v.imag < side + 9:
                top, left = max(0, int(v.real) - 9), max(0, int(v.imag) - 9)
                part = (slice(top, int(v.real) + 10), slice(left, int(v.imag) + 10))
                mean[part] += np.exp(
                    -((y[part] - v.real) ** 2 + (x[part] - v.imag) ** 2) / (2 * (0.25 * spacing) ** 2)
                )
    return rng.poisson(counts * mean + 2).astype(np.float32)


def test_white_noise_loses_three_quarters_of_its_power_at_every_step() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((256, 256)).astype(np.float32)
    told = describe(noise, np.full((256, 256), -5, np.float32)).mean((1, 2))
    assert told.shape == (17,)
    assert np.allclose(told[[0, 3, 15, 16]], [1, 1 / 4, 1 / 16, 1 / 64], rtol=0.1)


def test_cells_do_not_depend_on_what_lies_beyond_their_neighbours() -> None:
    rng = np.random.default_rng(2)
    image, logits = rng.standard_normal((2, 96, 96)).astype(np.float32)
    whole, part = describe(image, logits), describe(image[16:80, 16:80], logits[16:80, 16:80])
    assert whole.shape[1:] == (12, 12) and CELL == 8
    assert np.allclose(whole[:, 3:9, 3:9], part[:, 1:7, 1:7], atol=1e-5)
    assert describe(image[:20, :13], logits[:20, :13]).shape[1:] == (3, 2)


def test_a_lattice_is_regular_and_scattered_points_are_not() -> None:
    rng = np.random.default_rng(3)
    flat = describe(np.zeros((160, 160), np.float32), np.zeros((160, 160), np.float32))
    grid = np.stack(np.meshgrid(np.arange(4, 160, 8.0), np.arange(4, 160, 8.0)), -1).reshape(-1, 2)
    random = rng.uniform(0, 160, grid.shape)
    order, scatter = (FEATURES.index(name) for name in ("order", "scatter"))
    regular, wild = (
        features(flat, at, np.full(len(at), 4.0))[:, 5:15, 5:15].mean((1, 2)) for at in (grid, random)
    )
    assert regular[order] < 0.01 and regular[scatter] < 0.01
    assert wild[order] > 0.3 and wild[scatter] > 0.2
    assert np.isfinite(features(flat, np.zeros((0, 2)), np.zeros(0))).all()


def test_the_probability_falls_with_the_distance_from_what_is_known() -> None:
    n = len(FEATURES)
    weights = Weights(np.zeros(n), np.ones(n), np.eye(n), np.r_[np.zeros(2 * n), -1.0], 2.0)
    assert expand(np.zeros((3, n)), weights).shape == (3, 2 * n + 1)
    p = known(np.outer(np.ones(n), [0, 0.5, 1, 2, 4, 50]), weights)
    assert (np.diff(p[:-1]) < 0).all() and p[-1] == p[-2], "beyond CLIP it says no more"
    assert np.isclose(p[0], 1 / (1 + np.exp(-2)))


def test_the_map_is_read_between_its_cells() -> None:
    field = Field({"domain": np.array([[0.0, 1.0], [0.0, 1.0]])}, (3.5, 3.5), (8.0, 8.0))
    at = np.array([[3.5, 3.5], [5.0, 7.5], [11.5, 11.5], [0.0, 90.0]])
    assert np.allclose(domain_at(field, at), [0, 0.5, 1, 1])


def test_weights_fit_the_features() -> None:
    weights = load_weights()
    n = len(FEATURES)
    assert weights.centre.shape == weights.spread.shape == (n,) and weights.linear.shape == (2 * n + 1,)
    assert (weights.spread > 0).all() and (np.linalg.eigvalsh(weights.precision) > 0).all()


def test_crystals_are_known() -> None:
    for seed, spacing in enumerate((7.0, 10.0, 16.0)):
        found = find_columns(crystal(np.random.default_rng(seed), spacing=spacing), refine=False)
        assert (found.table.domain > 0.5).mean() > 0.95
        assert (found.known.maps["domain"] > 0.5).mean() > 0.9
        assert not any("domain" in text for text in found.warnings)


def test_what_is_no_crystal_is_marked_and_warned_about() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :256]
    blobs = sum(np.hypot(y - cy, x - cx) < r for cy, cx, r in rng.uniform((0, 0, 5), (256, 256, 28), (60, 3)))
    foreign = {
        "noise": rng.poisson(3.0, (256, 256)),
        "planes": rng.poisson(30 + 20 * np.cos(2 * np.pi * (y + 0.3 * x) / 9)),
        "discs": rng.poisson(10 + 60 * np.minimum(blobs, 1)),
        "steps": rng.poisson(20 + 40 * (y // 37 % 2) + 30 * (x // 53 % 2)),
    }
    for name, image in foreign.items():
        found = find_columns(image.astype(np.float32), refine=False)
        assert (found.known.maps["domain"] < 0.5).mean() > 0.8, name
        assert any("domain" in text for text in found.warnings), name


def test_the_border_of_a_crystal_is_found_in_the_map() -> None:
    rng = np.random.default_rng(6)
    image = crystal(rng, side=320)
    image[:, 160:] = rng.poisson(8.0, (320, 160))
    found = find_columns(image, refine=False)
    domain = found.known.maps["domain"]
    x = found.known.positions()[1]
    assert (domain[:, x < 120] > 0.5).mean() > 0.9 and (domain[:, x > 200] < 0.5).mean() > 0.9


def test_nothing_at_all_is_unknown() -> None:
    found = find_columns(np.zeros((64, 80)), refine=False)
    assert (found.known.maps["domain"] == 0).all()


def test_doubts() -> None:
    some = Field({"domain": np.full((4, 4), 0.9)}, (0, 0), (8, 8))
    none = Field({"domain": np.full((4, 4), 0.1)}, (0, 0), (8, 8))
    assert doubts(np.full(10, 0.9), some) == [] == doubts(np.zeros(0), some)
    assert len(doubts(np.full(10, 0.2), some)) == len(doubts(np.full(10, 0.9), none)) == 1
    assert len(doubts(np.full(10, 0.2), none)) == 2


@pytest.mark.slow
def test_it_costs_little() -> None:
    rng = np.random.default_rng(7)
    image, logits = rng.standard_normal((2, 512, 512)).astype(np.float32)
    at, weights = rng.uniform(0, 512, (3000, 2)), load_weights()
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        known(features(describe(image, logits), at, np.full(3000, 3.0)), weights)
        best = min(best, time.process_time() - start)
    assert best < 0.05  # measured: docs/columns.md
