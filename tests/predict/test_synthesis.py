"""The forward model against the simulator's own multislice on a fine grid, and its derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.predict import synthesis
from atomreel.predict.synthesis import Columns, Grid, column_changes, column_library, exit_wave, view
from atomreel.simulate.hrtem import Optics, image_waves
from atomreel.simulate.particles import Particle, coarser
from atomreel.simulate.particles import exit_wave as fine_wave

SIDE, STEP, THERMAL = 20.0, 4.078 / 8**0.5, 0.075
FOCUS = (-170.0, -40.0, 90.0)
NAMES = synthesis.names(3)


def small(tilt=(0.0, 0.0)):
    """Seven columns along [110], 2 to 7 atoms; tilt is applied by hand to the atoms."""
    basis = 4.078 * np.array([[0.5, 0.125**0.5], [0.5, -(0.125**0.5)]])
    site = np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (1, -1), (-1, 1)])
    count = np.array([7, 5, 4, 2, 6, 3, 5])
    low = site.sum(1) % 2 + 2 * np.array([-3, -2, -2, 0, -3, -1, -1])
    return Columns(SIDE / 2 + site @ basis + 0.03, low, count, 2, STEP)


def shared(**values):
    usual = {"cs": -14.0, "c5": 2.0, "a_cos": 3.0, "a_sin": 4.0, "spread2": 700.0, "deflection2": 0.02}
    return np.array([{**usual, **values}.get(name, 0.0) for name in NAMES])


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.03, -0.02)])
def test_images_are_those_of_a_fine_multislice(tilt):
    torch = pytest.importorskip("torch")
    grid, columns = Grid(SIDE, FOCUS, 300.0, "Au"), small()
    atoms = []
    for at, low, n, middle in zip(columns.position, columns.low, columns.count, columns.middle, strict=True):
        z = STEP * (low + 2 * np.arange(n))
        atoms.append(np.column_stack([at + (z - middle)[:, None] * tilt - SIDE / 2, z]))
    atoms = np.concatenate(atoms)
    particle = Particle("Au", "110", atoms, columns.position, columns.count, {}, 0.0)
    wave = fine_wave(particle, side=360, pixel=SIDE / 360, thermal=THERMAL, slice_thickness=1.2)
    top = atoms[:, 2].max()
    optics = [
        Optics(300.0, f + 7.0, -14.0, 2.0, 5.0, 0.5 * np.degrees(np.arctan2(4, 3)), 700**0.5, 0.02**0.5)
        for f in FOCUS
    ]
    n = 120
    waves = torch.from_numpy(coarser(wave, n))[None].expand(3, -1, -1)
    spectra = np.fft.rfft2(image_waves(waves, SIDE / n, optics).numpy()) / n**2
    k = np.rint(np.fft.fftfreq(grid.coarse) * grid.coarse).astype(int)[grid.rows[0]]
    true = spectra[:, k, grid.rows[1]]
    library = column_library(grid, 8, spacing=2 * STEP, thermal2=THERMAL**2, tilt=tilt)
    found = view(grid, exit_wave(grid, columns, library, thermal2=THERMAL**2), shared(focus=7.0 - top))
    assert np.linalg.norm(found.coefficients - true) < 0.03 * np.linalg.norm(true)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.02, 0.01)])
def test_derivatives_by_atoms_and_positions(tilt):
    grid, columns = Grid(SIDE, FOCUS, 300.0, "Au"), small()
    library = column_library(grid, 9, spacing=2 * STEP, thermal2=THERMAL**2, tilt=tilt)
    wave = exit_wave(grid, columns, library, thermal2=THERMAL**2)
    seen = view(grid, wave, shared())

    def images(i, atoms=0, planes=0, y=0.0):
        count, low, at = columns.count.copy(), columns.low.copy(), columns.position.copy()
        count[i] += atoms
        low[i] += planes
        at[i] += np.array(tilt) * STEP * (planes + atoms) + (y, 0.0)  # the other atoms stay
        other = Columns(at, low, count, 2, STEP)
        return view(grid, exit_wave(grid, other, library, thermal2=THERMAL**2), shared()).coefficients

    for i in (0, 3):
        found = column_changes(grid, columns, i, library=library, seen=seen)
        top = 0.5 * (images(i, 1) - images(i, -1))
        bottom = 0.5 * (images(i, 1, -2) - images(i, -1, 2))
        slope = (images(i, y=0.02) - images(i, y=-0.02)) / 0.04
        for mine, true in ((found[0], 0.5 * (top + bottom)), (found[1], top - bottom), (found[2], slope)):
            assert np.linalg.norm(mine - true) < 0.1 * np.linalg.norm(true)


def test_an_empty_site_gives_one_atom():
    grid, columns = Grid(SIDE, FOCUS, 300.0, "Au"), small()
    count = columns.count.copy()
    count[3] = 0
    library = column_library(grid, 9, spacing=2 * STEP, thermal2=THERMAL**2)
    waves = []
    for n in (0, 1):
        count = count.copy()
        count[3] = n
        waves.append(
            exit_wave(
                grid, Columns(columns.position, columns.low, count, 2, STEP), library, thermal2=THERMAL**2
            )
        )
    count[3] = 0
    empty = Columns(columns.position, columns.low, count, 2, STEP)
    seen = view(grid, waves[0], shared())
    true = view(grid, waves[1], shared()).coefficients - seen.coefficients
    found = column_changes(grid, empty, 3, library=library, seen=seen)
    assert found.shape[0] == 1 and np.linalg.norm(found[0] - true) < 0.2 * np.linalg.norm(true)
