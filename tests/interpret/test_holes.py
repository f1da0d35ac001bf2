import crystals
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from atomreel.core.errors import InputError
from atomreel.interpret.holes import hole_fraction
from atomreel.interpret.lattice import fit_lattices
from atomreel.interpret.openings import find_openings

SHAPE = (240, 260)


def picture(rng, radius, *, noise=0.3, bright=True):
    """A honeycomb with a round hole: image, atoms, and the share of the field whose columns are gone."""
    # made larger and cut, so that the field has no dark rim of its own
    size = (SHAPE[0] + 24, SHAPE[1] + 24)
    whole = crystals.crystal(crystals.HONEYCOMB, size, rng, noise=0.1, origin=(132, 142))
    gone = np.hypot(whole["y"] - 132, whole["x"] - 142) < radius
    image = np.zeros(size)
    at = np.rint(whole.loc[~gone, ["y", "x"]].to_numpy()).astype(int).clip(0, [size[0] - 1, size[1] - 1])
    np.add.at(image, tuple(at.T), 1.0)
    image = (gaussian_filter(image, 1.8) * 20 + noise * rng.standard_normal(size))[12:-12, 12:-12]
    whole[["y", "x"]] -= 12.0
    inside = whole["y"].between(0, SHAPE[0] - 1) & whole["x"].between(0, SHAPE[1] - 1)
    return image if bright else -image, whole[inside & ~gone], (gone & inside).sum() / inside.sum()


@pytest.mark.parametrize("radius", [25, 45, 100])
@pytest.mark.parametrize("bright", [True, False])
def test_both_estimates(radius, bright, rng):
    image, atoms, share = picture(rng, radius, bright=bright)
    found = hole_fraction(image, bright=bright, atoms=atoms)
    assert found.intensity == pytest.approx(share, rel=0.15)
    assert found.columns == pytest.approx(share, rel=0.15)
    assert abs(found.columns - share) < 4 * found.columns_err and found.columns_err < 0.15 * share
    assert found.mask[120, 130] and found.column_mask[120, 130] and not found.mask[5, 5]


def test_no_hole_is_zero(rng):
    image, atoms, _ = picture(rng, 0)
    found = hole_fraction(image, atoms=atoms)
    assert found.intensity == 0 and found.columns == 0 and found.intensity_err == 0


def test_a_vacancy_is_no_hole(rng):
    image, atoms, _ = picture(rng, 0)
    middle = np.argmin(np.hypot(atoms["y"] - 120, atoms["x"] - 130))
    assert hole_fraction(image, atoms=atoms.drop(atoms.index[middle])).columns < 0.003


def test_without_atoms_and_without_columns(rng):
    image, _, share = picture(rng, 60)
    found = hole_fraction(image, spacing_px=5.8)
    assert np.isnan(found.columns) and found.column_mask is None
    assert found.intensity == pytest.approx(share, rel=0.15)
    nothing = pd.DataFrame({"y": [], "x": []}, dtype=float)
    assert hole_fraction(np.ones((40, 50)), atoms=nothing).columns == 1.0
    assert hole_fraction(np.full((40, 50), np.nan)).intensity == 0.0
    with pytest.raises(InputError, match="two dimensions"):
        hole_fraction(np.zeros((3, 4, 5)))


@pytest.mark.parametrize("radius", [25, 45])
def test_with_a_lattice_both_leave_single_vacancies_out_and_agree(radius, rng):
    image, atoms, _ = picture(rng, radius)
    fit = fit_lattices(atoms.reset_index(drop=True), shape=SHAPE)
    openings = find_openings(atoms.reset_index(drop=True), fit, shape=SHAPE)
    found = hole_fraction(image, atoms=atoms, openings=openings)
    assert found.columns == openings.holes and found.vacancies == 0
    assert np.array_equal(found.column_mask, openings.mask(SHAPE))
    assert abs(found.disagreement) < 3 * found.disagreement_err
    assert found.disagreement == pytest.approx(found.columns - found.intensity)
    # a hole filled with something that is no column: the two no longer agree, and by more than their errors
    filled = image.copy()
    filled[np.hypot(*np.ogrid[-120:120, -130:130]) < radius] += image.mean()
    dirty = hole_fraction(filled, atoms=atoms, openings=openings)
    assert dirty.disagreement > 3 * dirty.disagreement_err
