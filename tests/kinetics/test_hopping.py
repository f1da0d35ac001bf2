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
    for name, covered in inside.items():  # to and fro within a pause of 10 s is not seen: a few per cent
        assert binomtest(covered, count, 0.95).pvalue > 1e-3 and covered > 0.88 * count, name
    assert np.median(width) < 0.75  # some 55 hops: 4/√55 = 0.54 at best


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
    assert names["hops of V_S"].value == pytest.approx(np.log(2) / 2)  # half of the steps moved


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
