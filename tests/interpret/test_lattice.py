import crystals
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_laplace, maximum_filter

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.interpret.lattice import fit_lattices

SHAPE = (300, 320)
KINDS = {
    "honeycomb": crystals.HONEYCOMB,
    "dichalcogenide": crystals.DICHALCOGENIDE,
    "perovskite": crystals.PEROVSKITE,
    "dumbbell": crystals.DUMBBELL,
    "oblique": crystals.OBLIQUE,
    "square": crystals.SQUARE,
    "kagome": crystals.KAGOME,
}
CLASS = {"dumbbell": "centred", "oblique": "oblique", "perovskite": "square", "square": "square"}


@pytest.mark.parametrize("dirt", [0.0, 0.15])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_primitive_cell_and_motif(name, dirt, rng):
    kind = KINDS[name]
    atoms = crystals.crystal(kind, SHAPE, rng, noise=0.04 * kind[0] / 3)
    atoms = crystals.spoil(atoms, SHAPE, rng, missing=dirt, false=dirt) if dirt else atoms
    fit = fit_lattices(atoms, shape=SHAPE)
    assert len(fit.lattices) == 1
    lattice, row = fit.lattices[0], fit.rows.iloc[0]
    a, b, gamma, motif = kind
    assert lattice.area == pytest.approx(a * b * np.sin(np.deg2rad(gamma)), rel=0.01)
    assert (row.a_px, row.b_px) == pytest.approx((a, b), rel=0.01)
    assert row.gamma_deg == pytest.approx(gamma, abs=0.6)
    assert len(lattice.sites) == len(motif)
    assert row.symmetry == CLASS.get(name, "hexagonal")
    assert all(site.occupancy > 0.8 - 0.8 * dirt for site in lattice.sites)
    real = atoms["truth_site"].to_numpy() >= 0
    assert (fit.grain[real] == 0).mean() > 0.97
    assert (fit.grain[~real] == 0).mean() < 0.5 if dirt else True
    # one motif site of the fit for each of the truth
    pairs = pd.crosstab(atoms["truth_site"][real & (fit.grain == 0)], fit.site[real & (fit.grain == 0)])
    assert (pairs.max(axis=1) / pairs.sum(axis=1)).min() > 0.95


def test_table_has_the_contract(rng):
    fit = fit_lattices(crystals.crystal(crystals.HONEYCOMB, SHAPE, rng), shape=SHAPE, pixel=(0.2, 0.2))
    table = check_table(fit.rows.assign(frame=0), "lattice")
    assert table["a_A"].iloc[0] == pytest.approx(2.0, rel=1e-3)


def test_brightest_site_is_first_and_has_its_intensity(rng):
    fit = fit_lattices(crystals.crystal(crystals.DICHALCOGENIDE, SHAPE, rng), shape=SHAPE)
    light = [site.intensity for site in fit.lattices[0].sites]
    assert light == pytest.approx([1.0, 0.4], rel=0.05)


def test_species_alone_tell_sites_apart(rng):
    atoms = crystals.crystal(crystals.PEROVSKITE, SHAPE, rng)
    atoms["species"] = np.where(atoms["truth_site"] == 0, "Sr", "Ti")
    fit = fit_lattices(atoms.drop(columns="intensity"), shape=SHAPE)
    assert sorted(site.species for site in fit.lattices[0].sites) == ["Sr", "Ti"]
    assert fit.lattices[0].a == pytest.approx(18.0, rel=0.01)


def test_without_contrast_the_smaller_cell_is_right(rng):
    atoms = crystals.crystal(crystals.PEROVSKITE, SHAPE, rng).drop(columns="intensity")
    assert fit_lattices(atoms, shape=SHAPE).lattices[0].a == pytest.approx(18.0 / np.sqrt(2), rel=0.01)


def test_direction_on_screen(rng):
    fit = fit_lattices(crystals.crystal(crystals.OBLIQUE, SHAPE, rng, angle=33.0), shape=SHAPE)
    assert fit.lattices[0].angle == pytest.approx(33.0, abs=0.1)


