"""Particles are pieces of crystal, roughened as equation 9 says; exit waves agree with abTEM's and keep the intensity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.hrtem import interaction
from atomreel.simulate.particles import (
    CONSTANTS,
    Particle,
    coarser,
    exit_wave,
    faceted_sites,
    random_particle,
    roughen,
)

NEAREST = {
    "110": 0.25 * np.sqrt(6),
    "111": np.sqrt(1 / 6),
    "100": 0.5,
}  # distance of columns / lattice constant
REPEAT = {"110": np.sqrt(0.5), "111": np.sqrt(3.0), "100": 1.0}


@pytest.mark.parametrize("zone", ["110", "111", "100"])
@pytest.mark.parametrize("element", ["Au", "Pt", "Ag", "Cu"])
def test_columns_are_those_of_the_crystal(zone, element, rng):
    a = CONSTANTS[element]
    p = random_particle(rng, element=element, zone=zone, tilt=(0.0, 0.0), support=0.0)
    assert int(p.heights.sum()) == len(p.atoms)
    assert cKDTree(p.columns).query(p.columns, k=2)[0][:, 1].min() == pytest.approx(
        NEAREST[zone] * a, rel=1e-6
    )
    assert cKDTree(p.atoms).query(p.atoms, k=2)[0][:, 1].min() == pytest.approx(a / np.sqrt(2), rel=1e-6)
    distance, column = cKDTree(p.columns).query(p.atoms[:, :2])
    assert distance.max() < 1e-6
    np.testing.assert_array_equal(np.bincount(column), p.heights)
    z = p.atoms[column == int(np.argmax(p.heights)), 2]
    steps = np.diff(np.sort(z)) / (REPEAT[zone] * a)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)


def test_tilt_turns_the_column_axis_by_what_it_says(rng):
    for _ in range(5):
        p = random_particle(rng, tilt=(2.0, 2.0), support=0.0)
        neighbours = cKDTree(p.atoms).query(p.atoms, k=13)[1]
        bonds = (p.atoms[neighbours[:, 1:]] - p.atoms[:, None]).reshape(-1, 3)
        along = bonds[(np.abs(bonds[:, 2]) > 2.7) & (np.linalg.norm(bonds, axis=1) < 3.0)]
        lean = np.rad2deg(np.arccos(np.abs(along[:, 2]) / np.linalg.norm(along, axis=1)))
        assert np.median(lean) == pytest.approx(2.0, abs=1e-6)


def test_facets_are_planes_of_low_index(rng):
    """A site is missing only where one of the 26 planes cuts it off: the particle is the whole crystal inside its planes."""
    sites = faceted_sites(rng, size=8.0, beam=np.array([1, 1, 0]) / np.sqrt(2), thick=6.0)
    grid = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[grid.sum(1) % 2 == 0]
    normals = np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)]) - 1
    limit = (sites @ normals.T).max(0)
    inside = np.all(grid @ normals.T <= limit, axis=1)
    assert {tuple(s) for s in sites} == {tuple(s) for s in grid[inside]}


def test_roughening_follows_equation_9(rng):
    """One atom beside two: sites that touch both (n = 2) against those that touch one, in the ratio of exp(n / T)."""
    start = np.array([[0, 0, 0], [1, 1, 0]])
    steps = np.array([d for d in np.ndindex(3, 3, 3) if np.abs(np.array(d) - 1).sum() == 2]) - 1
    beside = {tuple(s + d) for s in start for d in steps} - {tuple(s) for s in start}
    touching = {
        b: sum(np.abs(np.array(b) - s).max() == 1 and np.abs(np.array(b) - s).sum() == 2 for s in start)
        for b in beside
    }
    weight = {b: np.exp(n / 0.8) for b, n in touching.items()}
    both = sum(w for b, w in weight.items() if touching[b] == 2) / sum(weight.values())
    hits = total = 0
    for _ in range(1500):
        more = {tuple(s) for s in roughen(start, rng, share=0.5, temperature=0.8)} - {tuple(s) for s in start}
        if len(more) == 1:
            total += 1
            hits += touching[next(iter(more))] == 2
    assert hits / total == pytest.approx(both, abs=3 * np.sqrt(both * (1 - both) / total))


def lone_atom() -> Particle:
    return Particle("Au", "110", np.zeros((1, 3)), np.zeros((1, 2)), np.ones(1, dtype=np.int64), {}, 0.0)


def test_one_atom_is_a_phase_object_and_intensity_is_kept(rng):
    """The phase of one atom, integrated over the field, is σ times its projected potential's integral, h²f(0)/2πme."""
    wave = exit_wave(lone_atom(), side=160, pixel=0.125, thermal=0.12)
    volume = np.angle(wave).sum() * 0.125**2
    assert volume == pytest.approx(interaction(300.0) * 47.878 * 11.2, rel=0.06)  # f(0) of gold is 11 Å
    p = random_particle(rng, radius=(7, 8), support=1.0, field=36.0)
    wave = exit_wave(p, side=288, pixel=0.125)
    assert np.mean(np.abs(wave) ** 2) == pytest.approx(1.0, abs=0.01)
    small = coarser(wave, 144)
    spectrum, cut = np.fft.fft2(wave), np.fft.fft2(small)
    np.testing.assert_allclose(cut[:60, :60] * 4, spectrum[:60, :60], atol=1e-3 * np.abs(spectrum).max())
    carrier = np.concatenate(list(p.support.values()))
    assert len(carrier) > 50
    assert cKDTree(p.atoms[:, :2]).query(carrier[:, :2])[0].min() > 0.3


def test_agrees_with_abtem(tmp_path, rng):
    """Amplitudes and phases that a microscope passes on (up to 1.4 1/Å): within 4 % of the scattered wave, 10 % of
    the contrast of the intensity right behind the particle, where a phase object has hardly any."""
    pytest.importorskip("abtem")
    from ase import Atoms

    from atomreel.simulate.multislice import exit_wave as theirs

    p = random_particle(rng, tilt=(1.5, 1.5), radius=(6.5, 6.5), support=0.0)
    side, n = 24.0, 480
    at = p.atoms[:, [1, 0, 2]] + [side / 2, side / 2, 2 - p.atoms[:, 2].min()]
    box = Atoms(["Au"] * len(at), at, cell=[side, side, np.ptp(at[:, 2]) + 4])
    reference, _ = theirs(box, voltage=300.0, pixel=side / n, slice_thickness=0.5, cache=tmp_path)
    own = exit_wave(p, side=n, pixel=side / n, thermal=0.0, slice_thickness=0.75)
    q2 = np.add.outer(np.fft.fftfreq(n, side / n) ** 2, np.fft.fftfreq(n, side / n) ** 2)
    own, reference = (np.fft.ifft2(np.fft.fft2(w) * (q2 < 1.4**2)) for w in (own, reference))
    assert np.linalg.norm(own - reference) / np.linalg.norm(reference - 1) < 0.04
    ours, other = np.abs(own) ** 2, np.abs(reference) ** 2
    assert np.linalg.norm(ours - other) / np.linalg.norm(other - 1) < 0.10


def test_unknown_names(rng):
    with pytest.raises(UnknownNameError, match="element"):
        random_particle(rng, element="Xx")
    with pytest.raises(UnknownNameError, match="zone"):
        random_particle(rng, zone="123")
