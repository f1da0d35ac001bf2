import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from atomreel.core.errors import InputError
from atomreel.interpret.crops import aligned, classify, cut_crops, mean_crops
from atomreel.simulate.history import Rates
from atomreel.simulate.movie import simulate_ws2_movie


def blobs(where, size=64, sigma=2.0):
    y, x = np.mgrid[:size, :size]
    return sum(h * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * sigma**2)) for a, b, h in where)


def test_crops_are_centred_to_parts_of_a_pixel():
    """The centre of mass of every crop of a blob at any place lies in its middle."""
    rng = np.random.default_rng(0)
    places = rng.uniform(20, 43, (12, 2))
    frames = [blobs([(*p, 1.0)]) for p in places]
    table = pd.DataFrame({"frame": range(12), "y": places[:, 0], "x": places[:, 1]})
    crops = cut_crops(frames, table, size=15)
    grid = np.mgrid[-7:8, -7:8]
    for image in crops.images[:, 0]:
        weight = image - image.min()
        centre = (grid * weight**2).sum(axis=(1, 2)) / (weight**2).sum()
        assert np.abs(centre).max() < 0.02


def test_a_direction_comes_to_lie_along_x():
    """A second blob at 50° counter-clockwise on screen, so above and to the right, lies to the right after the turn."""
    angle = np.deg2rad(50)
    frame = blobs([(32, 32, 1.0), (32 - 8 * np.sin(angle), 32 + 8 * np.cos(angle), 1.0)])
    table = pd.DataFrame({"frame": [0], "y": [32.0], "x": [32.0]})
    turned = cut_crops([frame], table, size=25, turn=50.0).images[0, 0]
    expected = cut_crops([blobs([(32, 32, 1.0), (32, 40, 1.0)])], table, size=25).images[0, 0]
    assert np.abs(turned - expected).max() < 0.02 * expected.max()


def test_equivalent_orientations_coincide_or_stay_apart():
    rng = np.random.default_rng(1)
    frames, turns = [], rng.integers(0, 3, 90)
    for k in turns:
        angle = np.deg2rad(20 + 120 * k)
        spots = [(32, 32, 1.0), (32 - 7 * np.sin(angle), 32 + 7 * np.cos(angle), 0.7)]
        frames.append(blobs(spots) + 0.1 * rng.standard_normal((64, 64)))
    table = pd.DataFrame({"frame": range(90), "y": 32.0, "x": 32.0})
    crops = cut_crops(frames, table, size=21, fold=3)
    apart = classify(crops.images[:, 0], most=5)
    assert apart.probability.shape[1] == 3 and adjusted_rand_score(turns, apart.label) == 1
    together, which = aligned(crops)
    assert classify(together, most=4).probability.shape[1] == 1
    assert adjusted_rand_score(turns, which) == 1


def test_the_number_of_classes_is_that_of_the_groups():
    """1 to 4 well separated groups in noise: ICL and BIC both find their number; without groups there is one."""
    rng = np.random.default_rng(2)
    for k in range(1, 5):
        centres = rng.normal(0, 3, (k, 40))
        truth = rng.integers(0, k, 300)
        found = classify(centres[truth] + rng.standard_normal((300, 40)), most=5)
        best = found.criteria.loc[[found.criteria["icl"].idxmin(), found.criteria["bic"].idxmin()], "classes"]
        assert best.tolist() == [k, k]
        assert adjusted_rand_score(truth, found.label) > 0.99
        assert found.criteria["chosen"].sum() == 1
        assert found.probability.sum(axis=1) == pytest.approx(1)
        assert (np.diff(np.bincount(found.label)) <= 0).all()


def test_a_class_of_a_few_has_no_spread_of_its_own():
    """Fifty descriptors of one group: one class, however few points a spread of its own could be fitted to."""
    for seed in range(4):
        data = np.random.default_rng(seed).standard_normal((50, 30))
        found = classify(data)
        assert found.probability.shape[1] == 1
        assert found.criteria.loc[found.criteria["shape"] == "full", "bic"].iloc[4:].isna().all()


def test_icl_does_not_split_what_is_no_gaussian():
    """Two groups, one of them a ring: BIC uses several Gaussians for it, ICL fewer."""
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, 400)
    ring = np.stack([10 * np.cos(angle), 10 * np.sin(angle)], axis=1) + rng.normal(0, 1, (400, 2))
    data = np.concatenate([ring, rng.normal(40, 1, (200, 2))])
    criteria = classify(data, most=7).criteria
    at = criteria.loc[[criteria["bic"].idxmin(), criteria["icl"].idxmin()], "classes"].to_numpy()
    assert at[1] < at[0]


def test_kinds_of_a_simulated_movie():
    """ARI against the truth: V_S, V_W and Mo (with and without a vacancy, which crops at these doses cannot tell) are found as classes."""
    movie = simulate_ws2_movie(8, frames=16, metal_vacancies=3, rates=Rates(turn=0.02))
    table = movie.defects.reset_index(drop=True)
    crops = cut_crops(movie.frames, table, size=25)
    found = classify(crops.images[:, 0], most=5)
    kind = table["kind"].iloc[crops.rows].str.replace("+V_S", "")
    assert adjusted_rand_score(kind, found.label) > 0.97
    means = mean_crops(crops.images[:, 0], found.probability)
    middle = dict(zip(kind.groupby(found.label).first(), means[:, 12, 12], strict=False))
    assert middle["Mo_W"] > middle["V_S"]


def test_refusals():
    table = pd.DataFrame({"frame": [0], "y": [3.0], "x": [30.0]})
    with pytest.raises(InputError, match="smaller size"):
        cut_crops([np.ones((60, 60))], table, size=21)
    with pytest.raises(InputError, match="at least 5"):
        cut_crops([np.ones((60, 60))], table, size=3)
    with pytest.raises(InputError, match="y"):
        cut_crops([np.ones((60, 60))], table[["frame", "x"]], size=9)
    with pytest.raises(InputError, match="16"):
        classify(np.zeros((5, 4)))
    with pytest.raises(InputError, match="icl"):
        classify(np.zeros((50, 4)), criterion="aic")
