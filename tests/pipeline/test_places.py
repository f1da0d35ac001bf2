"""Walkers on a triangular lattice, drawn jump by jump and seen by methods that miss and invent: their tracks and hop rates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atomreel.pipeline.places import follow_places

HOP, RATE, SIZE, FRAMES = 16.0, 0.025, 200, 60
STEPS = HOP * np.array([[np.sin(t), np.cos(t)] for t in np.arange(6) * np.pi / 3])


def movie(
    seed: int, *, walkers: int = 9, missed: float = 0.05, invented: float = 0.1
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Places with scores, times with two pauses, drift. Walkers start anywhere and may leave the field."""
    rng = np.random.default_rng(seed)
    gap = np.full(FRAMES - 1, 2.0)
    gap[[20, 41]] = 14.0, 20.0
    times = np.r_[0.0, np.cumsum(gap)]
    drift = np.cumsum(rng.normal(0.05, 0.2, (FRAMES, 2)), axis=0)
    rows = []
    for _ in range(walkers):
        place, leave = rng.uniform(0, SIZE, 2), rng.exponential(1 / RATE)
        for frame, t in enumerate(times):
            while leave < t:
                place, leave = place + STEPS[rng.integers(6)], leave + rng.exponential(1 / RATE)
            at = place + drift[frame] + rng.normal(0, 0.5, 2)
            if ((at > 2) & (at < SIZE - 3)).all() and rng.random() > missed:
                rows.append((frame, *at, 0.95))
    for frame in range(FRAMES):
        rows += [(frame, *rng.uniform(2, SIZE - 3, 2), 0.55) for _ in range(rng.poisson(invented))]
    table = pd.DataFrame(rows, columns=["frame", "y", "x", "score"]).sort_values(
        "frame", kind="stable", ignore_index=True
    )
    doubtful = table.sample(20, random_state=seed).assign(score=0.2, y=5.0)
    table = pd.concat([table, doubtful]).sort_values("frame", kind="stable", ignore_index=True)
    shift = pd.DataFrame({"frame": range(FRAMES), "dy": drift[:, 0], "dx": drift[:, 1]})
    return table.assign(kind="V_S", y_err=0.5, x_err=0.5, source="lattice"), times, shift


def test_the_intervals_of_hops_and_diffusion_cover() -> None:
    """60 movies of nine walkers: 95 % intervals cover as often as they say (3 binomial σ), and the rate is right within a tenth on average."""
    inside, ratio = np.zeros(2), []
    for seed in range(60):
        table, times, drift = movie(seed)
        _, rates = follow_places(
            table, hop=HOP, shape=(SIZE, SIZE), times=times, drift=drift, pixel=(0.2, 0.2)
        )
        for k, (name, true) in enumerate((("hops", RATE), ("D", RATE * (0.2 * HOP) ** 2 / 4))):
            one = rates[f"{name} of V_S"]
            inside[k] += one.low <= true <= one.high
        ratio.append(rates["hops of V_S"].value / RATE)
    assert (inside >= 60 * 0.95 - 3 * np.sqrt(60 * 0.95 * 0.05)).all(), inside
    assert abs(np.mean(ratio) - 1) < 0.1


def test_doubtful_places_are_in_no_track_and_rows_stay_where_they_were() -> None:
    table, times, drift = movie(3)
    told, _ = follow_places(table, hop=HOP, shape=(SIZE, SIZE), times=times, drift=drift)
    assert told[list(table)].equals(table)
    assert (told["track"] >= 0).equals(table["score"] >= 0.5)
    assert not told[told["track"] >= 0].duplicated(["track", "frame"]).any()


def test_a_few_points_have_no_rate() -> None:
    table = movie(4)[0].iloc[:3]
    assert follow_places(table, hop=HOP, shape=(SIZE, SIZE))[1] == {}
    empty, rates = follow_places(table.assign(score=0.1), hop=HOP, shape=(SIZE, SIZE))
    assert (empty["track"] == -1).all() and rates == {}
