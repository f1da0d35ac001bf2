"""Hop rates against walkers on a triangular lattice, moved hop by hop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from atomreel.core.errors import InputError
from atomreel.kinetics.hopping import fit_hops

STEPS = np.array([[np.sin(t), np.cos(t)] for t in np.arange(6) * np.pi / 3])
HOP, RATE = 16.0, 0.05


def walk(rng: np.random.Generator, times: np.ndarray, *, walkers: int, rate: float = RATE) -> pd.DataFrame:
    rows = []
    for track in range(walkers):
        place, leave = np.zeros(2), times[0] + rng.exponential(1 / rate)
        for frame, t in enumerate(times):
            while leave < t:
                place = place + HOP * STEPS[rng.integers(6)]
                leave += rng.exponential(1 / rate)
            rows.append((track, frame, *place))
    return pd.DataFrame(rows, columns=["track", "frame", "y", "x"])


def test_rate_and_both_diffusion_coefficients_cover_the_truth() -> None:
    times = np.cumsum(np.r_[0, np.where(np.arange(59) % 20 == 19, 10.0, 2.0)])
    truth = {"rate": RATE, "by_hops": RATE * HOP**2 / 4, "tracer": RATE * HOP**2 / 4}
    inside, width = dict.fromkeys(truth, 0), []
    count = 150
    for seed in range(count):
        found = fit_hops(walk(np.random.default_rng([seed, 1]), times, walkers=8), hop=HOP, times=times)
        for name, value in truth.items():
            estimate = getattr(found, name)
            inside[name] += estimate.low <= value <= estimate.high
        width.append((found.rate.high - found.rate.low) / RATE)
    for name, covered in inside.items():
        assert binomtest(covered, count, 0.95).pvalue > 1e-3 and covered > 0.88 * count, name
    assert np.median(width) < 0.75  # some 55 hops: 4/√55 = 0.54 at best


@pytest.mark.parametrize("neighbours", [6, 4, 3])
def test_a_walker_that_came_back_within_a_pause_has_not_stayed(neighbours: int) -> None:
    """Long pauses only: a fifth of the walkers that are where they were have been elsewhere."""
    times, off, inside = 40.0 * np.arange(40), [], 0
    count = 120
    for seed in range(count):
        rng = np.random.default_rng([seed, neighbours])
        rows = []
        for track in range(6):
            a, b, other, leave = 0, 0, 0, rng.exponential(1 / RATE)
            for frame, t in enumerate(times):
                while leave < t:
                    if neighbours == 3:  # to the other sublattice: of this cell, or of one of two beside it
                        sign = -1 if other else 1
                        da, db = [(0, 0), (sign, 0), (0, sign)][rng.integers(3)]
                        a, b, other = a - da, b - db, 1 - other
                    else:
                        da, db = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)][
                            rng.integers(neighbours)
                        ]
                        a, b = a + da, b + db
                    leave += rng.exponential(1 / RATE)
                rows.append((track, frame, a * HOP + 0.5 * HOP * other, b * HOP))
        table = pd.DataFrame(rows, columns=["track", "frame", "y", "x"])
        rate = fit_hops(table, hop=HOP, times=times, neighbours=neighbours).rate
        inside += rate.low <= RATE <= rate.high
        off.append(rate.value / RATE - 1)
    assert binomtest(inside, count, 0.95).pvalue > 1e-3, inside
    assert abs(np.median(off)) < 0.06, np.median(off)


def test_what_leaves_the_watched_sites_is_allowed_for() -> None:
    """A strip of two rows is watched, so that a third of all hops ends a track."""
    rng, rows, times = np.random.default_rng(12), [], 2.0 * np.arange(40)
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)]
    for track in range(700):
        row, along, leave = int(rng.integers(2)), 0, rng.exponential(1 / RATE)
        for frame, t in enumerate(times):
            while leave < t:
                up, on = steps[rng.integers(6)]
                row, along, leave = row + up, along + on, leave + rng.exponential(1 / RATE)
            if row not in (0, 1):
                break
            rows.append((track, frame, row * HOP * np.sqrt(0.75), (along + 0.5 * row) * HOP))
    table = pd.DataFrame(rows, columns=["track", "frame", "y", "x"])
    told = fit_hops(table.assign(watched=2 / 3), hop=HOP, times=times).rate
    untold = fit_hops(table, hop=HOP, times=times).rate
    assert told.low < RATE < told.high and told.value == pytest.approx(RATE, rel=0.06)
    assert untold.high < 0.8 * RATE


def test_one_far_link_spoils_the_displacement_and_hardly_the_rate(rng: np.random.Generator) -> None:
    times = 2.0 * np.arange(60)
    table = walk(rng, times, walkers=8)
    spoiled = table.copy()
    spoiled.loc[spoiled.track.eq(3) & spoiled.frame.ge(30), "y"] += 40 * HOP
    one, two = (fit_hops(t, hop=HOP, times=times) for t in (table, spoiled))
    assert two.by_hops.value < 1.1 * one.by_hops.value
    assert two.tracer.value > 3 * one.tracer.value


def test_nothing_moved_leaves_an_upper_end() -> None:
    table = pd.DataFrame({"track": 0, "frame": range(50), "y": 3.0, "x": 4.0})
    found = fit_hops(table, hop=HOP, pixel=(0.2, 0.2))
    assert found.rate.value == found.rate.low == found.tracer.value == 0
    assert 0.01 < found.rate.high < 0.1
    assert found.by_hops.unit == "Å²/frame"
    assert found.by_hops.high == pytest.approx((0.2 * HOP) ** 2 / 4 * found.rate.high)


def test_a_walker_that_never_rests_has_a_lower_end_only() -> None:
    table = pd.DataFrame({"track": 0, "frame": range(21), "y": HOP * np.arange(21.0), "x": 0.0})
    found = fit_hops(table, hop=HOP, times=2.0 * np.arange(21))
    assert np.isinf(found.rate.value) and np.isinf(found.rate.high)
    assert (1 - np.exp(-2 * found.rate.low)) ** 20 == pytest.approx(0.025)
    assert found.tracer.value == pytest.approx(HOP**2 / 8)


def test_names_and_units() -> None:
    table = pd.DataFrame({"track": 0, "frame": [0, 1, 2], "y": [0.0, HOP, HOP], "x": 0.0})
    names = fit_hops(table, hop=HOP, times=[0.0, 2.0, 4.0]).estimates("V_S")
    assert list(names) == ["hops of V_S", "D of V_S by hops", "D of V_S by displacement"]
    assert [e.unit for e in names.values()] == ["1/s", "px²/s", "px²/s"]
    assert names["hops of V_S"].value == pytest.approx(
        0.3713, abs=1e-4
    )  # half of the steps moved: ln 2/2, and some were back


@pytest.mark.parametrize(
    ("frames", "times", "hop", "match"),
    [
        ([0], None, HOP, "two points"),
        ([0, 1], [1.0, 1.0], HOP, "increase"),
        ([0, 1], None, 0.0, "distance"),
        ([0, 1], None, float("nan"), "distance"),
    ],
)
def test_bad_input_is_named(frames: list[int], times: list[float] | None, hop: float, match: str) -> None:
    table = pd.DataFrame({"track": 0, "frame": frames, "y": 0.0, "x": 0.0})
    with pytest.raises(InputError, match=match):
        fit_hops(table, hop=hop, times=times)


def test_a_lattice_that_is_none_is_refused() -> None:
    table = pd.DataFrame({"track": 0, "frame": [0, 1], "y": 0.0, "x": 0.0})
    with pytest.raises(InputError, match="neighbours"):
        fit_hops(table, hop=HOP, neighbours=5)
