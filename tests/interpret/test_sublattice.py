import crystals
import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.lattice import fit_lattices
from atomreel.interpret.sublattice import measure_displacements, sublattice_displacements

SHAPE = (260, 260)


def poled(rng, *, dy, dx, noise=0.1):
    atoms = crystals.crystal(crystals.PEROVSKITE, SHAPE, rng, noise=noise, angle=0.0)
    dim = atoms["truth_site"] == 1
    atoms.loc[dim, "y"] += dy
    atoms.loc[dim, "x"] += dx
    return atoms


def test_direction_and_size(rng):
    table = sublattice_displacements(poled(rng, dy=-0.5, dx=0.5), SHAPE, (0.2, 0.2))
    assert table["dy_px"].mean() == pytest.approx(-0.5, abs=0.035)
    assert table["dx_px"].mean() == pytest.approx(0.5, abs=0.035)
    assert np.median(table["u_pm"]) == pytest.approx(np.hypot(0.5, 0.5) * 20, rel=0.05)
    assert np.median(table["u_deg"]) == pytest.approx(45, abs=2)  # up and to the right on screen


def test_domains_have_opposite_signs(rng):
    atoms = crystals.crystal(crystals.PEROVSKITE, SHAPE, rng, noise=0.05)
    dim = atoms["truth_site"] == 1
    atoms.loc[dim, "y"] += np.where(atoms.loc[dim, "x"] < 130, 0.6, -0.6)
    table = measure_displacements(atoms, fit_lattices(atoms, shape=SHAPE))
    assert table.loc[table["x"] < 120, "dy_px"].mean() == pytest.approx(0.6, abs=0.05)
    assert table.loc[table["x"] > 140, "dy_px"].mean() == pytest.approx(-0.6, abs=0.05)


def test_errors_cover(rng):
    table = measure_displacements(
        atoms := poled(rng, dy=0, dx=0, noise=0.2), fit_lattices(atoms, shape=SHAPE)
    )
    pull = table["dy_px"] / table["dy_err_px"]
    assert 0.6 < (np.abs(pull) < 1).mean() < 0.76
    assert table["dy_err_px"].median() == pytest.approx(0.2 * np.sqrt(1.25), rel=0.01)


def test_one_site_gives_nothing_and_bad_sites_are_named(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng)
    assert len(sublattice_displacements(atoms, SHAPE)) == 0
    with pytest.raises(InputError, match="motif site 1"):
        measure_displacements(atoms, fit_lattices(atoms, shape=SHAPE))
