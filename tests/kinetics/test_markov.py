import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import to_rates
from atomreel.kinetics.markov import count_transitions, fit_rates, transition_probabilities

TRUE = np.array([[0, 0.02, 0.01], [0.04, 0, 0.015], [0.03, 0.01, 0]])


def live(rng, times, *, tracks=20, q=TRUE, missing=0.1):
    """Exact jump-by-jump simulation, looked at only at `times`, sometimes not even then."""
    rows = []
    for track in range(tracks):
        state, clock = int(rng.integers(len(q))), 0.0
        leave = clock + rng.exponential(1 / max(q[state].sum(), 1e-12))
        for frame, now in enumerate(times):
            while leave < now:
                state = int(rng.choice(len(q), p=q[state] / q[state].sum()))
                leave += rng.exponential(1 / max(q[state].sum(), 1e-12))
            if rng.random() > missing:
                rows.append((track, frame, "abc"[state]))
    return pd.DataFrame(rows, columns=["track", "frame", "kind"])


TIMES = np.cumsum(np.where(np.isin(np.arange(90), [30, 60]), 12.0, 3.0))


def test_rates_cover_through_gaps_and_pauses(rng):
    off = ~np.eye(3, dtype=bool)
    covered, widths, values = [], [], []
    for _ in range(200):
        fit = fit_rates(count_transitions(live(rng, TIMES, tracks=8), states=("a", "b", "c"), times=TIMES))
        covered.append(((fit.low <= TRUE) & (fit.high >= TRUE))[off])
        widths.append((fit.high - fit.low)[off])
        values.append(fit.q[off])
    # 1200 intervals, nearly independent: 95 % ± 3 standard deviations
    assert abs(np.mean(covered) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 1200)
    assert np.all(np.mean(covered, axis=0) > 0.89)
    assert np.allclose(np.mean(widths, axis=0), 3.92 * np.std(values, axis=0), rtol=0.25)
    assert np.allclose(np.mean(values, axis=0), TRUE[off], rtol=0.1)


def test_a_jump_over_a_gap_is_not_one_step():
    table = pd.DataFrame({"track": 0, "frame": [0, 1, 5], "kind": ["a", "a", "b"]})
    seen = count_transitions(table)
    assert seen.single().tolist() == [[1, 0], [0, 0]]
    assert seen.counts.sum() == 2
    assert count_transitions(table, max_gap=1).counts.sum() == 1


def test_counts_are_summed_over_tracks():
    """One track with many steps must not weigh as little as one with a single step."""
    long = pd.DataFrame({"track": 0, "frame": range(101), "kind": ["a"] * 101})
    short = pd.DataFrame({"track": 1, "frame": [0, 1], "kind": ["a", "b"]})
    table = transition_probabilities(count_transitions(pd.concat([long, short])))
    stay = table[(table["before"] == "a") & (table["after"] == "a")].iloc[0]
    assert (stay["count"], stay["of"]) == (100, 101)
    assert stay["probability"] > 0.97


def test_unseen_and_absorbing_states_stay_finite():
    table = pd.DataFrame({"track": 0, "frame": range(6), "kind": list("aaabbb")})
    seen = count_transitions(table, states=("a", "b", "never"))
    probabilities = transition_probabilities(seen)
    assert np.isfinite(probabilities[["probability", "low", "high"]].to_numpy()).all()
    assert np.allclose(probabilities.groupby("before")["probability"].sum(), 1)
    fit = fit_rates(seen)
    assert np.isfinite(fit.q).all()
    assert fit.q[0, 1] > 0 and fit.q[1, 0] == 0 and 0 < fit.high[1, 0] < np.inf
    assert np.isinf(fit.high[2, 0]) and fit.exposure[2] == 0
    assert set(to_rates(fit.estimates())) == {"a→b", "a→never", "b→a", "b→never"}


def test_nothing_seen():
    fit = fit_rates(
        count_transitions(pd.DataFrame({"track": [0], "frame": [0], "kind": ["a"]}), states=("a", "b"))
    )
    assert not fit.q.any() and not fit.estimates()


def test_forbidden_changes_are_left_out(rng):
    seen = count_transitions(live(rng, TIMES), times=TIMES)
    allowed = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    fit = fit_rates(seen, allowed=allowed)
    assert not fit.q[~allowed].any() and (fit.q[allowed] > 0).all()


def test_doubled_points_are_refused():
    with pytest.raises(InputError, match="two points"):
        count_transitions(pd.DataFrame({"track": 0, "frame": [0, 0], "kind": ["a", "b"]}))
