"""Particles stand where they are said to, vacuum stays vacuum, and thickness does what a phase object cannot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from atomreel.core.material import load_material
from atomreel.simulate.hrtem import Optics, phase_object
from atomreel.simulate.particles import Particle
from atomreel.simulate.scenes import Scene, random_scene
from atomreel.simulate.structures import Kind, Structure
from atomreel.simulate.waves import FieldWave, field_wave

SHARP = Optics(300.0, defocus=-60.0, cs=-15.0)


def lonely(centre: tuple[float, float], atoms: int) -> Scene:
    """One column of `atoms` atoms of gold, with its particle's middle at `centre` [Å]."""
    at = np.zeros((atoms, 3))
    at[:, 2] = 2.884 * np.arange(atoms)
    particle = Particle("Au", "110", at, np.zeros((1, 2)), np.array([atoms]), {}, 0.0)
    structure = Structure(
        np.array([centre]), np.zeros(1, int), np.array([float(atoms)]), (Kind("Au", ("Au",)),)
    )
    return Scene(structure, "au110", "faceted", 2.5, False, ((np.array(centre), particle),))


def bare(scene: Scene, **given) -> FieldWave:
    """Without carbon under it: the first seed that draws none."""
    for seed in range(20):
        made = field_wave(scene, np.zeros((1, 2)), np.random.default_rng(seed), **given)
        if abs(made.wave[0, 0] - 1) < 1e-3:
            return made
    raise AssertionError("carbon everywhere")


@pytest.mark.parametrize("pixel", [0.12, 0.2, 0.4])
def test_a_column_is_seen_where_it_stands(pixel):
    """Also between pixels, and where the wave is finer than the image."""
    true = np.array([20.37, 33.81])
    made = bare(lonely(tuple(true * pixel), 3), size=(64, 80), pixel=pixel, voltage=300.0)
    image = made.image(SHARP)
    assert image.shape == (64, 80) and made.pixel / made.finer <= 0.17
    assert image[50:, :10].mean() == pytest.approx(1.0, abs=0.02)
    strength = ndimage.gaussian_filter(np.abs(image - 1), 0.2 / pixel) ** 2
    strength[np.hypot(*(np.indices(image.shape) - true[:, None, None])) > 2.0 / pixel] = 0
    assert ndimage.center_of_mass(strength) == pytest.approx(true, abs=max(0.12, 0.02 / pixel))


def test_one_atom_is_a_phase_object_and_ten_are_not():
    for atoms, alike in ((1, True), (10, False)):
        made = bare(lonely((5.0, 5.0), atoms), size=(64, 64), pixel=0.15, voltage=300.0)
        at = np.array([[5.0, 5.0]]) / 0.15 + made.pad
        shape = made.wave.shape
        flat = phase_object(
            {"Au": at}, {"Au": np.array([float(atoms)])}, shape, pixel=0.15, voltage=300.0, thermal=0.075
        )
        middle = tuple(np.rint(at[0]).astype(int))
        ring = np.hypot(*(np.indices(shape) - at[0][:, None, None])) < 4
        far = np.abs(made.wave - flat)[ring].mean() / np.abs(flat - 1)[ring].mean()
        assert (far < 0.35) == alike, (middle, far)


def test_particles_cut_by_the_edge_and_beyond_it_do_not_disturb():
    for centre in ((0.0, 3.0), (-40.0, 4.0)):
        made = bare(lonely(centre, 5), size=(64, 64), pixel=0.15, voltage=300.0)
        image = made.image(SHARP)
        assert np.isfinite(image).all() and image.mean() == pytest.approx(1.0, abs=0.05)


def test_gold_becomes_faceted_particles_with_known_atoms():
    gold = load_material("au110")
    made = [
        random_scene(np.random.default_rng(seed), gold, nn_px=10.0, size=(256, 256), faceted=0.6)
        for seed in range(16)
    ]
    faceted = [scene for scene in made if scene.particles]
    assert 4 < len(faceted) < 15
    for scene in faceted:
        assert scene.form == "faceted" and scene.nearest == pytest.approx(gold.project().nearest, rel=1e-3)
        assert scene.structure.height.sum() == sum(len(p.atoms) for _, p in scene.particles)
    assert not random_scene(np.random.default_rng(0), gold, nn_px=10.0, size=(256, 256)).particles
    gallium = load_material("gaas110")
    assert not any(
        random_scene(np.random.default_rng(seed), gallium, nn_px=10.0, size=(128, 128), faceted=1.0).particles
        for seed in range(12)
    )
