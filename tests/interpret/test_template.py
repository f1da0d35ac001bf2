"""Templates against crystals that are stretched and turned by a known matrix."""

from __future__ import annotations

import crystals
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, Site
from atomreel.interpret.template import Template, honeycomb, make_template, match_template

SHAPE = (160, 180)
BOND = 10 / np.sqrt(3)
TENSORS = ("exx", "eyy", "exy")


def deformed(kind, rng, *, matrix=((1.0, 0.0), (0.0, 1.0)), noise=0.0, angle=0.0):
    """Atoms in SHAPE of a crystal multiplied by `matrix` on (y, x); truth_y, truth_x before the noise."""
    atoms = crystals.crystal(kind, (400, 400), rng, origin=(200, 200), angle=angle)
    where = (atoms[["y", "x"]].to_numpy() - 200) @ np.asarray(matrix).T + (80, 90)
    inside = np.all((where >= 0) & (where <= np.array(SHAPE) - 1), axis=1)
    where = where[inside]
    seen = where + rng.normal(0, 1, where.shape) * noise
    table = pd.DataFrame(
        {"y": seen[:, 0], "x": seen[:, 1], "truth_site": atoms["truth_site"][inside].to_numpy()}
    )
    errors = np.broadcast_to(np.maximum(noise, 1e-3), where.shape)
    return table.assign(y_err=errors[:, 0], x_err=errors[:, 1])


def seen_turn(degrees):
    """Matrix on (y, x) that turns counter-clockwise as the eye sees it."""
    t = np.deg2rad(degrees)
    # right, up → right cos − up sin, right sin + up cos; y = −up
    return np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])


def lattice_of(kind, angle=0.0):
    a, b, gamma, motif = kind
    return Lattice(
        (0.0, 0.0), crystals.vectors_of(a, b, gamma, angle), sites=tuple(Site(p) for p, _ in motif)
    )


def middle(table):
    return table[table.y.between(30, 130) & table.x.between(30, 150)]


def test_the_eye_and_the_matrix_agree():
    right, up = seen_turn(90) @ [0.0, 1.0], seen_turn(90) @ [-1.0, 0.0]
    np.testing.assert_allclose(right, [-1, 0], atol=1e-12)  # what points right then points up
    np.testing.assert_allclose(up, [0, -1], atol=1e-12)


@pytest.mark.parametrize("turn", [-25.0, 0.0, 7.0, 29.0])
def test_graphene_strain_and_rotation_are_exact_on_both_sublattices(turn, rng):
    strain = np.array([[-0.02, 0.015], [0.015, 0.05]])  # eyy, exy; exy, exx
    atoms = deformed(crystals.HONEYCOMB, rng, matrix=(np.eye(2) + strain) @ seen_turn(turn))
    found = middle(match_template(atoms, honeycomb(BOND, angle=30.0)))
    assert np.isfinite(found.exx).all() and len(found) > 150
    for name, value in (("exx", 0.05), ("eyy", -0.02), ("exy", 0.015), ("rotation_deg", turn)):
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    np.testing.assert_allclose(found.residual, 0, atol=1e-8)
    # the sublattice follows from the orientation: one to one with the true one
    truth = atoms.truth_site.loc[found.index]
    assert len(pd.crosstab(found.site, truth).to_numpy().nonzero()[0]) == 2


@pytest.mark.parametrize("kind", ["SQUARE", "OBLIQUE", "KAGOME", "DICHALCOGENIDE", "PEROVSKITE"])
def test_any_motif(kind, rng):
    crystal = getattr(crystals, kind)
    matrix = np.array([[1.02, -0.01], [-0.01, 0.97]]) @ seen_turn(5.0)
    found = middle(match_template(deformed(crystal, rng, matrix=matrix), make_template(lattice_of(crystal))))
    assert np.isfinite(found.exx).mean() > 0.99
    for name, value in (("exx", -0.03), ("eyy", 0.02), ("exy", -0.01), ("rotation_deg", 5.0)):
        np.testing.assert_allclose(found[name].dropna(), value, atol=1e-6)