@pytest.mark.parametrize("kind", [crystals.HONEYCOMB, crystals.OBLIQUE])
def test_error_bars_cover(kind):
    """Pulls over fixed-seed replicates, and width against the scatter itself.

    Of a hexagonal lattice the mean side is taken: which of a and b is the shorter, and so γ, is chance there.
    """
    pulls, widths, values = [], [], []
    for seed in range(45):
        atoms = crystals.crystal(kind, (110, 110), np.random.default_rng(seed), noise=0.4)
        row = fit_lattices(atoms, shape=(110, 110)).rows.iloc[0]
        if kind is crystals.HONEYCOMB:
            value, error, truth = (
                (row.a_px + row.b_px) / 2,
                np.hypot(row.a_px_err, row.b_px_err) / 2,
                [kind[0]],
            )
        else:
            value = row[["a_px", "b_px", "gamma_deg", "angle_deg"]].to_numpy(float)
            error = row[["a_px_err", "b_px_err", "gamma_deg_err", "angle_deg_err"]].to_numpy(float)
            truth = [*kind[:3], 13.0]
        pulls.append((np.atleast_1d(value) - truth) / error)
        values.append(np.atleast_1d(value))
        widths.append(np.atleast_1d(error))
    pulls = np.abs(np.array(pulls))
    assert 0.57 < (pulls < 1).mean() < 0.82
    assert (pulls < 2).mean() > 0.90
    np.testing.assert_allclose(np.median(widths, axis=0), np.std(values, axis=0), rtol=0.35)


def test_smooth_distortion_widens_the_errors(rng):
    """Neighbouring residuals that agree are not independent evidence."""
    plain = crystals.crystal(crystals.SQUARE, SHAPE, rng, noise=0.3)
    wavy = plain.assign(
        y=plain["y"] + 0.6 * np.sin(plain["x"] / 30), x=plain["x"] + 0.6 * np.cos(plain["y"] / 25)
    )
    fits = [fit_lattices(table, shape=SHAPE).rows.iloc[0] for table in (plain, wavy)]
    scaled = [row.a_px_err / row.residual_px for row in fits]
    assert scaled[1] > 1.5 * scaled[0]


def test_slow_distortion_of_several_cells_is_followed(rng):
    atoms = crystals.crystal(crystals.HONEYCOMB, SHAPE, rng, noise=0.1)
    bent = atoms.assign(x=atoms["x"] + 8.0 * (atoms["y"] / 300) ** 2)
    fit = fit_lattices(bent, shape=SHAPE)
    assert len(fit.lattices) == 1
    assert (fit.grain == 0).mean() > 0.98


@pytest.mark.parametrize("dirt", [0.0, 0.1])
def test_two_grains(dirt, rng):
    left = crystals.crystal(
        crystals.HONEYCOMB, SHAPE, rng, angle=5, noise=0.2, inside=lambda y, x: x < 190 + 0.2 * y
    )
    right = crystals.crystal(
        crystals.HONEYCOMB, SHAPE, rng, angle=27, noise=0.2, inside=lambda y, x: x > 196 + 0.2 * y
    )
    atoms = pd.concat([left.assign(grain=0), right.assign(grain=1)], ignore_index=True)
    atoms = crystals.spoil(atoms, SHAPE, rng, missing=dirt, false=dirt)
    fit = fit_lattices(atoms, shape=SHAPE)
    assert len(fit.lattices) == 2
    angles = np.array([lattice.angle for lattice in fit.lattices])
    np.testing.assert_allclose((angles - [5, 27] + 30) % 60 - 30, 0, atol=0.3)
    real = atoms["truth_site"] >= 0
    assert (fit.grain[real] == atoms["grain"][real]).mean() > 0.93
    assert len(fit_lattices(atoms, shape=SHAPE, max_grains=1).lattices) == 1


def test_two_islands_of_one_crystal_are_one_grain(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng, noise=0.1, inside=lambda y, x: np.abs(x - 160) > 40)
    fit = fit_lattices(atoms, shape=SHAPE)
    assert len(fit.lattices) == 1
    assert (fit.grain == 0).mean() > 0.97


