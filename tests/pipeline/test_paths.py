"""A vacancy that hops there and back, written as likelihoods of the sites."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atomreel.interpret.levels import Levels
from atomreel.pipeline.complexes import Sublattice
from atomreel.pipeline.paths import retraced

A = 16.0
FRAMES = 30


def row_of_sites(seed: int = 0) -> tuple[Sublattice, np.ndarray]:
    """A triangular patch of 49 sites that all speak for their usual occupant by about 8, with scatter."""
    i, j = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    where = np.column_stack([(A * np.sqrt(0.75) * i).ravel(), (A * (j + 0.5 * (i % 2))).ravel()])
    log = np.zeros((49, FRAMES, 2))
    log[:, :, 1] = np.random.default_rng(seed).normal(-8, 1.5, (49, FRAMES))
    one = np.ones(2)
    levels = Levels(("S2", "V_S"), np.array([1, 0.5]), 0.1 * one, 0.02 * one, 0.5 * one, log)
    seen = np.ones((49, FRAMES), dtype=bool)
    return Sublattice(0, "S2", np.arange(100, 149), levels, np.zeros((49, FRAMES, 2)), seen), where


def path(sites: np.ndarray, where: np.ndarray, *, track: int = 0) -> pd.DataFrame:
    rows = pd.DataFrame(
        {"frame": np.arange(FRAMES), "y": where[sites, 0], "x": where[sites, 1], "site": sites + 100}
    )
    return rows.assign(kind="V_S", score=0.9, track=track)


def test_a_hop_there_and_back_is_two_hops() -> None:
    """At site 24 in all frames but one, in which its neighbour 25 lacks the atom; bridged, as sites alone take it."""
    layer, where = row_of_sites()
    true = np.full(FRAMES, 24)
    true[11] = 25
    layer.levels.log[true, np.arange(FRAMES), 1] = 7.0
    found = retraced(path(np.full(FRAMES, 24), where), layer, where, taken=set(), reach=1.1 * A)
    assert (found["site"].to_numpy() - 100).tolist() == true.tolist()
    assert np.allclose(found[["y", "x"]], where[true]) and found["score"][11] > 0.99
    bound = retraced(path(np.full(FRAMES, 24), where), layer, where, taken={(125, 11)}, reach=1.1 * A)
    assert (bound["site"] == 124).all()


def test_a_dim_frame_is_no_hop() -> None:
    """One frame speaks against the site by 3 and none of its neighbours for itself by more than 2: the vacancy stayed; nor does one
    far away that does so by 9 make it jump."""
    layer, where = row_of_sites(1)
    layer.levels.log[24, :, 1] = 7.0
    layer.levels.log[24, 15, 1], layer.levels.log[25, 15, 1], layer.levels.log[48, 15, 1] = -3.0, 2.0, 9.0
    found = retraced(path(np.full(FRAMES, 24), where), layer, where, taken=set(), reach=1.1 * A)
    assert (found["site"] == 124).all()


def test_no_two_stand_at_one_site() -> None:
    """Two neighbours; in the frame that speaks against the first, the brightest doubt is the second's own site."""
    layer, where = row_of_sites(2)
    layer.levels.log[[24, 25], :, 1] = 7.0
    layer.levels.log[24, 20, 1] = -7.0
    both = pd.concat([path(np.full(FRAMES, n), where, track=t) for t, n in enumerate((24, 25))])
    found = retraced(both, layer, where, taken=set(), reach=1.1 * A)
    assert not found.duplicated(["frame", "site"]).any() and not found.duplicated(["frame", "track"]).any()
    assert list(found["frame"]) == sorted(found["frame"])
    assert len(retraced(both.iloc[:0], layer, where, taken=set(), reach=1.1 * A)) == 0
