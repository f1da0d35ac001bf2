"""Zone axis and lattice from positions: cut out of an fcc crystal here, not by the code under test."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from atomreel.predict.stacking import ZONES, empty_sites, find_stack

GOLD = 4.078
AXES = {"110": (1, -1, 0), "100": (0, 0, 1), "111": (1, 1, 1)}


def projected(zone: str, angle: float, radius: float = 11.0) -> tuple[np.ndarray, np.ndarray]:
    """Columns (N, 2) of a ball of fcc atoms seen along `zone`, and the height of one atom of each, modulo the period."""
    z = np.array(AXES[zone], dtype=float) / np.linalg.norm(AXES[zone])
    y = np.cross(z, [0.3, 0.5, 0.8])
    y /= np.linalg.norm(y)
    half = np.array([h for h in product(range(-8, 9), repeat=3) if sum(h) % 2 == 0]) * GOLD / 2
    half = half[np.linalg.norm(half - 0.4, axis=1) < radius]
    flat = half @ np.stack([y, np.cross(z, y)]).T
    c, s = np.cos(angle), np.sin(angle)
    flat = flat @ np.array([[c, s], [-s, c]]) + (20.3, 17.1)
    _, first = np.unique(np.rint(flat * 50), axis=0, return_index=True)
    return flat[first], (half @ z)[first]


@pytest.mark.parametrize("zone", AXES)
@pytest.mark.parametrize("angle", [0.1, 1.7])
def test_zone_and_layers(zone, angle, rng):
    at, height = projected(zone, angle)
    stack = find_stack(1.008 * at + rng.normal(0, 0.08, at.shape), GOLD)
    assert stack is not None and stack.zone == zone and stack.member.all()
    assert np.hypot(*(stack.place(stack.site) - 1.008 * at).T).max() < 0.1
    known = ZONES[zone]
    turns = height / (
        known.step * GOLD * known.layers
    )  # of the period: layer / layers, whatever the origin and sense
    layer = stack.layer(stack.site) / known.layers
    fits = [np.abs(np.exp(2j * np.pi * (turns - sense * layer)).mean()) for sense in (1, -1)]
    assert max(fits) == pytest.approx(1, abs=1e-6)


def test_strays_and_doubles_are_no_members(rng):
    at, _ = projected("110", 0.6)
    more = np.vstack([at, at[5] + 0.3, at.mean(0) + np.array([0.9, 1.0])])
    stack = find_stack(more, GOLD)
    assert stack is not None
    assert stack.member[: len(at)].all() and not stack.member[-2]


def test_empty_sites_surround_and_fill(rng):
    at, _ = projected("110", 0.6)
    inside = int(np.argmin(np.hypot(*(at - at.mean(0)).T)))
    stack = find_stack(np.delete(at, inside, axis=0), GOLD)
    assert stack is not None
    free = stack.place(empty_sites(stack))
    assert np.hypot(*(free - at[inside]).T).min() < 0.05
    distance = np.linalg.norm(free[:, None] - at, axis=2).min(1)
    assert (np.sort(distance)[1:] > 2.3).all() and distance.max() < 3.0 and len(free) > 12


def test_no_lattice(rng):
    assert find_stack(rng.uniform(0, 25, (60, 2)), GOLD) is None
    assert find_stack(rng.uniform(0, 25, (3, 2)), GOLD) is None
    at, _ = projected("110", 0.6)
    assert find_stack(1.12 * at, GOLD) is None