@pytest.mark.parametrize("count", [10, 14, 25])
def test_small_particles(count, rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng, noise=0.3)
    middle = np.hypot(atoms["y"] - 150, atoms["x"] - 150).to_numpy()
    fit = fit_lattices(atoms.iloc[np.argsort(middle)[:count]], shape=SHAPE)
    assert len(fit.lattices) == 1
    assert fit.lattices[0].a == pytest.approx(12, rel=0.06)


def random_packing(count, side, rng, gap=0.75):
    points = np.zeros((0, 2))
    while len(points) < count:
        new = rng.random(2) * side
        if len(points) == 0 or np.hypot(*(points - new).T).min() > gap * side / np.sqrt(count):
            points = np.vstack([points, new])
    return pd.DataFrame({"y": points[:, 0], "x": points[:, 1], "intensity": rng.random(count) + 1})


@pytest.mark.parametrize("count", [9, 15, 40, 150])
def test_no_lattice_is_an_answer(count):
    claimed = 0
    for seed in range(12 if count < 50 else 4):
        atoms = random_packing(count, 200.0, np.random.default_rng(seed), gap=0.6)
        claimed += len(fit_lattices(atoms, shape=(200, 200)).lattices) > 0
    assert claimed <= (1 if count < 20 else 0), claimed


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_too_few_columns(n, rng):
    atoms = crystals.crystal(crystals.SQUARE, (100, 100), rng).iloc[:n]
    fit = fit_lattices(atoms, shape=(100, 100))
    assert fit.lattices == () and (fit.grain == -1).all() and len(fit.rows) == 0
    check_table(fit.rows.assign(frame=pd.Series(dtype=int)), "lattice")


def test_columns_on_one_line_and_on_one_point(rng):
    line = pd.DataFrame({"y": np.full(20, 5.0), "x": np.arange(20) * 7.0})
    assert fit_lattices(line, shape=(10, 200)).lattices == ()
    assert fit_lattices(line.assign(x=3.0), shape=(10, 200)).lattices == ()


def test_nan_positions_are_left_out_and_input_is_unchanged(rng):
    atoms = crystals.crystal(crystals.SQUARE, SHAPE, rng)
    atoms.loc[[3, 40], "y"] = np.nan
    atoms.loc[[5], "intensity"] = np.nan
    before = atoms.copy()
    fit = fit_lattices(atoms, shape=SHAPE)
    assert list(fit.grain[[3, 40]]) == [-1, -1] and fit.grain[5] == 0
    pd.testing.assert_frame_equal(atoms, before)


def test_bad_input():
    with pytest.raises(InputError, match="x"):
        fit_lattices(pd.DataFrame({"y": [1.0]}), shape=(5, 5))
    with pytest.raises(InputError, match="max_grains"):
        fit_lattices(pd.DataFrame({"y": [1.0], "x": [1.0]}), shape=(5, 5), max_grains=0)


@pytest.mark.data
def test_real_graphene_boundary_has_two_grains(real):
    """Bright maxima of a real image; the grains and the honeycomb's 2.46 Å must come out of them alone."""
    image = np.load(real / "graphene-stem-boundary" / "G-GrainBoundary-4nm.npy", allow_pickle=False)
    image = np.squeeze(image).astype(float)
    smooth = -gaussian_laplace(image, 8.0)
    peaks = np.argwhere((smooth == maximum_filter(smooth, 13)) & (smooth > 0.25 * np.percentile(smooth, 99)))
    atoms = pd.DataFrame({"y": peaks[:, 0], "x": peaks[:, 1], "intensity": smooth[tuple(peaks.T)]})
    fit = fit_lattices(atoms, shape=image.shape)
    assert len(fit.lattices) >= 2
    assert [len(lattice.sites) for lattice in fit.lattices[:2]] == [2, 2]
    assert fit.rows["a_px"].iloc[1] == pytest.approx(fit.rows["a_px"].iloc[0], rel=0.05)
