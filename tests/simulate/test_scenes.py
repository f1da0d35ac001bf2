import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.core.material import load_material
from atomreel.simulate.scenes import (
    FAINT,
    FORMS,
    add_defects,
    defects_of,
    pick_material,
    random_pattern,
    random_scene,
)
from atomreel.simulate.stem import z_contrast
from atomreel.simulate.structures import crystal


def test_made_up_patterns_are_sound():
    for seed in range(60):
        pattern = random_pattern(np.random.default_rng(seed))
        assert 0.5 < pattern.nearest < 4.5
        assert abs(np.linalg.det(pattern.vectors)) > 0.5
        power = np.array([z_contrast(a) for a in pattern.atoms])
        assert np.array_equal(power > FAINT * power.max(), pattern.visible)


@pytest.mark.parametrize("name", ["ws2", "graphene", "srtio3", "au110", None])
def test_scenes_cover_the_field_and_have_no_collisions(name):
    material = load_material(name) if name else None
    forms = set()
    for seed in range(12):
        rng = np.random.default_rng([seed, 5])
        scene = random_scene(rng, material, nn_px=10.0, size=(128, 96))
        forms.add(scene.form)
        positions = scene.structure.positions
        apart = cKDTree(positions).query(positions, 2)[0][:, 1]
        assert np.quantile(apart, 0.01) > 0.4 * scene.nearest
        extent = np.array([128, 96]) * scene.nearest / 10
        if scene.form == "bulk":
            assert (positions.min(0) < -scene.nearest).all() and (
                positions.max(0) > extent + scene.nearest
            ).all()
    assert len(forms) > 2 and forms <= set(FORMS)


def test_the_share_of_defects(rng):
    ws2 = load_material("ws2")
    patch = crystal(ws2.project(), (0, 0, 200, 200))
    changed = add_defects(patch, defects_of(ws2, ws2.project(), rng), rng, share=0.05)
    pristine = np.isin(changed.labels, ["W", "S2"]).sum()
    assert 1 - pristine / len(patch) == pytest.approx(0.05, abs=0.01)


def test_picking():
    rng = np.random.default_rng(0)
    ws2 = load_material("ws2")
    assert pick_material(rng, ["generic"]) is None
    assert pick_material(rng, [ws2]) is ws2
    picked = [pick_material(rng, None) for _ in range(200)]
    assert 0.3 < np.mean([m is None for m in picked]) < 0.6
    assert len({m.name for m in picked if m}) > 9
