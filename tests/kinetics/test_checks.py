"""Chains and dwells simulated by waiting times, with no code of the estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.checks import chapman_kolmogorov, dwell_times, exponential_survival, survival

NEXT = np.array([[0, 0.7, 0.3], [0.5, 0, 0.5], [0.8, 0.2, 0]])
MEAN = np.array([9.0, 5.0, 7.0])  # frames


def states(rng, frames, shape, *, warm=60.0):
    """States at whole times of a process whose dwells are Gamma(shape) with the means above; shape 1 is Markov."""
    state, now, seen = int(rng.integers(3)), -warm, []
    while len(seen) < len(frames):
        now += rng.gamma(shape, MEAN[state] / shape)
        seen += [state] * int(np.searchsorted(frames, now) - len(seen))
        state = int(rng.choice(3, p=NEXT[state]))
    return np.array(seen[: len(frames)])


def movie(rng, *, shape=1.0, tracks=12, frames=60, missed=0.03):
    parts = []
    for track in range(tracks):
        own = states(rng, np.arange(frames, dtype=float), shape)
        rows = pd.DataFrame({"track": track, "frame": range(frames), "state": own})
        parts.append(rows[rng.random(frames) > missed])
    return pd.concat(parts, ignore_index=True)


def test_markov_chains_pass_as_often_as_they_should():
    """200 movies of a Markov process, with missed frames: false alarms at 5 % within 3 binomial σ."""
    alarms = sum(
        chapman_kolmogorov(movie(np.random.default_rng(s)), replicates=99, rng=s).p <= 0.05
        for s in range(200)
    )
    assert stats.binomtest(alarms, 200, 0.05).pvalue > 0.003


def test_dwells_with_memory_are_caught():
    """Gamma dwells of shape 4, of the same means: in nearly every movie."""
    found = [
        chapman_kolmogorov(movie(np.random.default_rng(s), shape=4.0), replicates=99, rng=s).p
        for s in range(30)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.9


def test_powers_and_counts_are_what_they_are():
    """One track written out: 0 0 1 1 0 1, and a frame missed before the last two."""
    table = pd.DataFrame({"track": 0, "frame": [0, 1, 2, 3, 5, 6], "state": list("aabbab")})
    found = chapman_kolmogorov(table, lags=(2, 3), replicates=20, rng=0)
    one = np.array([[1 / 3, 2 / 3], [0, 1]])  # a→a, a→b, a→b; b→b; the missed frame joins nothing
    assert found.expected == pytest.approx(np.array([one @ one, one @ one @ one]))
    assert found.seen[0] == pytest.approx(np.array([[0.0, 1.0], [1.0, 0.0]]))  # frames 0→2, 1→3, 3→5
    assert found.starts.tolist() == [[2, 1], [1, 2]]  # lag 3: 0→3, 2→5, 3→6
    assert found.states == ("a", "b")


def test_pauses_are_kept_apart_and_whole_ones_count_their_length():
    """A pause of ten and a half steps cuts; one of three steps is three steps."""
    rng = np.random.default_rng(3)
    table = movie(rng, tracks=4, frames=40, missed=0.0)
    plain = chapman_kolmogorov(table, replicates=5, rng=0)
    odd = np.arange(40) * 2.0 + 21.0 * (np.arange(40) >= 20)
    cut = chapman_kolmogorov(table, times=odd, replicates=5, rng=0)
    assert (
        cut.tau == 2.0
        and (cut.starts.sum(axis=1) == plain.starts.sum(axis=1) - 4 * np.array([2, 3, 4, 6])).all()
    )
    whole = chapman_kolmogorov(
        table, times=np.arange(40) * 2.0 + 4.0 * (np.arange(40) >= 20), replicates=5, rng=0
    )
    assert (
        whole.starts[1].sum() == plain.starts[1].sum() - 4 * 3 + 4
    )  # three steps: now the pairs across the pause alone


@pytest.mark.parametrize("shape", [1.0, 3.0])
def test_survival_covers_and_leaves_out_what_was_going_on(shape):
    """200 replicates of dwells in a window, in steady state, so that those going on at its start are longer ones: the true survival
    lies in the 95 % interval at three times (binomial), which would fail were they taken in."""
    mean, window, inside, wrong = 10.0, 60.0, np.zeros(3), 0
    at = np.array([4.0, 10.0, 16.0])
    true = stats.gamma.sf(at, shape, scale=mean / shape)
    for seed in range(200):
        rng, rows = np.random.default_rng(seed), []
        for track in range(25):
            now = -200.0
            while now < window:
                length, gap = rng.gamma(shape, mean / shape), rng.exponential(10.0)
                if now + length > 0:
                    shown = min(now + length, window) - max(now, 0)
                    rows.append((track, "x", max(now, 0), shown, now + length < window, now > 0))
                now += length + gap
        table = pd.DataFrame(rows, columns=["track", "state", "start", "duration", "ended", "start_seen"])
        found = survival(table)
        where = np.searchsorted(found.time, at, side="right") - 1
        inside += (found.low[where] <= true) & (true <= found.high[where])
        late = survival(table.assign(start_seen=True))
        where = np.searchsorted(late.time, at, side="right") - 1
        wrong += late.low[where][1] <= true[1] <= late.high[where][1]
        assert found.count == int(table["start_seen"].sum())
    for hits in inside:
        assert stats.binomtest(int(hits), 200, 0.95).pvalue > 0.003
    if shape > 1:  # the exponential has no memory, so it would not matter
        assert wrong < inside[1]


def test_dwells_written_out():
    table = pd.DataFrame(
        {
            "track": [0] * 9 + [1] * 3,
            "frame": [0, 1, 2, 3, 4, 5, 9, 10, 11, 0, 1, 2],
            "state": list("aabbbcccaaab"),
        }
    )
    found = dwell_times(table, times=np.arange(12) * 2.0)
    assert found["state"].tolist() == list("abccaab")
    assert found["duration"].tolist() == [4.0, 6.0, 0.0, 4.0, 0.0, 4.0, 0.0]
    assert found["ended"].tolist() == [True, True, False, True, False, True, False]
    assert found["start_seen"].tolist() == [False, True, True, False, True, False, True]


def test_the_exponential_of_the_rate_lies_on_the_survival_of_a_markov_process():
    """Dwells read from frames, 600 tracks: exp(−t/mean) within the interval nearly everywhere."""
    rng = np.random.default_rng(8)
    dwells = dwell_times(movie(rng, tracks=600, missed=0.0))
    found = survival(dwells[dwells["state"] == "0"], unit="frames")
    use = found.time <= 25
    curve, low, high = exponential_survival(found.time, leaving=(1 / 9, 0.1, 0.12))
    inside = ((found.low <= curve + 0.03) & (curve - 0.03 <= found.high))[use]
    assert inside.mean() > 0.9
    assert (low <= curve).all() and (curve <= high).all()


def test_a_survival_without_an_end_or_without_a_beginning():
    table = pd.DataFrame({"duration": [3.0, 5.0], "ended": [False, False], "start_seen": [True, True]})
    found = survival(table)
    assert found.share.tolist() == [1, 1] and 0 < found.low[1] < 0.2 and found.ended == 0
    with pytest.raises(InputError, match="begins"):
        survival(table.assign(start_seen=False))


def test_refusals():
    table = pd.DataFrame({"track": 0, "frame": [0, 2, 4], "state": list("aba")})
    with pytest.raises(InputError, match="in a row"):
        chapman_kolmogorov(table)
    with pytest.raises(InputError, match="state missing"):
        chapman_kolmogorov(table.drop(columns="state"))
    with pytest.raises(InputError, match="lags"):
        chapman_kolmogorov(table.assign(frame=range(3)), lags=(1,))
    with pytest.raises(InputError, match="state missing"):
        dwell_times(table.drop(columns="state"))
