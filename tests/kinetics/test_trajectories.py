"""Trajectories simulated step by step: random walks by sums of steps, flickering by exponential waits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.trajectories import KINDS, SHORT, Criteria, classify_trajectories, motion_evidence

ERROR = 0.4


def presence(rng, clock, rate, share):
    """On or off at the times `clock`: waits in on are exponential with mean 1/(rate·(1 − share)), in off 1/(rate·share)."""
    state, now, seen = bool(rng.random() < share), clock[0], []
    while len(seen) < len(clock):
        now += rng.exponential(1 / (rate * ((1 - share) if state else share)))
        while len(seen) < len(clock) and clock[len(seen)] < now:
            seen.append(state)
        state = not state
    return np.array(seen)


def one(rng, track, length, *, kind=None, misread=0.01, clock=None):
    """Rows of a track from the first to the last frame in which it is seen, drawn as `Criteria` says."""
    kind = KINDS[rng.integers(3)] if kind is None else kind
    clock = np.arange(length, dtype=float) if clock is None else clock
    rate, share = np.exp(rng.uniform(np.log(0.15), np.log(1.0))), rng.uniform(0.2, 0.8)
    there = np.zeros(length, dtype=bool)
    while not (there[0] and there[-1]):  # a track begins and ends where something is seen
        there = presence(rng, clock, rate, share) if kind == "flickering" else np.ones(length, dtype=bool)
        there = there ^ (rng.random(length) < misread)
    noise = ERROR * np.exp(rng.uniform(np.log(0.7), np.log(3.0))) * rng.standard_normal((length, 2))
    size = ERROR * np.sqrt(np.exp(rng.uniform(np.log(0.2), np.log(200.0))))
    gap = np.diff(clock, prepend=clock[0])[:, None]
    walk = np.cumsum(size * np.sqrt(gap) * rng.standard_normal((length, 2)), axis=0)
    where = 100 + noise + (walk if kind == "diffusing" else 0)
    rows = pd.DataFrame({"track": track, "frame": range(length), "y": where[:, 0], "x": where[:, 1]})
    rows = rows.assign(y_err=ERROR, x_err=ERROR)[there]
    return kind, rows


def many(seed, count, lengths, *, kind=None, misread=0.01):
    rng = np.random.default_rng(seed)
    truth, parts = {}, []
    while len(truth) < count:
        made, rows = one(rng, len(truth), int(rng.choice(lengths)), kind=kind, misread=misread)
        truth[len(truth)] = made
        parts.append(rows)
    return truth, pd.concat(parts, ignore_index=True)


def judged(tracks, **more):
    return classify_trajectories(tracks, judged=range(int(tracks["frame"].max()) + 1), **more)


def test_kinds_of_long_tracks_are_right_and_probabilities_honest():
    """450 tracks of 10 to 60 frames, drawn from what the criteria say. Told kinds are right as often as claimed; the mean
    probability of the truth in bins of it is the share that is true, within 3.5 binomial σ."""
    truth, tracks = many(1, 450, (10, 20, 40, 60))
    found = judged(tracks)
    real = found["track"].map(truth).to_numpy()
    told = (found["kind"] != SHORT).to_numpy()
    right = (found["kind"].to_numpy() == real)[told]
    assert told.mean() > 0.6 and right.mean() > 0.93
    for kind, column in zip(KINDS, ("p_weak", "p_diffusing", "p_flickering"), strict=True):
        p, yes = found[column].to_numpy(), real == kind
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
            here = (p >= low) & (p < high)
            expected, spread = p[here].sum(), np.sqrt((p * (1 - p))[here].sum())
            assert abs(yes[here].sum() - expected) < 3.5 * spread + 1, (kind, low)
    long = (found["frames"] >= 40).to_numpy() & told
    table = pd.crosstab(real[long], found["kind"].to_numpy()[long])
    assert (np.diag(table.reindex(index=KINDS, columns=KINDS)) / table.sum(axis=1).reindex(KINDS)).min() > 0.9


@pytest.mark.parametrize("kind", KINDS[:2])
def test_false_alarms_of_flickering_stay_rare(kind):
    """Tracks that only misreadings interrupt, twice as often as stated: told to flicker in less than 2 %."""
    _, tracks = many(2, 150, (30, 60), kind=kind, misread=0.02)
    assert (judged(tracks)["kind"] == "flickering").mean() < 0.02


def test_short_tracks_are_too_short():
    _, tracks = many(3, 60, (3, 4))
    assert (judged(tracks)["kind"] == SHORT).mean() > 0.7


def test_the_diffusion_coefficient_of_a_walk_lies_in_its_interval():
    """200 walks, D drawn evenly in its logarithm: the 95 % interval covers (binomial, 3 σ); in px² per second with times."""
    rng, inside, n = np.random.default_rng(4), 0, 200
    times, parts, true = np.arange(40) * 0.5, [], []
    for track in range(n):
        step = ERROR * np.sqrt(np.exp(rng.uniform(np.log(0.2), np.log(200.0))))
        scatter = ERROR * np.exp(rng.uniform(np.log(0.7), np.log(3.0)))
        where = np.cumsum(step * rng.standard_normal((40, 2)), axis=0) + scatter * rng.standard_normal(
            (40, 2)
        )
        true.append(step**2 / (2 * 0.5))
        rows = pd.DataFrame({"track": track, "frame": range(40), "y": where[:, 0], "x": where[:, 1]})
        parts.append(rows.assign(y_err=ERROR, x_err=ERROR))
    found = judged(pd.concat(parts, ignore_index=True), times=times)
    inside = ((found["d_low"] <= true) & (found["d_high"] >= true)).sum()
    assert abs(inside - 0.95 * n) < 3 * np.sqrt(n * 0.95 * 0.05) + 1
    assert (found["d_high"] / found["d_low"]).median() < 4


def blurred(rng, count, *, exposure, frames=40, fine=20):
    """Walks summed in twentieths of a frame, each position the mean over the first `exposure` of its frame; D and scatter drawn evenly in
    their logarithms. Rows, and D of each in px² per frame."""
    open_for = max(1, round(exposure * fine))
    parts, true = [], []
    for track in range(count):
        size = ERROR * np.sqrt(np.exp(rng.uniform(np.log(0.2), np.log(200.0))))
        scatter = ERROR * np.exp(rng.uniform(np.log(0.7), np.log(3.0)))
        steps = size / np.sqrt(fine) * rng.standard_normal((frames, fine, 2))
        path = np.cumsum(steps.reshape(-1, 2), axis=0).reshape(frames, fine, 2)
        where = path[:, :open_for].mean(axis=1) + scatter * rng.standard_normal((frames, 2))
        rows = pd.DataFrame({"track": track, "frame": range(frames), "y": where[:, 0], "x": where[:, 1]})
        parts.append(rows.assign(y_err=ERROR, x_err=ERROR))
        true.append(size**2 / 2)
    return pd.concat(parts, ignore_index=True), np.array(true)


def test_what_moves_while_a_frame_is_exposed_is_known_to_be_blurred():
    """200 walks seen as means over whole frames: with the exposure the interval of D covers (binomial, 3 σ) and the fast ones' D is right within
    6 %; taken for points, the fast ones seem slower by a fifth and more, and the interval covers in nine of ten at most."""
    n = 200
    tracks, true = blurred(np.random.default_rng(11), n, exposure=1.0)
    known, blind = judged(tracks, exposure=1.0), judged(tracks)
    inside = [((found["d_low"] <= true) & (found["d_high"] >= true)).mean() for found in (known, blind)]
    assert abs(inside[0] - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n) + 1 / n
    fast = true > 10 * ERROR**2
    off = [float(np.median(found["d"][fast] / true[fast])) for found in (known, blind)]
    assert off[0] == pytest.approx(1, abs=0.06) and off[1] < 0.8
    assert inside[1] < 0.9
    with pytest.raises(InputError, match=r"exposure 1\.5"):
        judged(tracks, exposure=1.5)


def test_the_evidence_of_a_blurred_walk_is_that_of_the_normal_distribution():
    """Five positions with unequal gaps: the filter against the density with the covariance of means of Brownian motion, written down."""
    start, tau, step, error = np.array([0.0, 1.0, 3.0, 4.0, 7.0]), 0.7, 2.3, 0.4
    early, late = np.minimum.outer(start, start), np.maximum.outer(start, start)
    shared = step * np.where(
        early == late, early + tau / 3, early + tau / 2
    )  # Cov of means over [t, t + τ], apart by more than τ
    cov = shared + error**2 * np.eye(5)
    rng = np.random.default_rng(3)
    where = rng.multivariate_normal(np.zeros(5), cov, size=2).T + 50
    got = motion_evidence(
        where, np.full((5, 2), error), np.diff(start), scatter=np.ones(1), step=np.array([step]), exposure=tau
    )
    differ = np.diff(np.eye(5), axis=0)
    inner = differ @ cov @ differ.T
    off = differ @ where
    wanted = -0.5 * (
        np.einsum("ik,ij,jk->", off, np.linalg.inv(inner), off) + 2 * np.log(np.linalg.det(inner))
    )
    assert got.item() == pytest.approx(wanted)


def test_frames_that_nobody_judged_are_no_absences():
    """A steady track of which every other frame was not looked at: flickering if those count, and not if not."""
    rng = np.random.default_rng(5)
    frame = np.sort(rng.choice(60, 30, replace=False))
    where = 100 + ERROR * rng.standard_normal((30, 2))
    tracks = pd.DataFrame({"track": 0, "frame": frame, "y": where[:, 0], "x": where[:, 1]})
    tracks = tracks.assign(y_err=ERROR, x_err=ERROR)
    assert judged(tracks)["kind"].item() == "flickering"
    assert classify_trajectories(tracks, judged=frame)["kind"].item() == "weakly moving"


def test_states_flicker_too_and_a_pause_has_its_length():
    rng = np.random.default_rng(6)
    state = np.repeat(np.arange(12) % 2, 5)
    where = 100 + ERROR * rng.standard_normal((60, 2))
    tracks = pd.DataFrame(
        {"track": 0, "frame": range(60), "y": where[:, 0], "x": where[:, 1], "state": state}
    )
    tracks = tracks.assign(y_err=ERROR, x_err=ERROR)
    assert judged(tracks)["kind"].item() == "weakly moving"
    row = judged(tracks, by="state").iloc[0]
    assert row["kind"] == "flickering" and row["switches"] == 11
    step = np.zeros((4, 2)) + np.array([0.0, 1.0, 2.0, 3.0])[:, None]
    long, short = (
        motion_evidence(step, np.full((4, 2), 0.1), np.full(3, dt), scatter=np.ones(1), step=np.ones(1) / dt)
        for dt in (5.0, 1.0)
    )
    assert long == pytest.approx(short)


def test_one_change_for_good_is_no_flickering():
    rng = np.random.default_rng(8)
    where = 100 + ERROR * rng.standard_normal((40, 2))
    tracks = pd.DataFrame({"track": 0, "frame": range(40), "y": where[:, 0], "x": where[:, 1]})
    tracks = tracks.assign(y_err=ERROR, x_err=ERROR, state=(np.arange(40) >= 23).astype(int))
    row = judged(tracks, by="state").iloc[0]
    assert row["switches"] == 1 and row["kind"] != "flickering" and row["p_flickering"] < 0.6
    tracks["state"] = np.isin(np.arange(40) // 6, (1, 3, 5)).astype(int)
    assert judged(tracks, by="state")["kind"].item() == "flickering"


def test_evidence_is_the_normal_density_of_the_steps():
    """Three points of a walk seen without scatter to speak of: sums of ln N(step; 0, q), written out here."""
    where = np.array([[0.0, 0.0], [1.0, -2.0], [0.5, 1.0]])
    got = motion_evidence(
        where, np.full((3, 2), 1e-6), np.array([1.0, 2.0]), scatter=np.ones(1), step=np.array([1.5])
    )
    steps, variance = np.diff(where, axis=0), 1.5 * np.array([1.0, 2.0])[:, None]
    assert got[0, 0] == pytest.approx(-0.5 * (steps**2 / variance + np.log(variance)).sum())


def test_refusals():
    _, tracks = many(7, 2, (10,))
    with pytest.raises(InputError, match="y_err"):
        classify_trajectories(tracks.drop(columns="y_err"))
    with pytest.raises(InputError, match="above 0"):
        classify_trajectories(tracks.assign(x_err=0.0))
    with pytest.raises(InputError, match="two points"):
        classify_trajectories(pd.concat([tracks, tracks]))
    with pytest.raises(InputError, match="misread"):
        classify_trajectories(tracks, criteria=Criteria(misread=0.3))
