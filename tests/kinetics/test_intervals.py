import json

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, in_words, rate, scaled, series_mean, share, to_rates


@pytest.mark.parametrize("mean", [2.0, 8.0, 40.0])
def test_poisson_rates_cover(rng, mean):
    exposure = 50.0
    found = [rate(n, exposure) for n in rng.poisson(mean, 2000)]
    covered = np.mean([e.low <= mean / exposure <= e.high for e in found])
    assert 0.91 < covered < 0.99  # counts are whole, so it steps around 0.95
    assert np.mean([e.high - e.low for e in found]) * exposure == pytest.approx(
        3.92 * np.sqrt(mean), rel=0.15
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_shares_cover(rng, p):
    found = [share(k, 40) for k in rng.binomial(40, p, 2000)]
    assert 0.92 < np.mean([e.low <= p <= e.high for e in found]) < 0.99


def test_nothing_seen_has_a_finite_upper_end():
    none = rate(0, 10.0)
    assert none.value == 0 and none.low == 0 and 0.2 < none.high < 0.4
    assert share(0, 20).low == 0 and share(20, 20).high == 1


def test_rates_are_json():
    plain = to_rates({"a": rate(3, 2.0), "b": Estimate(0.0, 0.0, float("inf"), "1/s", 0, "unseen")})
    assert json.loads(json.dumps(plain, allow_nan=False))["b"]["high"] is None
    with pytest.raises(InputError):
        rate(1, 0)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_the_mean_of_a_series_with_memory_covers(rng, memory):
    """A first-order autoregression of known mean: neighbours resemble each other."""
    found = []
    for _ in range(400):
        noise = rng.standard_normal(150)
        series = np.empty(150)
        series[0] = noise[0] / np.sqrt(1 - memory**2)
        for k in range(1, 150):
            series[k] = memory * series[k - 1] + noise[k]
        found.append(series_mean(5 + series))
    covered = np.mean([e.low <= 5 <= e.high for e in found])
    assert 0.90 < covered < 0.985
    worth = 150 * (1 - memory) / (1 + memory)
    assert np.median([e.count for e in found]) == pytest.approx(worth, rel=0.3)


def test_the_mean_of_what_never_changes_and_of_too_little():
    same = series_mean(np.full(10, 0.2))
    assert (same.value, same.low, same.high) == (0.2, 0.2, 0.2)
    with pytest.raises(InputError, match="three finite"):
        series_mean([1.0, 2.0])
    with pytest.raises(InputError, match="three finite"):
        series_mean([1.0, np.nan, 2.0])


def test_other_units():
    found = scaled(Estimate(2.0, 1.0, 4.0, "1/s", 7, "x"), 0.5, "1/min")
    assert (found.value, found.low, found.high, found.unit) == (1.0, 0.5, 2.0, "1/min")
    with pytest.raises(InputError, match="factor"):
        scaled(found, 0.0, "1/s")


def test_words_say_where_there_is_no_upper_end():
    assert in_words(Estimate(0.0213, 0.0123, 0.034, "1/s", 16, "x")) == "0.0213 (0.0123 … 0.034) 1/s"
    endless = Estimate(np.inf, 2.61, np.inf, "1/frame", 47, "x")
    assert in_words(endless) == "at least 2.61 1/frame, no upper end: it moved in every step"
    assert in_words(Estimate(-3.2, np.nan, np.nan, "1", 60, "x")) == "-3.2 1, without an interval"
