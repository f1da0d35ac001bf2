import crystals
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atomreel.core.material import load_material
from atomreel.interpret.defects import find_defects
from atomreel.interpret.evidence import emptiness, shared_odds
from atomreel.interpret.lattice import fit_lattices

SHAPE = (240, 240)


def scene(rng, *, noise, bright=True):
    """Graphene with 5 true vacancies, and 5 further columns that are in the image but not in the table."""
    atoms = crystals.crystal(crystals.HONEYCOMB, SHAPE, rng, noise=0.1)
    inner = atoms.index[atoms["y"].between(30, 210) & atoms["x"].between(30, 210)]
    chosen = rng.choice(inner, 40, replace=False)
    apart = [chosen[0]]
    for i in chosen[1:]:
        if all(np.hypot(*(atoms.loc[i, ["y", "x"]] - atoms.loc[j, ["y", "x"]])) > 16 for j in apart):
            apart.append(i)
    gone, lost = apart[:5], apart[5:10]
    image = np.zeros(SHAPE)
    seen = atoms.drop(index=gone)
    np.add.at(image, tuple(np.rint(seen[["y", "x"]].to_numpy()).astype(int).T), 1.0)
    image = gaussian_filter(image, 1.5) * 2 * np.pi * 1.5**2 + noise * rng.standard_normal(SHAPE)
    table = atoms.drop(index=[*gone, *lost]).reset_index(drop=True)
    where = [atoms.loc[k, ["y", "x"]].to_numpy(float) for k in (gone, lost)]
    return (image if bright else 1 - image), table, *where


@pytest.mark.parametrize("bright", [True, False])
def test_pixels_tell_empty_from_overlooked(bright, rng):
    image, table, gone, lost = scene(rng, noise=0.3, bright=bright)
    filled = table[["y", "x"]].to_numpy()
    assert emptiness(image, gone, filled, spacing=5.8, bright=bright).min() > 1
    assert emptiness(image, lost, filled, spacing=5.8, bright=bright).max() < -1


def test_only_true_vacancies_are_reported_with_the_image(rng):
    image, table, gone, _ = scene(rng, noise=0.3)
    fit = fit_lattices(table, shape=SHAPE)
    carbon = load_material("graphene")
    plain = find_defects(table, fit, shape=SHAPE, material=carbon)
    sure = find_defects(table, fit, shape=SHAPE, material=carbon, images={0: image})
    assert (plain["kind"] == "V_C").sum() == 10
    assert (sure["kind"] == "V_C").sum() == 5
    gap = np.hypot(*(sure[["y", "x"]].to_numpy()[:, None] - gone[None]).transpose(2, 0, 1))
    assert gap.min(0).max() < 1.0


def test_shared_odds_follow_the_sites():
    assert shared_odds(np.full(30, -3.0), start=1.6) < -1
    assert shared_odds(np.full(30, 3.0), start=1.6) > 2
    assert shared_odds(np.zeros(0), start=1.6) == pytest.approx(1.6, abs=1e-6)


def test_too_few_references_say_nothing():
    image = np.zeros((20, 20))
    assert np.all(emptiness(image, np.array([[5.0, 5.0]]), np.zeros((3, 2)), spacing=4) == 0)
