"""What happens to tracks: births, ends, changes of state and hops, each with the frames that it spans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table, empty_table


def find_events(
    tracks: pd.DataFrame,
    *,
    times: npt.ArrayLike | None = None,
    frames: int | None = None,
    min_hop: float | None = None,
    drift: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Events table of `tracks`, in order of frame and track.

    Columns: track, frame (first frame of the new state), t_s (with `times`), before, after, y, x [px], gap,
    event and, for hops, moved [px], from_site, to_site (−1: unknown).
    event: "birth" (before is none), "end" (after is none), "change" (kind or state differ), "hop" (the site
    differs, or without sites a move of at least `min_hop` px after `drift` is taken off).
    gap: frames between the two observations. With gap 1 the event is one step; with more, what happened in
    between was not seen and may be several. A track that is there in frame 0 has no birth, one that is there in
    the last frame (`frames` − 1, by default the table's last) no end: those are not events but the edge of the movie.
    """
    table = check_table(tracks, "tracks").sort_values(["track", "frame"], kind="stable", ignore_index=True)
    if not len(table):
        return empty_table("events").assign(gap=pd.Series(dtype="int64"), event=pd.Series(dtype="str"))
    if table.duplicated(["track", "frame"]).any():
        raise InputError("tracks: one track has two points in one frame; link the table again")
    last = int(table["frame"].max()) if frames is None else frames - 1
    label = state_labels(table)
    first = np.diff(table["track"].to_numpy(), prepend=-1) != 0
    final = np.append(first[1:], True)
    frame = table["frame"].to_numpy()
    births = np.nonzero(first & (frame > 0))[0]
    ends = np.nonzero(final & (frame < last))[0]
    new = np.nonzero(~first)[0]
    old = new - 1
    changed = label[new] != label[old]
    moved, hopped, sites = _moves(table, old, new, min_hop=min_hop, drift=drift)
    parts = [
        _events("birth", table, births, frame[births], np.full(len(births), "none"), label[births]),
        _events("end", table, ends, frame[ends] + 1, label[ends], np.full(len(ends), "none")),
        _events("change", table, new[changed], frame[new[changed]], label[old[changed]], label[new[changed]]),
        _events("hop", table, new[hopped], frame[new[hopped]], label[old[hopped]], label[new[hopped]]).assign(
            moved=moved[hopped], from_site=sites[hopped, 0], to_site=sites[hopped, 1]
        ),
    ]
    gap = (frame[new] - frame[old])[changed], (frame[new] - frame[old])[hopped]
    parts[2]["gap"], parts[3]["gap"] = gap
    events = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    if "from_site" in events:
        events = events.fillna({"from_site": -1, "to_site": -1}).astype({"from_site": int, "to_site": int})
    if times is not None:
        seconds = np.asarray(times, dtype=float)
        if len(seconds) <= events["frame"].max():
            raise InputError(f"times has {len(seconds)} entries, events reach frame {events['frame'].max()}")
        events["t_s"] = seconds[events["frame"].to_numpy()]
    order = events.sort_values(["frame", "track", "event"], kind="stable", ignore_index=True)
    return check_table(order, "events")


def state_labels(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """State of each row in words: the kind, with ":n" where the row has a state number n ≥ 0."""
    kind = table["kind"].astype(str)
    if "state" not in table:
        return np.asarray(kind, dtype=object)
    number = pd.to_numeric(table["state"], errors="coerce").fillna(-1).astype(int)
    return np.asarray(np.where(number >= 0, kind + ":" + number.astype(str), kind), dtype=object)


def _events(
    event: str,
    table: pd.DataFrame,
    rows: npt.NDArray[np.int_],
    frame: npt.NDArray[np.int_],
    before: npt.NDArray[np.object_],
    after: npt.NDArray[np.object_],
) -> pd.DataFrame:
    where = table.iloc[rows]
    return pd.DataFrame(
        {
            "track": where["track"].to_numpy(),
            "frame": frame,
            "before": before,
            "after": after,
            "y": where["y"].to_numpy(),
            "x": where["x"].to_numpy(),
            "gap": 1,
            "event": event,
        }
    )


def _moves(
    table: pd.DataFrame,
    old: npt.NDArray[np.int_],
    new: npt.NDArray[np.int_],
    *,
    min_hop: float | None,
    drift: pd.DataFrame | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int_]]:
    """(move [px], is it a hop, (from, to) site) of each step."""
    where = table[["y", "x"]].to_numpy(float)
    if drift is not None:
        shifts = drift.set_index("frame")[["dy", "dx"]].reindex(table["frame"]).to_numpy(float)
        where = where - np.nan_to_num(shifts)
    moved = np.hypot(*(where[new] - where[old]).T)
    if "site" in table:
        site = pd.to_numeric(table["site"], errors="coerce").fillna(-1).to_numpy().astype(int)
        pair = np.stack([site[old], site[new]], axis=1)
        return moved, (pair[:, 0] != pair[:, 1]) & (pair >= 0).all(axis=1), pair
    unknown = np.full((len(new), 2), -1)
    return moved, moved >= min_hop if min_hop is not None else np.zeros(len(new), dtype=bool), unknown
