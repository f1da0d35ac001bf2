import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.track.link import link
from atomreel.track.merge import find_merges


def coalescence(rng, *, side=30, gap=10.0, frames=40, merges=60, losses=60, scatter=0.06, step=0.15):
    """Discs on a jittered grid that tremble. Some flow into a neighbour, whose area grows and whose centre moves to
    the common one; as many others just vanish. Truth by name, tracks by name too."""
    where = gap * np.stack(np.divmod(np.arange(side**2), side), axis=1) + rng.normal(0, 0.6, (side**2, 2))
    area = rng.lognormal(np.log(30), 0.25, side**2)
    inner = [n for n in range(side**2) if n % 2 == 0 and 0 < n % side < side - 1]
    chosen = rng.choice(inner, merges + losses, replace=False)
    when = dict(zip(chosen.tolist(), rng.integers(5, frames - 5, len(chosen)).tolist(), strict=True))
    into = {int(n): int(n) + 1 for n in chosen[:merges]}
    alive, rows, truth = np.ones(side**2, dtype=bool), [], []
    for frame in range(frames):
        for n in [n for n, t in when.items() if t == frame]:
            alive[n] = False
            m = into.get(n)
            if m is None:
                continue
            truth.append((n, m, frame))
            share = area[n] / (area[n] + area[m])
            where[m] += share * (where[n] - where[m])
            area[m] += area[n]
        where = where + rng.normal(0, step, where.shape)
        seen = where + rng.normal(0, 0.05, where.shape)
        size = area * rng.normal(1, scatter, len(area))
        table = {"frame": frame, "y": seen[:, 0], "x": seen[:, 1], "area": size, "track": np.arange(side**2)}
        rows.append(pd.DataFrame(table)[alive])
    table = pd.concat(rows, ignore_index=True).assign(kind="particle", score=1.0, y_err=0.05, x_err=0.05)
    return table, pd.DataFrame(truth, columns=["track", "partner", "frame"])


def backwards(table):
    return table.assign(frame=table["frame"].max() - table["frame"])


def test_coalescing_discs_are_told_from_those_that_vanish(rng):
    tracks, truth = coalescence(rng)
    events = find_merges(tracks, reach=12.0, size="area")
    merges = events[events["event"] == "merge"]
    sure = merges[merges["confidence"] > 0.5]
    right = sure.merge(truth, on=["track", "partner", "frame"])
    assert len(right) >= 0.95 * len(truth)
    assert len(right) >= 0.95 * len(sure)
    assert merges["track"].is_unique and not merges.duplicated(["partner", "frame"]).any()
    assert not (events["event"] == "split").any()
    # What is claimed comes true: the sum of confidences is the number of merges.
    assert merges["confidence"].sum() == pytest.approx(len(truth), rel=0.08)


def test_doubtful_where_sizes_say_little(rng):
    """With sizes five times as uncertain, confidence falls but still counts right."""
    tracks, truth = coalescence(rng, scatter=0.3)
    events = find_merges(tracks, reach=12.0, size="area")
    assert events["confidence"].sum() == pytest.approx(len(truth), rel=0.25)


def test_a_split_is_a_merge_run_backwards(rng):
    tracks, truth = coalescence(rng)
    last = tracks["frame"].max()
    events = find_merges(backwards(tracks), reach=12.0, size="area")
    splits = events[(events["event"] == "split") & (events["confidence"] > 0.5)]
    wanted = truth.assign(frame=last - truth["frame"] + 1)
    assert len(splits.merge(wanted, on=["track", "partner", "frame"])) >= 0.95 * len(truth)
    assert not (events["event"] == "merge").any()


def test_defects_that_meet_without_sizes(rng):
    """Few defects far apart: one that vanishes beside another merged; one that vanishes alone did not."""
    rows = []
    for k in range(30):
        y = 60.0 * k
        for frame in range(10):
            rows.append((frame, y, 0.0))
            if frame < 5 and k < 15:
                rows.append((frame, y, 6.0 - frame))
            if frame < 5 and k >= 15:
                rows.append((frame, y, 25.0))
    table = pd.DataFrame(rows, columns=["frame", "y", "x"])
    table[["y", "x"]] += rng.normal(0, 0.1, (len(table), 2))
    tracks = link(table.assign(kind="V_S"), max_step=1.6)
    events = find_merges(tracks, reach=4.0)
    assert len(events) == 15
    assert (events["confidence"] > 0.5).all()
    assert events["frame"].eq(5).all() and events["before"].eq("V_S").all()
    assert (events["x"].abs() < 1).all()


def test_spheres_add_volumes_and_drift_comes_off(rng):
    tracks, truth = coalescence(rng)
    tracks["area"] = tracks["area"] ** (2 / 3)
    drift = pd.DataFrame({"frame": range(40), "dy": 1.5 * np.arange(40), "dx": -0.7 * np.arange(40)})
    moved = tracks.merge(drift, on="frame")
    moved["y"], moved["x"] = moved["y"] + moved["dy"], moved["x"] + moved["dx"]
    still = find_merges(tracks, reach=12.0, size="area", power=1.5)
    away = find_merges(moved.drop(columns=["dy", "dx"]), reach=12.0, size="area", power=1.5, drift=drift)
    assert (still["confidence"] > 0.5).sum() >= 0.95 * len(truth)
    assert np.allclose(still["confidence"], away["confidence"])
    assert np.allclose(away["y"] - still["y"], 1.5 * still["frame"])


def test_nothing_to_merge_and_bad_input(rng):
    tracks, _ = coalescence(rng, merges=0, losses=0, side=5)
    assert len(find_merges(tracks, reach=12.0, size="area")) == 0
    assert len(find_merges(tracks.iloc[:0], reach=12.0)) == 0
    with pytest.raises(InputError, match="reach"):
        find_merges(tracks, reach=0)
    with pytest.raises(InputError, match="no column weight"):
        find_merges(tracks, reach=1, size="weight")
    with pytest.raises(InputError, match="two points"):
        find_merges(pd.concat([tracks, tracks]), reach=1)
    with pytest.raises(InputError, match="finite"):
        find_merges(tracks.assign(area=np.nan), reach=1, size="area")


def test_what_neither_reading_explains_is_no_merge(rng):
    """A neighbour that swells fivefold as a small track ends: an overlapping pair parted wrongly, no coalescence."""
    tracks, truth = coalescence(rng)
    row = truth.iloc[0]
    lost = tracks["track"] == row["track"]
    tracks.loc[lost, "area"] *= 0.2
    tracks.loc[(tracks["track"] == row["partner"]) & (tracks["frame"] >= row["frame"]), "area"] *= 5
    events = find_merges(tracks, reach=12.0, size="area").set_index("track")
    assert events["confidence"][row["track"]] < 0.5
    assert (events["confidence"] > 0.5).sum() >= 0.9 * (len(truth) - 1)
