"""Walkers on a lattice of which the field shows a part, moved hop by hop."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.stats import binomtest

from atomreel.kinetics.hopping import fit_hops
from atomreel.pipeline.hops import hops_within

HOP, RATE, SHAPE = 10.0, 0.04, (120, 140)
TIMES = np.cumsum(np.r_[0, np.where(np.arange(79) % 40 == 20, 25.0, 2.0)])


def lattice() -> np.ndarray:
    """(S, 2) sites of a triangular lattice that reaches far beyond the field on all sides."""
    k, m = np.mgrid[-40:41, -40:41]
    b = HOP * np.array([np.sin(np.deg2rad(75)), np.cos(np.deg2rad(75))])
    a = HOP * np.array([np.sin(np.deg2rad(15)), np.cos(np.deg2rad(15))])
    where = (k[..., None] * a + m[..., None] * b).reshape(-1, 2) + np.array([60, 70])
    near = ((where > -8 * HOP) & (where < np.array(SHAPE) + 8 * HOP)).all(axis=1)
    return where[near]


def seen_walk(rng: np.random.Generator, where: np.ndarray, *, false: int = 0) -> tuple[pd.DataFrame, object]:
    """What the field shows of walkers all over the lattice, 4 % of the points missed, `false` dim sites at its border; and its sites."""
    tree = cKDTree(where)
    hops = [[n for n in near if n != s] for s, near in enumerate(tree.query_ball_point(where, 1.1 * HOP))]
    field = ((where >= 2) & (where <= np.array(SHAPE) - 3)).all(axis=1)
    number = np.cumsum(field) - 1
    rows, track = [], 0
    for site in rng.choice(len(where), 24, replace=False):
        here, leave, there = int(site), TIMES[0] + rng.exponential(1 / RATE), False
        for frame, now in enumerate(TIMES):
            while leave < now:
                here, leave = int(rng.choice(hops[here])), leave + rng.exponential(1 / RATE)
            track += field[here] and not there
            there = bool(field[here])
            if there and rng.random() > 0.04:
                rows.append((track, frame, number[here], *where[here]))
    shown = where[field]
    edge = np.flatnonzero(((shown < 9) | (shown > np.array(SHAPE) - 10)).any(axis=1))
    for k, s in enumerate(rng.choice(edge, false, replace=False)):
        rows += [(10_000 + k, frame, s, *shown[s]) for frame in range(30)]
    table = pd.DataFrame(rows, columns=["track", "frame", "site", "site_y", "site_x"])
    return table, SimpleNamespace(table=pd.DataFrame(shown, columns=["y", "x"]), at=lambda frame: shown)


def test_the_rim_of_the_field_takes_no_hops_and_lends_no_false_ones() -> None:
    where, inside, naive, off = lattice(), 0, [], []
    count = 120
    for seed in range(count):
        table, sites = seen_walk(np.random.default_rng([seed, 3]), where, false=6)
        rows = np.arange(len(sites.table))
        rate = hops_within(table, sites, rows, hop=HOP, shape=SHAPE, times=TIMES).rate
        inside += rate.low <= RATE <= rate.high
        off.append(rate.value / RATE - 1)
        plain = fit_hops(table.rename(columns={"site_y": "y", "site_x": "x"}), hop=HOP, times=TIMES).rate
        naive.append(plain.value / RATE - 1)
    assert binomtest(inside, count, 0.95).pvalue > 1e-3, inside
    assert (
        abs(np.mean(off)) < 0.05 < -np.mean(naive)
    )  # a few per cent: hops that leave are rarer in what is left
    assert np.mean(naive) < -0.15


def test_neighbours_are_counted_where_the_lattice_goes_on() -> None:
    """Honeycomb: three neighbours, so a walker is back sooner than on a triangular lattice."""
    k, m = np.mgrid[0:12, 0:12]
    a, b = np.sqrt(3) * HOP * np.array([0.0, 1.0]), np.sqrt(3) * HOP * np.array([np.sqrt(0.75), 0.5])
    one = (k[..., None] * a + m[..., None] * b).reshape(-1, 2) + 40
    where = np.concatenate([one, one + HOP * np.array([0.5, np.sqrt(0.75)])])
    shape = (int(where[:, 0].max()) + 40, int(where[:, 1].max()) + 40)
    sites = SimpleNamespace(table=pd.DataFrame(where, columns=["y", "x"]), at=lambda frame: where)
    middle = int(np.argmin(np.hypot(*(where - where.mean(axis=0)).T)))
    beside = int(cKDTree(where).query(where[middle], k=2)[1][1])
    place = np.tile([middle, middle, beside, beside], 10)
    table = pd.DataFrame({"track": 0, "frame": np.arange(40), "site": place})
    table = table.assign(site_y=where[place, 0], site_x=where[place, 1])
    found = hops_within(table, sites, np.arange(len(where)), hop=HOP, shape=shape)
    told = fit_hops(table.rename(columns={"site_y": "y", "site_x": "x"}), hop=HOP, neighbours=3)
    assert found.rate == told.rate
    other = fit_hops(table.rename(columns={"site_y": "y", "site_x": "x"}), hop=HOP, neighbours=6)
    assert found.rate.value > other.rate.value


def test_nothing_inside_has_no_rate() -> None:
    where = np.array([[1.0, 1.0], [1.0, 11.0], [50.0, 50.0]])
    sites = SimpleNamespace(table=pd.DataFrame(where, columns=["y", "x"]), at=lambda frame: where)
    table = pd.DataFrame({"track": 0, "frame": range(5), "site": 0, "site_y": 1.0, "site_x": 1.0})
    assert hops_within(table, sites, np.arange(3), hop=HOP, shape=SHAPE) is None
