import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.material import Defect, load_material
from atomreel.simulate.structures import (
    Kind,
    Structure,
    apply_defect,
    beside,
    blob_mask,
    blob_order,
    crystal,
    grains,
    honeycomb_network,
    merge,
    particle,
    ring_centres,
    rotate,
    scatter_points,
    spread_apart,
)

BOX = (0.0, 0.0, 60.0, 50.0)
WS2 = load_material("ws2")


def nearest(positions):
    return cKDTree(positions).query(positions, 2)[0][:, 1]


@pytest.mark.parametrize("angle", [0.0, 17.0, -133.0])
def test_a_crystal_has_the_right_density_and_distances(angle):
    patch = crystal(WS2.project(), BOX, angle=angle)
    assert len(patch) == pytest.approx(2 * 3000 / (3.153**2 * np.sqrt(0.75)), rel=0.03)
    assert nearest(patch.positions) == pytest.approx(3.153 / np.sqrt(3), abs=1e-6)


def test_rotation_is_counter_clockwise_on_screen():
    assert rotate(np.array([[0.0, 1.0]]), 90) == pytest.approx(
        np.array([[-1.0, 0.0]])
    )  # right → up (y is down)


def test_two_grains_meet_without_collisions(rng):
    patch = grains(WS2.project(), BOX, rng, count=2)
    d = nearest(patch.positions)
    assert d.min() > 0.6 * 1.82 and np.median(d) == pytest.approx(1.82, abs=0.01)


def test_ring_network_is_three_fold(rng):
    centres = ring_centres((0, 0, 80, 80), rng, spacing=2.46, count=2)
    patch = honeycomb_network(centres, Kind("C", ("C",)))
    inner = np.all((patch.positions > 8) & (patch.positions < 72), axis=1)
    distances = cKDTree(patch.positions).query(patch.positions[inner], 4)[0][:, 1:]
    assert np.median(distances) == pytest.approx(1.42, abs=0.02)
    assert np.mean(np.abs(distances[:, 2] - 1.42) < 0.3) > 0.85  # three bonds nearly everywhere


def test_defects_change_what_they_say():
    patch = crystal(WS2.project(), BOX)
    sulphur, metal = (np.flatnonzero(patch.labels == label)[:3] for label in ("S2", "W"))
    assert (apply_defect(patch, sulphur, WS2.defect("V_S")).labels == "S1").sum() == 3
    assert len(apply_defect(patch, sulphur, WS2.defect("V_S2"))) == len(patch) - 3
    assert (apply_defect(patch, metal, WS2.defect("Mo_W")).labels == "Mo").sum() == 3
    assert len(apply_defect(patch, metal, WS2.defect("V_W"))) == len(patch) - 3
    moved = apply_defect(patch, metal, Defect("W_off", "move", "W", shift=0.5))
    assert np.hypot(*(moved.positions - patch.positions).T).sum() == pytest.approx(1.5)
    thinner = apply_defect(patch, metal, Defect("V_W", "remove", "W", share=0.25))
    assert thinner.height.sum() == pytest.approx(len(patch) - 0.75)
    assert set(patch.labels) == {"W", "S2"}  # the input is as it was


def test_merge_and_beside(rng):
    patch = crystal(WS2.project(), (0, 0, 20, 20))
    twice = merge([patch, patch])
    assert len(twice) == 2 * len(patch) and len(twice.kinds) == 2
    assert len(beside(patch, patch, 0.5)) == len(patch)
    assert len(spread_apart(twice, 1.82)) == len(patch)


def test_blobs_are_about_as_large_as_asked():
    y, x = np.mgrid[:100, :100].reshape(2, -1)
    points = np.stack([y, x], 1).astype(float)
    areas = [blob_mask(points, np.random.default_rng(i), centre=(50, 50), radius=20).sum() for i in range(30)]
    assert np.mean(areas) == pytest.approx(np.pi * 400, rel=0.15) and np.std(areas) > 20
    order = blob_order(points, np.random.default_rng(0), centre=(50, 50))
    assert np.hypot(*(points[order[:300]] - 50).T).max() < np.hypot(*(points[order[-300:]] - 50).T).min()


def test_a_particle_is_thickest_inside(rng):
    gold = load_material("au100").project()
    part = particle(gold, rng, centre=(30, 30), radius=15, angle=10, repeat=4.08)
    r = np.hypot(*(part.positions - 30).T)
    assert r.max() < 15 * 1.7 and part.height.min() >= 1
    assert part.height[r < 5].mean() > part.height[r > np.quantile(r, 0.9)].mean()


def test_scattered_points_keep_their_distance(rng):
    points = scatter_points((0, 0, 100, 100), rng, density=0.05, gap=2.0)
    assert nearest(points).min() > 2.0 and 300 < len(points) < 500


def test_lengths_must_agree():
    with pytest.raises(InputError, match="one kind and one height"):
        Structure(np.zeros((2, 2)), np.zeros(1, dtype=np.int64), np.ones(2), (Kind("C", ("C",)),))