def test_a_lattice_made_template_is_the_graphene_one():
    for one, other in zip(
        honeycomb(BOND, angle=30.0).neighbours,
        make_template(lattice_of(crystals.HONEYCOMB)).neighbours,
        strict=True,
    ):
        assert len(one) == len(other) == 9
    pairs = [make_template(lattice_of(crystals.HONEYCOMB)).neighbours[k] for k in (0, 1)]
    gaps = [cKDTree(honeycomb(BOND, angle=30.0).neighbours[k]).query(p)[0].max() for k, p in enumerate(pairs)]
    swapped = [
        cKDTree(honeycomb(BOND, angle=30.0).neighbours[1 - k]).query(p)[0].max() for k, p in enumerate(pairs)
    ]
    assert min(max(gaps), max(swapped)) < 1e-6


def test_errors_cover_and_are_no_wider_than_the_scatter():
    """Positions with different errors along y and x: pulls are standard normal and the scatter is the claimed one."""
    pulls, chi2 = {name: [] for name in (*TENSORS, "rotation_deg")}, []
    truth = dict(zip(pulls, (0.03, 0.0, 0.0, 4.0), strict=True))
    for seed in range(20, 44):
        rng = np.random.default_rng(seed)
        matrix = np.diag([1.0, 1.03]) @ seen_turn(4.0)
        atoms = deformed(crystals.HONEYCOMB, rng, matrix=matrix, noise=np.array([0.06, 0.15]))
        found = middle(match_template(atoms, honeycomb(BOND, angle=30.0)))
        assert np.isfinite(found.exx).mean() > 0.99
        found = found[np.isfinite(found.exx)]
        for name, values in pulls.items():
            values.append(((found[name] - truth[name]) / found[f"{name}_err"]).to_numpy())
        chi2.append(found.chi2.to_numpy())
    for name, parts in pulls.items():
        pull = np.concatenate(parts)
        assert len(pull) > 5000
        assert abs(pull.mean()) < 0.1, name
        assert pull.std() == pytest.approx(1, abs=0.06), name
        assert (np.abs(pull) < 1).mean() == pytest.approx(0.683, abs=0.03), name
        assert (np.abs(pull) < 2).mean() == pytest.approx(0.954, abs=0.015), name
    assert np.concatenate(chi2).mean() == pytest.approx(1, abs=0.05)


def test_edges_vacancies_and_interstitials_are_refused(rng):
    atoms = deformed(crystals.HONEYCOMB, rng, noise=0.05)
    template = honeycomb(BOND, angle=30.0)
    centre = int(np.argmin(np.hypot(atoms.y - 80, atoms.x - 90)))
    distance = np.hypot(atoms.y - atoms.y[centre], atoms.x - atoms.x[centre])
    gone = match_template(atoms.drop(index=centre).reset_index(drop=True), template)
    around = distance.drop(index=centre).reset_index(drop=True) < 1.8 * BOND
    assert around.sum() == 9 and gone.exx[around].isna().all() and (gone.site[around] == -1).all()
    assert np.isfinite(middle(gone[~around]).exx).all()
    hexagon = atoms.iloc[[centre]].assign(
        y=atoms.y[centre] + BOND
    )  # three of four times it is a bond or a centre
    for angle in np.deg2rad([0, 60, 120, 180]):
        extra = hexagon.assign(
            y=atoms.y[centre] + BOND * np.cos(angle), x=atoms.x[centre] + BOND * np.sin(angle)
        )
        if np.hypot(atoms.y - extra.y.iloc[0], atoms.x - extra.x.iloc[0]).min() > 0.5 * BOND:
            break
    more = match_template(pd.concat([atoms, extra], ignore_index=True), template)
    assert np.isnan(more.exx[centre]) and np.isnan(more.exx.iloc[-1])
    outer = (atoms.y < BOND) | (atoms.x < BOND)
    assert match_template(atoms, template).exx[outer].isna().all()


