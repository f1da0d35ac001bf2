"""A dopant with three neighbours, made by hand: the order of the neighbours, the state of every frame, hosts at the rim."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atomreel.core.material import load_material
from atomreel.interpret.levels import Levels
from atomreel.pipeline.complexes import Sublattice, apart, find_complexes
from atomreel.track.sites import Sites

FRAMES = 40
BOND = 9.0
ARMS = BOND * np.array(
    [[np.sin(t), np.cos(t)] for t in np.radians((-150.0, -30.0, 90.0))]
)  # by rising atan2(y, x)


def sites() -> Sites:
    """Five W in a row; each has the three S below it and beside it, but the last lacks the right one."""
    hosts = np.array([[50.0, 40 + 2 * BOND * np.cos(np.pi / 6) * k] for k in range(5)])
    guests = np.unique(np.round((hosts[:, None] + ARMS).reshape(-1, 2), 6), axis=0)
    guests = guests[~((guests[:, 1] > hosts[-1, 1] + 1) & (guests[:, 0] < 50))]
    where = np.concatenate([hosts, guests])
    table = pd.DataFrame({"site": np.arange(len(where)), "y": where[:, 0], "x": where[:, 1]})
    motion = pd.DataFrame({"frame": range(FRAMES), "dy": 0.0, "dx": 0.0, "turn_deg": 0.0})
    return Sites(table, pd.DataFrame(), motion, np.ones((len(where), FRAMES)), BOND, 0)


def sublattice(name: str, rows: np.ndarray, names: tuple[str, ...], who: np.ndarray) -> Sublattice:
    """Occupants told with certainty: who (n, FRAMES)."""
    chance = np.eye(len(names))[who]
    k = len(names)
    levels = Levels(names, np.linspace(1, 0.4, k), np.ones(k), np.zeros(k), np.ones(k) / k, 12 * (chance - 1))
    return Sublattice(0, name, rows, levels, chance, np.ones(who.shape, bool))


def test_states_name_the_neighbour_that_lacks_an_atom() -> None:
    place = sites()
    where = place.table[["y", "x"]].to_numpy()
    hosts, guests = np.arange(5), np.arange(5, len(where))
    metal = np.zeros((5, FRAMES), dtype=int)
    metal[[1, 4]] = 1
    truth = np.repeat([0, 1, 3, 2], 10)
    lacks = np.zeros((len(guests), FRAMES), dtype=int)
    for t, state in enumerate(truth):
        if state:
            target = where[1] + ARMS[state - 1]
            lacks[int(np.hypot(*(where[guests] - target).T).argmin()), t] = 1
    layers = [
        sublattice("W", hosts, ("W", "Mo_W"), metal),
        sublattice("S2", guests, ("S2", "V_S"), lacks),
    ]
    found = find_complexes(place, layers, load_material("ws2"), times=None, draws=40, rng=0)
    assert len(found) == 1
    done = found[0]
    assert (done.dopant, done.vacancy) == ("Mo_W", "V_S")
    own = done.rows[done.rows.site == 1].sort_values("frame")
    assert own.state.tolist() == truth.tolist() and own.p.min() > 0.9
    assert own.track.nunique() == 1
    for j in range(3):
        np.testing.assert_allclose(where[done.slots[1, j]] - where[1], ARMS[j], atol=1e-5)
    missing = np.flatnonzero(done.slots[4] < 0)
    assert missing.tolist() == [1]  # the one to the right, counted as for all others
    assert (done.rows[done.rows.site == 4].state == 0).all()
    assert (
        done.tied.rates.q[0, 1] == done.tied.rates.q[0, 2]
        and done.hidden.rates.q[0, 1] != done.hidden.rates.q[0, 2]
    )


def test_without_a_dopant_there_is_no_complex() -> None:
    place = sites()
    guests = len(place.table) - 5
    layers = [
        sublattice("W", np.arange(5), ("W", "Mo_W"), np.zeros((5, FRAMES), dtype=int)),
        sublattice("S2", np.arange(5, 5 + guests), ("S2", "V_S"), np.zeros((guests, FRAMES), dtype=int)),
    ]
    assert find_complexes(place, layers, load_material("ws2"), times=None, draws=5, rng=0) == []


def test_apart_is_the_distance_of_neighbours() -> None:
    assert abs(apart(sites(), np.arange(5)) - 2 * BOND * np.cos(np.pi / 6)) < 1e-9
