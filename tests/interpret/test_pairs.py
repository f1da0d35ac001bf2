import crystals
import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.core.registry import analyses
from atomreel.interpret.pairs import bond_angles, bond_lengths, coverage_gaps, pair_distances, short_pairs

SHAPE = (200, 220)


@pytest.fixture
def graphene(rng):
    return crystals.crystal(crystals.HONEYCOMB, SHAPE, rng, noise=0.1)


def mean(table, low, high, weight="count"):
    middle = (table[low] + table[high]) / 2
    return float((middle * table[weight]).sum() / table[weight].sum())


def test_bond_lengths_in_px_and_angstrom(graphene):
    bond = 10 / np.sqrt(3)
    table = bond_lengths(graphene)
    assert mean(table, "from_px", "to_px") == pytest.approx(bond, rel=0.005)
    table = bond_lengths(graphene, (0.246, 0.246))
    assert mean(table, "from_A", "to_A") == pytest.approx(0.246 * bond, rel=0.005)
    assert (table["density"] * (table["to_A"] - table["from_A"])).sum() == pytest.approx(1)


def test_three_bonds_per_atom_and_120_degrees(graphene):
    assert bond_lengths(graphene)["count"].sum() == pytest.approx(1.5 * len(graphene), rel=0.05)
    table = bond_angles(graphene)
    assert mean(table, "from_deg", "to_deg") == pytest.approx(120, abs=0.5)


def test_angles_of_oblong_pixels_are_those_of_the_specimen(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng, angle=45)
    squeezed = atoms.assign(y=atoms["y"] / 2)
    table = bond_angles(squeezed, (2.0, 1.0))
    assert table.loc[table["count"].idxmax(), "from_deg"] == pytest.approx(90, abs=3.1)


def test_g_of_r_of_random_points_is_one(rng):
    points = pd.DataFrame({"frame": 0, "y": rng.random(3000) * 199, "x": rng.random(3000) * 219})
    table = pair_distances(points, None, SHAPE, reach=12, bins=15)
    pull = (table["g"] - 1) / table["g_err"]
    assert np.abs(table["g"] - 1).mean() < 0.06
    assert np.abs(pull).mean() < 2


def test_g_of_r_of_a_lattice_peaks_at_its_shells(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng)
    table = pair_distances(atoms, (0.5, 0.5), SHAPE, reach=3, bins=90)
    peaks = table.loc[table["g"] > 4, "from_A"].to_numpy()
    for shell in (6.0, 6.0 * np.sqrt(2), 12.0):
        assert np.abs(peaks - shell).min() < 0.3
    assert table.loc[table["to_A"] < 5.5, "count"].sum() == 0


def test_short_pairs_are_double_finds(graphene):
    assert short_pairs(graphene)[0] == 0
    double = graphene.iloc[[5, 60]].assign(y=lambda t: t["y"] + 1.0)
    share, flag = short_pairs(pd.concat([graphene, double], ignore_index=True))
    assert flag.sum() == 4 and share == pytest.approx(4 / (len(graphene) + 2))


def test_coverage_gaps_find_the_missing_patch(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng)
    assert coverage_gaps(atoms, shape=SHAPE)[0] < 0.01
    patch = np.hypot(atoms["y"] - 90, atoms["x"] - 110) < 40
    share, middles = coverage_gaps(atoms[~patch], shape=SHAPE)
    assert 0.2 < share / (np.pi * 40**2 / np.prod(SHAPE)) < 1.1
    assert np.hypot(*(middles[0] - [90, 110])) < 15
    with pytest.raises(InputError):
        coverage_gaps(atoms, shape=SHAPE, wide=1.0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_atoms(n):
    atoms = pd.DataFrame({"frame": np.zeros(n, dtype=int), "y": np.arange(n) * 3.0, "x": np.zeros(n)})
    assert bond_lengths(atoms)["count"].sum() == max(n - 1, 0)
    assert bond_angles(atoms)["count"].sum() == 0
    assert pair_distances(atoms, None, (9, 9))["count"].sum() == max(n - 1, 0)
    assert short_pairs(atoms)[0] == 0
    assert coverage_gaps(atoms, shape=(9, 9))[0] == 1.0


def test_they_are_registered():
    assert {"bond_lengths", "bond_angles", "pair_distances"} <= set(analyses())
