"""Hidden states against chains simulated jump by jump."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, gamma

from atomreel.core.errors import InputError
from atomreel.kinetics.hidden import fit_hidden
from atomreel.kinetics.markov import count_transitions, fit_rates

Q = np.array([[0.0, 0.04, 0.02], [0.08, 0.0, 0.03], [0.05, 0.05, 0.0]])
STATES = ("A", "B", "C")


def simulate(
    rng: np.random.Generator, *, tracks: int, times: np.ndarray, q: np.ndarray = Q
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows (track, frame) and the true state of each, jump by jump."""
    rows, states = [], []
    for track in range(tracks):
        state, clock = int(rng.integers(len(q))), times[0]
        leave = clock + rng.exponential(1 / q[state].sum())
        for frame, t in enumerate(times):
            while leave < t:
                state = int(rng.choice(len(q), p=q[state] / q[state].sum()))
                leave += rng.exponential(1 / q[state].sum())
            rows.append((track, frame))
            states.append(state)
    return pd.DataFrame(rows, columns=["track", "frame"]), np.array(states)


def blurred(
    states: np.ndarray, rng: np.random.Generator, *, noise: float, n: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """A measured level per observation, state + noise, and its log likelihood in every state."""
    level = states + noise * rng.standard_normal(len(states))
    return level, -0.5 * ((level[:, None] - np.arange(n)) / noise) ** 2


@pytest.fixture(scope="module")
def replicates() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """40 small movies: lower and upper ends, medians, and the share of states named right."""
    found = []
    times = np.cumsum(np.r_[0, np.where(np.arange(79) % 30 == 29, 9.0, 2.0)])
    for seed in range(40):
        rng = np.random.default_rng([seed, 5])
        rows, truth = simulate(rng, tracks=10, times=times)
        _, log = blurred(truth, rng, noise=0.45)
        hidden = fit_hidden(rows, log, states=STATES, times=times, draws=150, burn=40, rng=seed)
        found.append(
            (
                hidden.rates.low,
                hidden.rates.high,
                hidden.rates.q,
                float((hidden.probability.argmax(1) == truth).mean()),
            )
        )
    return found


def test_intervals_cover_as_often_as_they_claim(replicates: list[tuple[np.ndarray, ...]]) -> None:
    off = ~np.eye(3, dtype=bool)
    inside = np.array([((low <= Q) & (high >= Q))[off] for low, high, *_ in replicates])
    assert binomtest(int(inside.sum()), inside.size, 0.95).pvalue > 1e-3, inside.mean()
    width = np.array([(high - low)[off] for low, high, *_ in replicates])
    assert 0.5 < np.median(width / Q[off]) < 2.5  # some 25 changes behind each rate


def test_rates_are_not_biased_by_doubtful_frames(replicates: list[tuple[np.ndarray, ...]]) -> None:
    q = np.mean([row[2] for row in replicates], axis=0)
    off = ~np.eye(3, dtype=bool)
    assert np.allclose(q[off], Q[off], rtol=0.3)
    assert np.mean([row[3] for row in replicates]) > 0.9  # frame by frame, 0.82 are


def test_states_read_off_each_frame_alone_would_be_reactions() -> None:
    """What the model is for: the same levels, rounded frame by frame, give rates several times too high."""
    rng = np.random.default_rng(3)
    times = 2.0 * np.arange(200)
    rows, truth = simulate(rng, tracks=12, times=times)
    level, log = blurred(truth, rng, noise=0.45)
    named = rows.assign(kind=np.array(STATES)[np.clip(np.rint(level), 0, 2).astype(int)])
    naive = fit_rates(count_transitions(named, times=times))
    hidden = fit_hidden(rows, log, states=STATES, times=times, draws=150, burn=50, rng=0)
    assert naive.q[0, 1] > 1.6 * Q[0, 1]
    assert hidden.rates.low[0, 1] < Q[0, 1] < hidden.rates.high[0, 1]


def test_certain_states_give_what_counting_gives() -> None:
    rng = np.random.default_rng(11)
    times = 2.0 * np.arange(300)
    rows, truth = simulate(rng, tracks=10, times=times)
    log = np.where(np.arange(3) == truth[:, None], 0.0, -np.inf)
    hidden = fit_hidden(rows, log, states=STATES, times=times, draws=400, burn=50, rng=0)
    counted = fit_rates(count_transitions(rows.assign(kind=np.array(STATES)[truth]), times=times))
    off = ~np.eye(3, dtype=bool)
    assert np.allclose(hidden.rates.q[off], counted.q[off], rtol=0.12)
    assert np.allclose(
        (hidden.rates.high - hidden.rates.low)[off], (counted.high - counted.low)[off], rtol=0.3
    )
    assert (hidden.probability.argmax(1) == truth).all()


def test_few_sweeps_make_no_narrow_intervals() -> None:
    """Where states are certain and frames many, the posterior is Gamma(jumps + ½, time), however few sweeps there are."""
    rng = np.random.default_rng(8)
    times = 0.05 * np.arange(2000)
    rows, truth = simulate(rng, tracks=8, times=times)
    log = np.where(np.arange(3) == truth[:, None], 0.0, -np.inf)
    hidden = fit_hidden(rows, log, states=STATES, times=times, draws=12, burn=10, rng=0)
    track, state = rows.track.to_numpy(), truth
    same = track[1:] == track[:-1]
    jumps, time = np.zeros((3, 3)), np.zeros(3)
    np.add.at(jumps, (state[:-1][same], state[1:][same]), 1)
    np.add.at(time, state[:-1][same], 0.05)
    off = ~np.eye(3, dtype=bool)
    low, high = (gamma.ppf(share, jumps + 0.5, scale=1 / time[:, None]) for share in (0.025, 0.975))
    assert np.allclose(hidden.rates.low[off], low[off], rtol=0.1)
    assert np.allclose(hidden.rates.high[off], high[off], rtol=0.06)
    drawn = np.quantile(hidden.draws, 0.975, axis=0) - np.quantile(hidden.draws, 0.025, axis=0)
    width = hidden.rates.high - hidden.rates.low
    assert np.median(drawn[off] / width[off]) < 0.9  # what the draws alone say


def test_tied_rates_are_one_number_and_forbidden_ones_none() -> None:
    rng = np.random.default_rng(2)
    q = np.array([[0, 0.05, 0.05], [0.1, 0, 0], [0.1, 0, 0]])
    times = np.arange(150.0)
    rows, truth = simulate(rng, tracks=8, times=times, q=q)
    _, log = blurred(truth, rng, noise=0.3)
    groups = [[0, 1, 1], [2, 0, 0], [2, 0, 0]]
    hidden = fit_hidden(rows, log, states=STATES, groups=groups, times=times, draws=150, burn=40, rng=0)
    assert hidden.rates.q[0, 1] == hidden.rates.q[0, 2] > 0
    assert hidden.rates.q[1, 2] == hidden.rates.high[1, 2] == 0
    assert hidden.rates.low[1, 0] < 0.1 < hidden.rates.high[1, 0]
    assert "B→C" not in hidden.rates.estimates()
    assert hidden.rates.estimates()["A→B"].unit == "1/s"


def test_a_state_never_visited_stays_finite() -> None:
    rows = pd.DataFrame({"track": 0, "frame": np.arange(30)})
    log = np.tile([0.0, -np.inf, -np.inf], (30, 1))
    hidden = fit_hidden(rows, log, states=STATES, draws=60, burn=20, rng=1)
    assert np.isfinite(hidden.rates.high).all()
    assert hidden.rates.high[0, 1] < 0.2  # 30 frames without a change
    assert 28 < hidden.rates.exposure[0] <= 29  # the rest: visits between two frames that cannot be excluded


def test_rows_may_come_in_any_order_and_tracks_be_of_any_length() -> None:
    rng = np.random.default_rng(4)
    times = 2.0 * np.arange(60)
    rows, truth = simulate(rng, tracks=6, times=times)
    keep = rng.random(len(rows)) < 0.7
    keep[rows.track.to_numpy() == 3] = np.arange(60) < 1
    rows, truth = rows[keep].reset_index(drop=True), truth[keep]
    _, log = blurred(truth, rng, noise=0.3)
    shuffled = rng.permutation(len(rows))
    one = fit_hidden(rows, log, states=STATES, times=times, draws=40, burn=10, rng=0)
    two = fit_hidden(rows.iloc[shuffled], log[shuffled], states=STATES, times=times, draws=40, burn=10, rng=0)
    assert np.array_equal(one.rates.q, two.rates.q)
    assert np.array_equal(one.probability[shuffled], two.probability)


@pytest.mark.parametrize(
    ("rows", "log", "match"),
    [
        ({"frame": [0, 1]}, np.zeros((2, 3)), "track"),
        ({"track": [0, 0], "frame": [0, 1]}, np.zeros((2, 2)), "shape"),
        ({"track": [0, 0], "frame": [1, 1]}, np.zeros((2, 3)), "two points"),
        ({"track": [0, 0], "frame": [0, 1]}, np.full((2, 3), -np.inf), "finite"),
        ({"track": [0, 0], "frame": [0, 9]}, np.zeros((2, 3)), "times has"),
    ],
)
def test_bad_input_is_named(rows: dict[str, list[int]], log: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fit_hidden(pd.DataFrame(rows), log, states=STATES, times=[0.0, 1.0], draws=2, burn=0, rng=0)


def test_groups_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="groups"):
        fit_hidden(
            pd.DataFrame({"track": [0], "frame": [0]}),
            np.zeros((1, 3)),
            states=STATES,
            groups=[[0, 1]],
            rng=0,
        )
