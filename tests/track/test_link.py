import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from atomreel.core.errors import InputError
from atomreel.track.link import link


def points(*rows):
    return pd.DataFrame(rows, columns=["frame", "y", "x"])


def walkers(rng, *, count=300, frames=25, step=0.5, missing=0.06, side=200.0):
    """Random walkers with known names, some unseen in some frames, born and ending at random."""
    where = rng.uniform(0, side, (count, 2))
    start, stop = rng.integers(0, 8, count), rng.integers(frames - 8, frames, count)
    rows = []
    for frame in range(frames):
        where = where + rng.normal(0, step, where.shape)
        seen = (rng.random(count) > missing) & (frame >= start) & (frame <= stop)
        rows.append(
            pd.DataFrame(
                {"frame": frame, "y": where[seen, 0], "x": where[seen, 1], "name": np.nonzero(seen)[0]}
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_one_to_one_and_right(rng):
    table = walkers(rng)
    tracks = link(table, max_step=2.5)
    assert len(tracks) == len(table)
    assert not tracks.duplicated(["frame", "track"]).any()
    ordered = tracks.sort_values(["track", "frame"])
    inside = np.diff(ordered["track"]) == 0
    right = (np.diff(ordered["name"]) == 0)[inside]
    assert right.mean() > 0.99
    # The stated confidence is what comes true.
    stated = ordered["link"].to_numpy()[1:][inside]
    assert stated.mean() == pytest.approx(right.mean(), abs=0.03)


def test_crossing_is_solved_globally():
    """Nearest-first would take 0 → 1.0 and strand the other; the cheapest whole does not."""
    tracks = link(points((0, 0, 0), (0, 0, 1.6), (1, 0, 1.0), (1, 0, 2.6)), max_step=2)
    assert tracks.loc[tracks["frame"] == 1, "track"].tolist() == [0, 1]


def test_gaps_are_closed_only_within_memory():
    gone = points((0, 0, 0), (1, 0, 0), (4, 0, 0.5), (5, 0, 0.5))
    assert link(gone, max_step=1, memory=2)["track"].nunique() == 1
    assert link(gone, max_step=1, memory=1)["track"].nunique() == 2


def test_tracks_begin_and_end_anywhere():
    table = points((0, 0, 0), (1, 0, 0), (1, 50, 50), (2, 50, 50), (9, 0, 0))
    assert link(table, max_step=1)["track"].tolist() == [0, 0, 1, 1, 2]


def test_identical_positions_link():
    assert link(points((0, 3, 3), (1, 3, 3)), max_step=1)["track"].tolist() == [0, 0]


def test_pause_lengthens_the_reach():
    jump = points((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 2.5))
    assert link(jump, max_step=1)["track"].nunique() == 2
    assert link(jump, max_step=1, times=[0, 1, 2, 11])["track"].nunique() == 1


def test_kind_may_change_but_competes_worse():
    table = points((0, 0, 0), (1, 0, 0.1), (1, 0, -0.2)).assign(kind=["a", "b", "a"])
    assert link(table, max_step=1)["track"].tolist() == [0, 1, 0]
    alone = points((0, 0, 0), (1, 0, 0.1)).assign(kind=["a", "b"])
    assert link(alone, max_step=1)["track"].tolist() == [0, 0]


def test_drift_comes_off_first():
    frames = range(6)
    table = points(*((f, 3.0 * f, 0) for f in frames))
    drift = pd.DataFrame({"frame": frames, "dy": [3.0 * f for f in frames], "dx": 0.0})
    tracks = link(table, max_step=1, drift=drift)
    assert tracks["track"].nunique() == 1
    assert tracks["y"].tolist() == table["y"].tolist()


def test_row_order_does_not_matter(rng):
    table = walkers(rng, count=80, frames=10)
    shuffled = table.sample(frac=1, random_state=1)
    a, b = (
        link(t, max_step=2.5).sort_values(["frame", "name"])["link"].to_numpy() for t in (table, shuffled)
    )
    assert np.allclose(a, b, equal_nan=True)


def test_empty_and_bad_input():
    assert len(link(points(), max_step=1)) == 0
    with pytest.raises(InputError, match="max_step"):
        link(points((0, 0, 0)), max_step=0)
    with pytest.raises(InputError, match="missing"):
        link(pd.DataFrame({"frame": [0]}), max_step=1)
    with pytest.raises(InputError, match="NaN"):
        link(points((0, np.nan, 0)), max_step=1)
    with pytest.raises(InputError, match="times"):
        link(points((5, 0, 0)), max_step=1, times=[0, 1])


def test_a_walker_is_not_lost_to_a_nearer_point_of_another_sort():
    """Within a family (before the underscore) names may flicker; a doubtful vacancy nearby must not take the track."""
    rows = [
        (0, 50.0, 50.0, "substitution_A", 1.0),
        (1, 50.0, 82.0, "substitution_B", 1.0),
        (1, 50.0, 66.0, "vacancy_A", 0.7),
        (2, 50.0, 50.0, "substitution_A", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["frame", "y", "x", "kind", "score"])
    tracks = link(table, max_step=35.0, memory=0)
    walker = tracks[(tracks.score == 1.0)]
    assert walker.track.nunique() == 1


def dense(table, *, max_step, memory):
    """The same two assignments by the plainest code: every pair of points in one matrix, frame by frame."""
    where, frame = table[["y", "x"]].to_numpy(), table["frame"].to_numpy()
    doubt = 1 - table["score"].to_numpy()
    kind = table["kind"].to_numpy()
    family = np.array([name.split("_")[0] for name in kind])
    previous = np.full(len(table), -1)

    def join(old, new, alone):
        gap = frame[new][None] - frame[old][:, None]
        reach = max_step * np.sqrt(np.maximum(gap, 1))
        away = np.linalg.norm(where[old][:, None] - where[new][None], axis=2)
        change = np.where(family[old][:, None] != family[new][None], 0.8, 0.2)
        change = np.where(kind[old][:, None] != kind[new][None], change, 0)
        cost = (away / reach) ** 2 + change + doubt[old][:, None] + doubt[new][None] + 0.05 * (gap - 1)
        allowed = (away <= reach) & (gap >= 1) & (gap <= memory + 1)
        rows, columns = linear_sum_assignment(np.where(allowed, cost - alone, 0))
        good = allowed[rows, columns]
        previous[new[columns[good]]] = old[rows[good]]

    for k in range(1, frame.max() + 1):
        join(np.flatnonzero(frame == k - 1), np.flatnonzero(frame == k), 3.8)
    ends = np.setdiff1d(np.arange(len(table)), previous)
    join(ends, np.flatnonzero(previous < 0), 3.8 + 0.05 * memory)
    track, count = np.zeros(len(table), dtype=int), 0
    for row, before in enumerate(previous):
        track[row], count = (track[before], count) if before >= 0 else (count, count + 1)
    return track


@pytest.mark.parametrize("side", [25.0, 60.0])
def test_as_good_as_all_pairs_in_one_matrix(rng, side):
    """Each frame pair is solved piece by piece; the answer is that of the whole."""
    table = walkers(rng, count=150, frames=12, step=0.7, side=side)
    kinds = np.array(["V_S", "V_W", "Mo_W"])[table["name"] % 3]
    table = table.assign(kind=kinds, score=rng.uniform(0.5, 1, len(table)))
    tracks = link(table, max_step=2.5, memory=2)
    assert tracks["track"].tolist() == dense(table, max_step=2.5, memory=2).tolist()


def test_rows_sorted_already_are_not_changed(rng):
    table = walkers(rng, count=30, frames=5)
    before = table.copy()
    tracks = link(table, max_step=2.5)
    tracks.loc[0, "y"] = -1.0
    pd.testing.assert_frame_equal(table, before)


def test_kinds_unnamed_compare_as_one_kind():
    table = points((0, 0, 0), (1, 0, 0.1), (2, 0, 0.2)).assign(kind=[None, None, "V_S"])
    assert link(table, max_step=1)["track"].tolist() == [0, 0, 0]


@pytest.mark.slow
def test_time_and_memory_grow_with_the_number_of_points(rng):
    """A long movie costs per point what a short one does, within a factor for a busy machine."""
    seconds = []
    for frames in (10, 80):
        table = walkers(rng, count=3000, frames=frames, side=500.0)
        start = time.process_time()
        link(table, max_step=2.5)
        seconds.append((time.process_time() - start) / len(table))
    assert seconds[1] < 3 * seconds[0]
