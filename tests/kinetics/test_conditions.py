"""Two conditions against telegraph signals whose rates vary from site to site."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.blinking import Blinking, fit_blinking
from atomreel.kinetics.conditions import compare_conditions


def movie(rng, *, speed, sites=25, frames=150, detected=0.92, spread=0.5, wave=0.0) -> Blinking:
    """Frame-by-frame two-state sites of equal mean occupancy ½; wave: common swing of all sites' log odds."""
    rate = speed * np.exp(rng.normal(-(spread**2) / 2, spread, sites))
    bias = np.repeat(rng.normal(0, 1, frames // 15 + 1), 15)[:frames] * wave
    state = rng.random(sites) < 0.5
    rows = []
    for t in range(frames):
        rows.append(state)
        goal = 1 / (1 + np.exp(-2 * bias[t]))
        flip = rng.random(sites) < rate * np.where(state, 1 - goal, goal)
        state = state ^ flip
    seen = rng.random((sites, frames)) < detected * np.array(rows).T
    return fit_blinking(seen.astype(float), times=0.5 * np.arange(frames), detected=detected, false=0.0)


def occupancy_and_events(table):
    return table.set_index("what").loc[["occupancy", "events"]]


def test_a_faster_surface_is_told_from_a_slower_one(rng):
    found = occupancy_and_events(compare_conditions(movie(rng, speed=0.1), movie(rng, speed=0.25)))
    row = found.loc["events"]
    # per frame speed/2 changes, two frames a second
    assert row["first"] == pytest.approx(0.1, rel=0.25) and row["second"] == pytest.approx(0.25, rel=0.25)
    assert row.low < 0.15 < row.high and row.p < 0.01 and row.p_sites < 0.01
    assert found.loc["occupancy", "p"] > 0.01 and row.unit == "1/s"


def test_intervals_cover_no_difference_as_often_as_they_say():
    inside, widths, errors, p = [], [], [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        table = occupancy_and_events(compare_conditions(movie(rng, speed=0.12), movie(rng, speed=0.12)))
        inside.append((table.low <= 0) & (table.high >= 0))
        widths.append(table.error)
        errors.append(table.difference)
        p.append(table.p)
    assert 0.88 < np.mean(inside) <= 1.0
    np.testing.assert_array_equal(np.array(p) < 0.05, ~np.array(inside))
    ratio = np.mean(widths, axis=0) / np.std(errors, axis=0)
    assert (ratio > 0.75).all() and (ratio < 1.4).all()


def test_what_all_sites_share_widens_the_interval():
    """Occupancies that swing together: sites alone would claim much too much."""
    inside, alone = [], []
    for seed in range(30):
        rng = np.random.default_rng(100 + seed)
        one, two = (movie(rng, speed=0.3, frames=150, wave=1.0, spread=0.1) for _ in range(2))
        row = occupancy_and_events(compare_conditions(one, two)).loc["occupancy"]
        inside.append(row.low <= 0 <= row.high)
        alone.append(row.p_sites < 0.05)
    assert np.mean(inside) > 0.83
    assert np.mean(alone) > 0.3  # which is why p_sites is not the answer then


def test_pairs_see_a_difference_that_the_spread_of_sites_hides(rng):
    base = movie(rng, speed=0.1, spread=1.2, detected=0.99)
    more = Blinking(
        base.table, base.occupied, base.events * 1.3, base.dt, base.detected, base.false, 0.0, "1/s", 0.95
    )
    apart, together = (
        occupancy_and_events(compare_conditions(base, more, paired=paired)).loc["events"]
        for paired in (False, True)
    )
    assert together.p_sites < 0.001 < apart.p_sites
    assert together.difference == pytest.approx(apart.difference)


def test_bad_choices_are_refused(rng):
    one, two = movie(rng, speed=0.1, sites=6), movie(rng, speed=0.1, sites=8)
    with pytest.raises(InputError, match="paired"):
        compare_conditions(one, two, paired=True)
    with pytest.raises(InputError, match="three sites"):
        compare_conditions(one, two, sites=([0, 1], [0, 1, 2]))
    with pytest.raises(InputError, match="three sites"):
        compare_conditions(one, two, sites=([0, 1, 99], [0, 1, 2]))
    plain = fit_blinking(np.eye(6), detected=0.9, false=0.0)
    with pytest.raises(InputError, match="times"):
        compare_conditions(one, plain)
    chosen = compare_conditions(one, two, sites=(np.arange(6) < 4, [1, 2, 5]))
    assert chosen.sites_first.tolist() == [4, 4] and chosen.sites_second.tolist() == [3, 3]