def test_rings_of_five_and_seven_are_refused_and_the_crystal_around_is_not(rng):
    """A bond turned by 90° (Stone–Wales), neighbours moved as little as a relaxed one's are."""
    atoms = deformed(crystals.HONEYCOMB, rng, noise=0.02)
    where = atoms[["y", "x"]].to_numpy(copy=True)
    first = int(np.argmin(np.hypot(*(where - (80, 90)).T)))
    second = int(cKDTree(where).query(where[first], k=2)[1][1])
    middle_ = where[[first, second]].mean(0)
    half = (where[second] - where[first]) / 2
    across = np.array([half[1], -half[0]])
    where[first], where[second] = middle_ + across, middle_ - across
    found = match_template(atoms.assign(y=where[:, 0], x=where[:, 1]), honeycomb(BOND, angle=30.0))
    far = np.hypot(*(where - middle_).T)
    assert found.exx[[first, second]].isna().all()
    assert np.isfinite(middle(found[far > 4 * BOND]).exx).all()


def test_two_grains_have_their_own_rotations_and_the_boundary_has_none(rng):
    left, right = (
        deformed(crystals.HONEYCOMB, rng, matrix=seen_turn(turn), noise=0.05) for turn in (-9.0, 14.0)
    )
    both = pd.concat([left[left.x < 88], right[right.x > 92]], ignore_index=True)
    found = match_template(both, honeycomb(BOND, angle=30.0))
    for side, turn in ((found.x < 75, -9.0), (found.x > 105, 14.0)):
        inner = middle(found[side])
        assert np.isfinite(inner.exx).mean() > 0.99
        assert inner.rotation_deg.median() == pytest.approx(turn, abs=0.1)
    assert found.exx[found.x.between(86, 94)].isna().mean() > 0.8


def test_a_template_from_a_measured_lattice_does_not_turn_by_sixty_degrees(rng):
    """One per cent off the symmetric shape, and noise: the orientation nearest to the template's is meant."""
    atoms = deformed(crystals.HONEYCOMB, rng, matrix=seen_turn(12.0), noise=0.2)
    lattice = lattice_of((10.0, 10.1, 60.7, crystals.HONEYCOMB[3]))
    found = middle(match_template(atoms, make_template(lattice)))
    assert found.rotation_deg.dropna().between(5, 19).all()


def test_without_errors_there_is_strain_and_no_claim(rng):
    atoms = deformed(crystals.SQUARE, rng, noise=0.05).drop(columns=["y_err", "x_err"])
    found = middle(match_template(atoms, make_template(lattice_of(crystals.SQUARE))))
    assert np.isfinite(found.exx).all() and found.exx_err.isna().all() and found.chi2.isna().all()


def test_empty_tables_and_bad_input():
    template = honeycomb(10.0)
    nothing = match_template(pd.DataFrame({"y": [], "x": []}, dtype=float), template)
    assert len(nothing) == 0 and "exx_err" in nothing
    one = pd.DataFrame({"y": [1.0], "x": [2.0]})
    assert match_template(one, template).exx.isna().all()
    for table, words in ((one.drop(columns="y"), "columns y, x"), (one.assign(y=np.nan), "NaN")):
        with pytest.raises(InputError, match=words):
            match_template(table, template)
    with pytest.raises(InputError, match="tolerance"):
        match_template(one, template, tolerance=0)
    with pytest.raises(InputError, match="bond"):
        honeycomb(-1.0)
    with pytest.raises(InputError, match="shells"):
        make_template(lattice_of(crystals.SQUARE), shells=0)
    with pytest.raises(InputError, match="three neighbours"):
        Template((np.zeros((2, 2)),))
