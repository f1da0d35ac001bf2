"""Sublattices that are drawn here: dumbbells, honeycombs and squares of columns whose brightness is known."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.species import SpeciesModel, fit_species
from atomreel.interpret.sublattices import find_repeats, find_species, label_by_place, measured

HONEYCOMB = ((0.0, 0.0), (1 / 3, 1 / 3)), ((14.0, 0.0), (-7.0, 12.12))
DUMBBELLS = ((0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 0.5)), ((24.0, 0.0), (0.0, 17.0))
SQUARE = ((0.0, 0.0),), ((10.0, 0.0), (0.0, 10.0))


def crystal(kind, *, cells=(16, 16), turn=0.3, jitter=0.3, seed=0):
    """(N, 2) positions and (N,) number of the site in the cell; in the order of a scan, as tables are."""
    basis, vectors = kind
    index = np.stack(np.meshgrid(*map(np.arange, cells), indexing="ij"), -1).reshape(-1, 2)
    at = np.concatenate([(index + np.array(b)) @ np.array(vectors) for b in basis])
    site = np.repeat(np.arange(len(basis)), len(index))
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    at = at @ spin + jitter * np.random.default_rng(seed).standard_normal(at.shape)
    order = np.lexsort((at[:, 1], at[:, 0]))
    return at[order], site[order]


def shown(at, bright, *, error, seed=0):
    """Measured intensities of columns whose true ones are `bright`."""
    value = bright + error * np.random.default_rng([seed, 7]).standard_normal(len(at))
    return at, value, np.full(len(at), float(error))


def repeats(at):
    return find_repeats(at, np.arange(len(at)))[0]


def labels(image, **kw):
    return label_by_place(image, find_species([image], **kw)).labels


@pytest.mark.parametrize(("kind", "first"), [(HONEYCOMB, (0,)), (DUMBBELLS, (0, 2))])
@pytest.mark.parametrize("seed", range(4))
def test_sublattices_closer_than_they_scatter_are_told_apart(kind, first, seed):
    """Ga and As at few counts: 20 % apart, each scattering by 11 %. Intensities alone are one heap."""
    at, site = crystal(kind, cells=(20, 20), seed=seed)
    one = np.isin(site, first)
    image = shown(at, np.where(one, 40.0, 49.0), error=4.6, seed=seed)
    assert len(fit_species(*image[1:]).means) == 1
    model = find_species([image])
    half = model.halves[0]
    assert half is not None and model.names == ("I1", "I2")
    assert half.means == pytest.approx((40 / 44.5, 49 / 44.5), rel=0.03)
    assert half.shares == pytest.approx((0.5, 0.5), abs=0.04)
    name = label_by_place(image, model).labels
    assert (name == np.where(one, "I1", "I2")).mean() > 0.97  # by intensity alone 0.84 at best


@pytest.mark.parametrize("kind", [HONEYCOMB, DUMBBELLS, SQUARE])
@pytest.mark.parametrize("seed", range(6))
def test_one_species_stays_one(kind, seed):
    """Noise, thickness that changes by half across the field, a step in it, and vacancies."""
    rng = np.random.default_rng([seed, 1])
    at, _ = crystal(kind, cells=(18, 18), seed=seed)
    at = at[rng.random(len(at)) > 0.03]
    ramp = 1 + 0.25 * (at[:, 0] - at[:, 0].mean()) / np.ptp(at[:, 0])
    step = np.where(at[:, 1] > at[:, 1].mean() + 9, 1.15, 1.0)
    model = find_species([shown(at, 40 * ramp * step, error=3.0, seed=seed)], max_classes=2)
    assert model.halves == (None,) * len(model.classes.means)


@pytest.mark.parametrize("wedge", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("kind", [HONEYCOMB, DUMBBELLS])
def test_a_wedge_is_no_species(kind, wedge):
    """Two sublattices 20 % apart in a crystal whose thickness changes by up to twice as much to either side."""
    at, site = crystal(kind, cells=(24, 24))
    one = np.isin(site, (0, 2))
    thick = 1 + wedge * (2 * (at[:, 1] - at[:, 1].min()) / np.ptp(at[:, 1]) - 1)
    image = shown(at, np.where(one, 40.0, 49.0) * thick, error=3.5)
    model = find_species([image])
    assert model.names == ("I1", "I2")
    assert (label_by_place(image, model).labels == np.where(one, "I1", "I2")).mean() > 0.95


def test_a_movie_that_fades_keeps_its_species():
    frames = []
    for number, dose in enumerate((1.0, 0.9, 0.8, 0.7)):
        at, site = crystal(DUMBBELLS, cells=(16, 16), seed=number)
        one = np.isin(site, (0, 2))
        frames.append((one, shown(at, np.where(one, 40.0, 49.0) * dose, error=3.5, seed=number)))
    model = find_species([image for _, image in frames])
    for one, image in frames:
        assert (label_by_place(image, model).labels == np.where(one, "I1", "I2")).mean() > 0.95


def test_a_square_of_two_species_is_not_told_by_place():
    """SrTiO3 along [001]: every column repeats every other one, so that nothing but intensity can tell them apart."""
    at, _ = crystal(SQUARE, cells=(24, 24), turn=0.0, jitter=0.0)
    odd = (np.rint(at).sum(1) / 10).astype(int) % 2
    close = shown(at, np.where(odd, 40.0, 49.0), error=4.6)
    assert len(find_species([close]).names) == 1
    apart = shown(at, np.where(odd, 20.0, 49.0), error=4.6)
    assert (labels(apart) == np.where(odd, "I1", "I2")).mean() > 0.98


def test_a_foreign_atom_is_still_seen():
    at, site = crystal(DUMBBELLS, cells=(20, 20))
    bright = np.where(np.isin(site, (0, 2)), 40.0, 49.0)
    middle = np.argsort(np.hypot(*(at - at.mean(0)).T))[:60]
    foreign = middle[::6]
    bright[foreign] = 95.0
    name = labels(shown(at, bright, error=4.6))
    assert set(name[foreign]) == {"I3"} and not (np.delete(name, foreign) == "I3").any()


def test_a_value_that_is_none_is_told_by_its_place():
    at, site = crystal(DUMBBELLS, cells=(20, 20))
    one = np.isin(site, (0, 2))
    position, value, error = shown(at, np.where(one, 40.0, 49.0), error=4.6)
    gone = np.arange(200, 240)
    value[gone] = np.nan
    name = labels((position, value, error))
    assert (name == np.where(one, "I1", "I2")).mean() > 0.97
    assert (name[gone] == np.where(one, "I1", "I2")[gone]).mean() > 0.9


def test_two_grains_are_one_pair_of_species():
    """In each grain the repeats are its own; what is Ga in one is Ga in the other."""
    at, site = crystal(DUMBBELLS, cells=(24, 24))
    other, other_site = crystal(DUMBBELLS, cells=(24, 24), turn=1.1, seed=1)
    other = other - other.mean(0) + at.mean(0)
    half = at.mean(0)[1]
    left, right = at[:, 1] < half - 5, other[:, 1] > half + 5
    both = np.concatenate([at[left], other[right]])
    one = np.isin(np.concatenate([site[left], other_site[right]]), (0, 2))
    name = labels(shown(both, np.where(one, 40.0, 49.0), error=4.6))
    assert (name == np.where(one, "I1", "I2")).mean() > 0.93


def test_images_are_read_together():
    """Frames of a movie have one model, and a frame too small to show sublattices is labelled by it all the same."""
    images = []
    for seed in range(3):
        at, site = crystal(DUMBBELLS, cells=(10, 10), seed=seed)
        images.append(shown(at, np.where(np.isin(site, (0, 2)), 40.0, 49.0), error=4.6, seed=seed))
    model = find_species(images)
    half, told = model.halves[0], model.to_dict()
    assert half is not None and told["sublattices"] == {"I1": half.to_dict()}
    assert SpeciesModel.from_dict(told) == model.classes
    few = tuple(part[:3] for part in images[0])
    assert label_by_place(few, model).labels.shape == (3,)
    assert label_by_place(tuple(part[:0] for part in images[0]), model).labels.shape == (0,)


def test_probabilities_are_calibrated():
    sure, right = [], []
    for seed in range(12):
        at, site = crystal(HONEYCOMB, cells=(18, 18), seed=seed)
        one = site == 0
        image = shown(at, np.where(one, 40.0, 48.0), error=4.6, seed=seed)
        model = find_species([image])
        if model.halves[0] is None:
            continue
        told = label_by_place(image, model)
        sure.append(told.probability.max(1))
        right.append(told.labels == np.where(one, "I1", "I2"))
    assert len(sure) > 6
    sure, right = np.concatenate(sure), np.concatenate(right)
    assert right.mean() > 0.95 and -0.02 < right.mean() - sure.mean() < 0.05


def test_repeats_of_a_honeycomb_are_its_own_sublattice():
    at, site = crystal(HONEYCOMB, cells=(14, 14))
    repeat = repeats(at)
    there = repeat >= 0
    assert there.sum(1).mean() > 5
    assert (site[repeat][there] == np.broadcast_to(site[:, None], repeat.shape)[there]).mean() > 0.999
    assert not (repeat == np.arange(len(at))[:, None]).any()


def test_columns_in_no_order_have_no_repeats():
    at = np.random.default_rng(0).uniform(0, 300, (600, 2))
    assert (repeats(at) >= 0).sum(1).mean() < 0.5


def test_lengths_that_differ_are_told():
    at, _ = crystal(SQUARE)
    with pytest.raises(InputError, match="intensity"):
        find_species([(at, np.ones(len(at)), np.ones(3))])
    table = {"y": [1.0], "x": [2.0], "intensity": [3.0], "intensity_err": [0.5]}
    position, intensity, error = measured(table)
    assert position.tolist() == [[1.0, 2.0]] and intensity.tolist() == [3.0] and error.tolist() == [0.5]


def test_classes_of_negative_intensities_run_from_the_lowest_too():
    at, site = crystal(HONEYCOMB, cells=(20, 20))
    image = shown(at, np.where(site == 0, -40.0, -49.0), error=4.6)
    model = find_species([image])
    half = model.halves[0]
    assert half is not None and half.means == pytest.approx((-49 / 44.5, -40 / 44.5), rel=0.03)
    assert (label_by_place(image, model).labels == np.where(site == 0, "I2", "I1")).mean() > 0.97


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bright", [(0.0, 0.0), (0.0, 1.0)])
def test_intensities_of_zero_are_put_up_with(bright):
    at, site = crystal(HONEYCOMB)
    value = np.take(bright, site)
    image = at, value, np.full(len(at), 0.01)
    assert len(np.unique(labels(image))) == len(set(bright))
