"""Frames measured wrong altogether, put into growths simulated piece by piece."""

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.strays import find_strays

RHO = 0.015
T = np.delete(np.arange(0.0, 230.0, 2.5), [20, 21, 50])


def grown(rng, start=14):
    """(T,) pieces, each of which brings forth the next one at RHO, counted with an error of half a piece."""
    pieces = [start]
    for step in np.diff(T):
        pieces.append(pieces[-1] + rng.negative_binomial(pieces[-1], np.exp(-RHO * step)))
    return np.array(pieces) + 0.5 * rng.standard_normal(len(T))


def test_half_of_the_holes_gone_for_a_frame(rng):
    found, wrong = {0: 0, 3: 0, 10: 0}, 0
    for _ in range(100):
        for k in found:
            area = grown(rng)
            area[k] -= 7
            stray = find_strays(T, area, 0.5, unit_area=1.0)
            found[k] += bool(stray[k])
            wrong += int(stray.sum() - stray[k])
    assert found[0] > 50 and min(found[3], found[10]) > 85, found  # the first has neighbours on one side only
    assert wrong < 8  # of 27,000 frames, neighbours of a stray one among them


def test_chance_is_no_stray_frame(rng):
    frames = sum(int(find_strays(T, grown(rng), 0.5, unit_area=1.0).sum()) for _ in range(150))
    assert frames < 5


def test_errors_that_are_larger_than_they_claim_are_no_strays(rng):
    steady = 50 + 4 * rng.standard_normal((40, 200))
    assert sum(int(find_strays(np.arange(200.0), one, 1.0).sum()) for one in steady) < 5
    steady[:, 60] += 60
    assert all(find_strays(np.arange(200.0), one, 1.0)[60] for one in steady)


def test_what_was_not_measured_is_not_judged(rng):
    area = grown(rng)
    area[[4, 30]] = np.nan
    area[29] += 40
    stray = find_strays(T, area, np.where(np.isnan(area), np.nan, 0.5), unit_area=1.0)
    assert np.flatnonzero(stray).tolist() == [29]
    assert not find_strays(T[:3], [1.0, 50.0, 1.0], 0.1).any()  # too few to tell


def test_bad_input():
    with pytest.raises(InputError, match="one area per time"):
        find_strays(T, [1.0, 2.0], 0.1)
    with pytest.raises(InputError, match="above 0"):
        find_strays([0.0, 1.0], [1.0, 2.0], 0.0)
