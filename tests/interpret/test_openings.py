"""Crystals with sites taken out at random, made from numpy alone."""

import crystals
import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.lattice import fit_lattices
from atomreel.interpret.openings import find_openings

SHAPE = (300, 320)


def pitted(kind, rng, *, radius, singles, centre=(150, 160)):
    """(atoms, share of the field in the hole, share in single vacancies): every bright site counts as its part of a cell."""
    a, b, gamma, motif = kind
    bright = [k for k, (_, light) in enumerate(motif) if light > 0.5]
    whole = crystals.crystal(kind, SHAPE, rng, noise=0.15, bright=0.1)
    heavy = whole.truth_site.isin(bright).to_numpy()
    away = np.hypot(whole.truth_y - centre[0], whole.truth_x - centre[1]).to_numpy()
    gone = away < radius
    field = whole[["truth_y", "truth_x"]].to_numpy()
    inner = np.all((field > 30) & (field < np.array(SHAPE) - 31), axis=1)
    free = rng.permutation(np.flatnonzero(heavy & inner & (away > radius + 2 * a)))
    alone: list[int] = []
    for i in free:
        apart = [np.hypot(*(field[i] - field[j])) > 2.5 * a for j in alone]
        if len(alone) < singles and all(apart):
            alone.append(int(i))
    share = a * b * np.sin(np.deg2rad(gamma)) / len(bright) / np.prod(SHAPE)
    keep = ~gone
    keep[alone] = False
    return whole[keep].reset_index(drop=True), (gone & heavy).sum() * share, len(alone) * share


@pytest.mark.parametrize("name", ["HONEYCOMB", "DICHALCOGENIDE", "KAGOME", "OBLIQUE"])
def test_holes_and_vacancies_are_counted_apart(name, rng):
    atoms, hole, singles = pitted(getattr(crystals, name), rng, radius=45, singles=9)
    found = find_openings(atoms, fit_lattices(atoms, shape=SHAPE), shape=SHAPE)
    # Vacancies are kept off the rim here, while the count takes off those that would touch it by chance.
    rim = 2 * np.pi * np.sqrt(hole / np.pi / found.unit) * found.unit  # about a site per site's width
    touching = rim * singles / (1 - hole)
    assert hole - 2 * touching < found.holes < hole + 0.01 * hole
    assert found.vacancies == pytest.approx(singles, rel=0.02)
    assert found.unit == pytest.approx(singles / 9, rel=0.01)
    mask = found.mask(SHAPE)
    assert mask.mean() == pytest.approx(hole, rel=0.05) and mask[150, 160] and not mask[20, 20]


def test_a_perfect_crystal_has_none_and_covers_the_field(rng):
    atoms, _, _ = pitted(crystals.DICHALCOGENIDE, rng, radius=0, singles=0)
    found = find_openings(atoms, fit_lattices(atoms, shape=SHAPE), shape=SHAPE)
    assert found.holes == found.vacancies == found.holes_err == 0
    assert found.share.sum() == pytest.approx(1.0)


def test_faint_columns_do_not_fill_a_hole(rng):
    atoms, hole, _ = pitted(crystals.DICHALCOGENIDE, rng, radius=45, singles=0)
    fit = fit_lattices(atoms, shape=SHAPE)
    inside = rng.uniform(-30, 30, (40, 2)) + np.array([150, 160])
    false = pd.DataFrame({"y": inside[:, 0], "x": inside[:, 1], "intensity": 0.15})
    more = pd.concat([atoms, false], ignore_index=True)
    again = fit_lattices(more, shape=SHAPE)
    assert find_openings(more, again, shape=SHAPE).holes == pytest.approx(hole, rel=0.03)
    blind = more.drop(columns="intensity")
    assert find_openings(blind, again, shape=SHAPE).holes < 0.9 * hole
    assert fit.lattices


def test_errors_cover_rims_that_vacancies_touch(rng):
    """Each bright site away from the hole is empty with a chance of 2 %, those at its rim too."""
    kind = crystals.OBLIQUE
    area = kind[0] * kind[1] * np.sin(np.deg2rad(kind[2])) / np.prod(SHAPE)
    errors, sizes = [], []
    for _ in range(40):
        whole = crystals.crystal(kind, SHAPE, rng, noise=0.15, bright=0.1)
        gone = np.hypot(whole.truth_y - 150, whole.truth_x - 160) < rng.uniform(25, 60)
        kept = whole[~gone & (rng.random(len(whole)) > 0.02)].reset_index(drop=True)
        found = find_openings(kept, fit_lattices(kept, shape=SHAPE), shape=SHAPE)
        errors.append((found.holes - gone.sum() * area) / found.holes_err)
        sizes.append(found.holes_err / area)
    assert np.mean(np.abs(errors) < 2) >= 0.85 and np.mean(np.abs(errors) < 3) >= 0.95
    assert 0.3 < np.median(sizes) < 2  # sites


def test_a_part_of_a_larger_field_and_holes_at_its_border(rng):
    atoms, _, _ = pitted(crystals.DICHALCOGENIDE, rng, radius=60, singles=0, centre=(0, 160))
    found = find_openings(atoms, fit_lattices(atoms, shape=SHAPE), shape=SHAPE)
    assert found.holes == pytest.approx(np.pi * 60**2 / 2 / np.prod(SHAPE), rel=0.08)
    shape, origin = (200, 220), (50, 40)
    near = atoms[atoms.y.between(50, 249) & atoms.x.between(40, 259)].reset_index(drop=True)
    part = find_openings(near, fit_lattices(near, shape=SHAPE), shape=shape, origin=origin)
    assert part.positions.min(0) == pytest.approx(origin, abs=25)
    assert part.positions.max(0) == pytest.approx((250, 260), abs=25)


def test_without_a_lattice_and_with_the_wrong_one(rng):
    atoms, _, _ = pitted(crystals.OBLIQUE, rng, radius=30, singles=0)
    few = atoms.iloc[:5].reset_index(drop=True)
    assert find_openings(few, fit_lattices(few, shape=SHAPE), shape=SHAPE) is None
    with pytest.raises(InputError, match="lattice fit is of"):
        find_openings(few, fit_lattices(atoms, shape=SHAPE), shape=SHAPE)
    with pytest.raises(InputError, match="least"):
        find_openings(atoms, fit_lattices(atoms, shape=SHAPE), shape=SHAPE, least=0)
