import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from atomreel.core.errors import InputError
from atomreel.interpret.subclasses import inner_atoms, sub_classes

BRIGHT = {"W": 1.0, "Mo": 0.47, "S2": 0.15, "S1": 0.075}
SIDES = np.deg2rad([-70.0, 50.0, 170.0])  # y down


def scene(rng, *, scatter, count=400, pushed=0.0):
    """Dopants far apart, each with three neighbours, one of them half in states 1 to 3; no lattice code used."""
    states = rng.integers(0, 4, count)
    dopants, atoms = [], []
    for n, state in enumerate(states):  # forty to a frame
        frame, middle = n // 40, 60 * np.array([n % 40 // 8, n % 8]) + rng.uniform(20, 40, 2)
        dopants.append((frame, *middle))
        atoms.append((frame, *middle, BRIGHT["Mo"]))
        for j, side in enumerate(SIDES, start=1):
            less = j == state
            far = 9.1 * (1 + pushed * less)
            place = middle + far * np.array([np.sin(side), np.cos(side)]) + rng.normal(0, 0.3, 2)
            bright = (0.5 if less else 1.0) + scatter * rng.standard_normal()
            atoms.append((frame, *place, 0.15 * bright))
    dopants = pd.DataFrame(dopants, columns=["frame", "y", "x"])
    return dopants, pd.DataFrame(atoms, columns=["frame", "y", "x", "intensity"]), states


def oracle(dopants, atoms, states, scatter):
    """ARI of someone who knows brightnesses, noise and prior: what the noise allows."""
    bright = atoms["intensity"].to_numpy().reshape(-1, 4)[:, 1:] / 0.15
    gain = ((bright - 1) ** 2 - (bright - 0.5) ** 2) / (2 * scatter**2)
    best = np.concatenate([np.zeros((len(gain), 1)), gain], axis=1).argmax(axis=1)
    return adjusted_rand_score(states, best)


def test_directions_and_brightness_are_what_they_are():
    dopants, atoms, states = scene(np.random.default_rng(0), scatter=0.0)
    shell = inner_atoms(dopants, atoms)
    assert shell.directions == pytest.approx([-70, 50, 170], abs=0.3)
    assert np.abs(shell.shift.mean(axis=0)).max() < 0.01
    less = shell.brightness < 0.75
    assert np.array_equal(np.where(less.any(axis=1), less.argmax(axis=1) + 1, 0), states)


@pytest.mark.parametrize("scatter", [0.08, 0.115])
def test_four_sub_classes_as_well_as_the_noise_allows(scatter):
    for seed in range(2):
        dopants, atoms, states = scene(np.random.default_rng(seed), scatter=scatter)
        found = sub_classes(inner_atoms(dopants, atoms))
        assert sorted(found.of_class) == [0, 1, 2, 3]
        got, best = adjusted_rand_score(states, found.state), oracle(dopants, atoms, states, scatter)
        assert got > best - 0.04 and best > 0.8
        assert (found.state == states).mean() > 0.9  # and by their right names


def test_a_distortion_alone_makes_classes_too():
    """Neighbours of usual brightness that stand further off: four classes again, none of them dim."""
    dopants, atoms, states = scene(np.random.default_rng(4), scatter=0.0, pushed=0.15)
    atoms["intensity"] = np.where(atoms["intensity"] < 0.1, 0.15, atoms["intensity"])
    found = sub_classes(inner_atoms(dopants, atoms))
    assert adjusted_rand_score(states, found.classes.label) > 0.95
    assert set(found.state) == {0}


def test_a_column_that_was_not_found_is_dark():
    dopants, atoms, states = scene(np.random.default_rng(5), scatter=0.05)
    faint = atoms["intensity"] < 0.1
    shell = inner_atoms(dopants, atoms[~faint])
    found = sub_classes(shell)
    assert (found.state == states).mean() == 1


def test_refusals():
    dopants, atoms, _ = scene(np.random.default_rng(6), scatter=0.1, count=40)
    with pytest.raises(InputError, match="intensity"):
        inner_atoms(dopants, atoms.drop(columns="intensity"))
    turned = atoms.copy()
    angle = np.repeat(np.random.default_rng(0).uniform(0, 2 * np.pi, 40), 4)
    far = atoms[["y", "x"]].to_numpy() - np.repeat(dopants[["y", "x"]].to_numpy(), 4, axis=0)
    turned["y"] += np.cos(angle) * far[:, 0] - np.sin(angle) * far[:, 1] - far[:, 0]
    turned["x"] += np.sin(angle) * far[:, 0] + np.cos(angle) * far[:, 1] - far[:, 1]
    with pytest.raises(InputError, match="no directions in common"):
        inner_atoms(dopants, turned)
