"""Counting atoms from cross-sections: number of classes, labels, offsets, probabilities, against drawn truth."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.sections import count_atoms, cross_sections


def drawn(rng, *, low=1, high=8, n=300, spread=0.1, unit=2.0, bend=0.0, error=0.0):
    """Cross-sections of columns of low … high atoms: unit each, an optional bend, scatter and measurement error."""
    atoms = rng.integers(low, high + 1, n)
    true = unit * (atoms - bend * atoms**2) + spread * unit * rng.standard_normal(n)
    return true + error * rng.standard_normal(n), atoms


def test_number_of_components_and_labels(rng):
    right = []
    for _ in range(10):
        value, atoms = drawn(rng, spread=0.12)
        found = count_atoms(value, max_components=12)
        right.append(len(found.mixture.means) == 8)
        assert found.first == 1
        assert found.unit == pytest.approx(2.0, rel=0.02)
        assert (found.counts == atoms).mean() > 0.985
    assert np.mean(right) >= 0.9


def test_a_population_without_steps_is_not_cut(rng):
    """Thickness that no atom counts: scatter as wide as the steps leaves nothing to count, and ICL says so."""
    counted = [
        len(count_atoms(drawn(rng, spread=0.7, n=150)[0], max_components=10).mixture.means) for _ in range(10)
    ]
    assert max(counted) <= 3
    bic = [
        min(f.tried.values(), key=lambda m: m.bic) for f in [count_atoms(drawn(rng)[0], max_components=10)]
    ]
    assert len(bic[0].means) == 8


def test_thick_particles_keep_their_offset(rng):
    """Without one to three atoms anywhere, the line through the origin tells that the dimmest class has four."""
    hits = 0
    for _ in range(10):
        value, atoms = drawn(rng, low=4, high=10, spread=0.08)
        found = count_atoms(value, max_components=12)
        hits += found.first == 4 and bool((found.counts == atoms).mean() > 0.97)
    assert hits >= 9


def test_a_known_atom_settles_the_offset_where_the_curve_bends(rng):
    value, atoms = drawn(rng, low=2, high=8, spread=0.06, bend=0.02, n=500)
    found = count_atoms(value, spacing="free", max_components=11, unit=2.0)
    assert found.first == 2
    assert (found.counts == atoms).mean() > 0.98
    assert found.offset_misfit[2] < 0.2 < found.offset_misfit[1]


def test_an_empty_class_in_between_is_kept_with_equal_spacing(rng):
    atoms = rng.choice([1, 2, 3, 5, 6], 300)
    found = count_atoms(atoms + 0.08 * rng.standard_normal(300), max_components=10)
    assert len(found.mixture.means) == 6
    assert (found.counts == atoms).all()


def test_probabilities_are_calibrated(rng):
    """What is claimed at 0.5 … 0.95 comes true that often, with scatter and with errors that differ by column."""
    claimed, right = [], []
    for _ in range(8):
        atoms = rng.integers(1, 7, 1500)
        error = rng.choice([0.05, 0.25], 1500)
        value = atoms + 0.2 * rng.standard_normal(1500) + error * rng.standard_normal(1500)
        found = count_atoms(value, error, max_components=9)
        if len(found.mixture.means) == 6:
            claimed.append(found.count_p)
            right.append(found.counts == atoms)
    p, hit = np.concatenate(claimed), np.concatenate(right)
    assert len(claimed) >= 6
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.0)):
        inside = (p >= low) & (p < high)
        chance = 3 * np.sqrt((p * (1 - p))[inside].mean() / inside.sum())
        assert hit[inside].mean() == pytest.approx(p[inside].mean(), abs=chance)


def test_cross_sections_of_columns_with_known_volume(rng):
    """Gaussian columns of known volume on a background: integration over cells gives the volume back, errors its scatter."""
    y, x = np.mgrid[:120, :120]
    at = np.stack(np.meshgrid(np.arange(15, 110, 15.0), np.arange(15, 110, 15.0)), -1).reshape(-1, 2)
    at = at + rng.uniform(-0.5, 0.5, at.shape)
    volume = rng.integers(1, 6, len(at)) * 30.0
    image = 0.2 + sum(
        v / (2 * np.pi * 9) * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18)
        for v, (a, b) in zip(volume, at, strict=True)
    )
    inner = np.all((at > 20) & (at < 100), axis=1)
    clean = cross_sections(image, at, pixel=0.1, background=0.2)
    assert clean.section[inner] == pytest.approx(
        volume[inner] * 0.01, rel=0.08
    )  # a neighbour five times as bright spills over
    seen = [
        cross_sections(image + 0.05 * rng.standard_normal(image.shape), at, pixel=0.1, variance=0.05**2)
        for _ in range(200)
    ]
    scatter = np.std([s.section for s in seen], axis=0)
    assert scatter == pytest.approx(seen[0].error, rel=0.2)
    assert int(clean.pixels[inner].min()) > 150


def test_bad_input():
    with pytest.raises(InputError, match="at least 3"):
        count_atoms([1.0, 2.0])
    with pytest.raises(InputError, match="N"):
        count_atoms([1.0, 2.0, np.nan])
    with pytest.raises(InputError, match="spacing"):
        count_atoms([1.0, 2.0, 3.0], spacing="even")
    with pytest.raises(InputError, match="image"):
        cross_sections(np.zeros(4), [[1, 1]], pixel=0.1)
    assert len(cross_sections(np.zeros((4, 4)), np.zeros((0, 2)), pixel=0.1).section) == 0
