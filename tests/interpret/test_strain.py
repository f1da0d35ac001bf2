import crystals
import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.interpret.strain import map_strain

SHAPE = (220, 240)


def reference(kind=crystals.SQUARE):
    return Lattice((110.0, 120.0), crystals.vectors_of(*kind[:3], 13.0))


def deformed(rng, *, matrix=None, rotate=0.0, noise=0.0):
    """A square crystal whose positions (y, x) about the middle are multiplied by `matrix`, or turned on screen."""
    atoms = crystals.crystal(crystals.SQUARE, (400, 400), rng, origin=(200, 200), noise=noise)
    where = atoms[["y", "x"]].to_numpy() - 200
    if matrix is not None:
        where = where @ np.asarray(matrix).T
    t = np.deg2rad(rotate)
    right, up = where[:, 1], -where[:, 0]
    where = np.column_stack([-(right * np.sin(t) + up * np.cos(t)), right * np.cos(t) - up * np.sin(t)])
    atoms[["y", "x"]] = where + np.array([110, 120])
    return atoms[atoms["y"].between(0, 219) & atoms["x"].between(0, 239)].reset_index(drop=True)


def middle(field, name):
    return float(np.nanmedian(field.maps[name]))


def test_sign_and_size_of_each_component(rng):
    # u_x = 0.02 x, u_y = −0.01 y, and u_x = 0.03 y, all y down
    field = map_strain(deformed(rng, matrix=[[0.99, 0.0], [0.03, 1.02]]), reference(), shape=SHAPE, step=20)
    assert middle(field, "exx") == pytest.approx(0.02, abs=2e-4)
    assert middle(field, "eyy") == pytest.approx(-0.01, abs=2e-4)
    assert middle(field, "exy") == pytest.approx(0.015, abs=2e-4)


@pytest.mark.parametrize("degrees", [-4.0, 2.0])
def test_rotation_is_counter_clockwise_on_screen(degrees, rng):
    field = map_strain(deformed(rng, rotate=degrees), reference(), shape=SHAPE, step=30)
    assert middle(field, "rotation_deg") == pytest.approx(degrees, abs=0.02)
    turned = np.deg2rad(degrees)
    assert middle(field, "exx") == pytest.approx(np.cos(turned) - 1, abs=2e-4)


def test_ramp_of_strain(rng):
    """exx = 2e-4·(x − 120): u_x = 1e-4·(x − 120)²."""
    atoms = deformed(rng)
    ramp = atoms.assign(x=atoms["x"] + 1e-4 * (atoms["x"] - 120) ** 2)
    field = map_strain(ramp, reference(), shape=SHAPE, step=10)
    x = field.positions()[1]
    inner = slice(4, -4)
    seen = np.nanmedian(field.maps["exx"], axis=0)[inner]
    # the map is drawn where the columns stand: x after the displacement
    assert np.polyfit(x[inner], seen, 1)[0] == pytest.approx(2e-4, rel=0.06)
    assert seen[np.argmin(np.abs(x[inner] - 120))] == pytest.approx(0, abs=2e-3)


def test_errors_cover(rng):
    atoms = deformed(rng, noise=0.25)
    field = map_strain(atoms, reference(), shape=SHAPE, step=60, radius=27)
    pulls = np.concatenate(
        [
            (field.maps[name] / field.maps[f"{name}_err"])[np.isfinite(field.maps[name])]
            for name in ("exx", "eyy", "exy", "rotation_deg")
        ]
    )
    assert 0.5 < (np.abs(pulls) < 1).mean() < 0.85
    assert (np.abs(pulls) < 2).mean() > 0.88


def test_no_map_over_vacuum(rng):
    atoms = deformed(rng)
    atoms = atoms[np.hypot(atoms["y"] - 110, atoms["x"] - 120) > 60]
    field = map_strain(atoms, reference(), shape=SHAPE, step=10)
    y, x = np.meshgrid(*field.positions(), indexing="ij")
    hollow = np.hypot(y - 110, x - 120) < 40
    assert np.isnan(field.maps["exx"][hollow]).all()
    solid = (np.hypot(y - 110, x - 120) > 75) & (np.abs(y - 110) < 95) & (np.abs(x - 120) < 105)
    assert np.isfinite(field.maps["exx"][solid]).mean() > 0.95


def test_empty_table_and_bad_step():
    nothing = pd.DataFrame({"y": pd.Series(dtype=float), "x": pd.Series(dtype=float)})
    field = map_strain(nothing, reference(), shape=(50, 60), step=20)
    assert field.shape == (2, 3) and np.isnan(field.maps["exx"]).all()
    with pytest.raises(InputError, match="step"):
        map_strain(nothing, reference(), shape=(50, 60), step=0)
