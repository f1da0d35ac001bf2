"""Scenes of a lattice of Gaussians: labels, transplants and twins say what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret.residual import lattice_residual
from atomreel.interpret.scenes import Scene, pristine, scene_of, surrogate, transplanted


@pytest.fixture(scope="module")
def scene() -> Scene:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:140, :140].astype(float)
    image = np.zeros((140, 140))
    for i in range(-1, 17):
        for j in range(-1, 17):
            py, px = 9.1 * i + 0.9 * j + 1.2, 9.3 * j - 0.7 * i + 0.4
            height = {(5, 6): 0.1, (10, 4): 2.1, (3, 12): 0.15}.get((i, j), 1.0)
            image += height * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * 1.7**2))
    return scene_of(lattice_residual(rng.poisson(40 * image + 3)))


def test_the_three_changed_columns_are_the_sure_spots(scene: Scene) -> None:
    sure = scene.spots[scene.spots["p"] >= 0.9]
    true = np.array(
        [[9.1 * i + 0.9 * j + 1.2, 9.3 * j - 0.7 * i + 0.4] for i, j in ((5, 6), (10, 4), (3, 12))]
    )
    gaps = np.hypot(*(sure[["y", "x"]].to_numpy()[:, None] - true).transpose(2, 0, 1))
    assert len(sure) == 3
    assert np.all(gaps.min(0) < 1)
    assert sorted(sure["sign"]) == [-1, -1, 1]
    assert scene.spots["p"].sum() < 5  # the other maxima are noise, and known as such


def test_targets_are_probabilities_with_the_labels_in_the_right_place(scene: Scene) -> None:
    target, weight = scene.targets()
    assert np.allclose(target.sum(0), 1)
    for _, spot in scene.spots[scene.spots["p"] >= 0.9].iterrows():
        i, j = round(spot["y"]), round(spot["x"])
        assert target[1 if spot["sign"] > 0 else 2, i, j] == pytest.approx(spot["p"], abs=1e-6)
        assert weight[i, j] == 1
        assert weight[i, j + round(1.8 * scene.sigma)] == 0  # neither in nor out
    assert (weight[~scene.valid] == 0).all()


def test_a_pristine_twin_has_no_defect_and_the_same_noise(scene: Scene) -> None:
    twin = pristine(scene, np.random.default_rng(0))
    assert np.abs(twin.z).max() < 5 < np.abs(scene.z).max()
    core = scene.valid & (np.abs(scene.z) < 2.5)
    assert twin.z[core].std() == pytest.approx(scene.z[core].std(), rel=0.02)
    assert len(twin.spots) == 0


def test_a_surrogate_has_new_noise_of_the_same_kind(scene: Scene) -> None:
    twin = surrogate(scene, np.random.default_rng(0))
    core = scene.valid & (np.abs(scene.z) < 2.5)
    assert twin.z[core].std() == pytest.approx(scene.z[core].std(), rel=0.15)
    assert abs(np.corrcoef(twin.z[core], scene.z[core])[0, 1]) < 0.1
    assert np.abs(twin.z).max() < 5
    other = surrogate(scene, np.random.default_rng(1))
    assert abs(np.corrcoef(twin.z[core], other.z[core])[0, 1]) < 0.1


def test_transplants_are_there_with_the_height_they_claim(scene: Scene) -> None:
    twin = pristine(scene, np.random.default_rng(0))
    ratios = []
    for seed in range(4):
        made = transplanted(twin, scene, np.random.default_rng(seed), count=6)
        assert len(made.spots) == 6
        assert (made.spots["z"].abs() >= 2.3).all()
        change = made.z - twin.z
        for _, spot in made.spots.iterrows():
            i, j = round(spot["y"]), round(spot["x"])
            ratios.append(change[i, j] / spot["z"])
    assert 0.75 < np.median(ratios) < 1.15
    assert np.min(ratios) > 0.4


def test_a_transplant_goes_where_a_lattice_vector_leads(scene: Scene) -> None:
    made = transplanted(pristine(scene, np.random.default_rng(0)), scene, np.random.default_rng(1), count=40)
    sure = scene.spots[scene.spots["p"] >= 0.9][["y", "x"]].to_numpy()
    moves = made.spots[["y", "x"]].to_numpy()[:, None] - sure
    cells = moves @ np.linalg.inv(scene.vectors)
    on = (np.abs(cells - np.rint(cells)).max(2) < 1e-6).any(1)
    assert 0.5 < on.mean() < 0.95  # the others are Gaussians anywhere


def test_nothing_is_changed_in_place(scene: Scene) -> None:
    before = scene.residual.copy()
    transplanted(scene, scene, np.random.default_rng(0), count=5)
    pristine(scene, np.random.default_rng(0))
    assert np.array_equal(scene.residual, before)
