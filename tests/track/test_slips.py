"""A crystal whose columns are known, followed by a drift that is made to jump by a lattice vector."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.track.slips import without_slips

SHAPE = (160, 180)
A = np.array([[0.0, 14.0], [12.1, 7.0]])


def movie(rng: np.random.Generator, *, dopants: int, frames: int = 12) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns frame by frame with some dim ones that stay, one that hops and 3 % missed; and the true drift."""
    n = np.arange(-20, 30)
    place = (np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ A) + 3.0
    near = ((place > 20) & (place < np.array(SHAPE) - 20)).all(axis=1)
    bright = np.full(len(place), 60.0)
    bright[rng.choice(np.flatnonzero(near), dopants, replace=False)] = 25.0
    path = np.cumsum(rng.normal(0, 0.4, (frames, 2)), axis=0)
    parts = []
    for frame, shift in enumerate(path):
        hopped = bright.copy()
        hopped[rng.choice(np.flatnonzero(near))] = 30.0
        seen = place + shift + rng.normal(0, 0.2, place.shape)
        kept = ((seen > 0) & (seen < np.array(SHAPE) - 1)).all(axis=1) & (rng.random(len(seen)) > 0.03)
        light = hopped + rng.normal(0, 3, len(place))
        parts.append(
            pd.DataFrame({"frame": frame, "y": seen[kept, 0], "x": seen[kept, 1], "intensity": light[kept]})
        )
    return pd.concat(parts, ignore_index=True), path


def told(path: np.ndarray, *, jumps: dict[int, np.ndarray], rival: np.ndarray) -> pd.DataFrame:
    seen = path.copy()
    for frame, jump in jumps.items():
        seen[frame:] += jump
    table = pd.DataFrame({"frame": np.arange(len(path)), "dy": seen[:, 0], "dx": seen[:, 1]})
    return table.assign(alias_dy=rival[:, 0], alias_dx=rival[:, 1])


@pytest.mark.parametrize("seed", range(4))
def test_jumps_by_a_lattice_vector_are_taken_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms, path = movie(rng, dopants=12)
    rival = np.rint(np.where(rng.random((12, 1)) < 0.5, A[1], -A[1]))
    drift = told(path, jumps={5: A[1], 9: -A[1]}, rival=rival)
    found, slipped = without_slips(drift, [atoms[atoms.frame < 7], atoms[atoms.frame >= 7]])
    assert slipped == [5, 9]
    assert np.abs(found[["dy", "dx"]].to_numpy() - path).max() < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_a_drift_that_is_right_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for dopants in (0, 12):  # of a perfect crystal nobody can tell
        atoms, path = movie(rng, dopants=dopants)
        drift = told(path, jumps={}, rival=np.tile(A[0], (12, 1)))
        found, slipped = without_slips(drift, [atoms])
        assert slipped == [] and found.equals(drift)
    bare = drift.drop(columns=["alias_dy", "alias_dx"])
    assert without_slips(bare, [atoms])[0] is bare
    assert without_slips(drift, [atoms.drop(columns="intensity")])[1] == []
