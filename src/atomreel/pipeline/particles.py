"""A movie of particles: found and counted in every frame, followed without the drift, with births, ends, merges and splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.files import write_json, write_table
from atomreel.core.image import Movie
from atomreel.core.recipe import Recipe
from atomreel.interpret.particles import Look, find_particles, survey_particles
from atomreel.pipeline.source import clean_or_blank, open_source, spread
from atomreel.prepare.drift import measure_drift
from atomreel.report.particles import draw_particles
from atomreel.track.events import find_events
from atomreel.track.link import link
from atomreel.track.merge import find_merges

LOOKED_AT = 4  # frames from which size and contrast sign are taken
STEP = 0.5  # of the usual distance of neighbours: a longer step would as often reach the wrong one
CLOSE = 3.0  # radii: centres of particles that touch, and a step
MARGIN = 1.6  # radii: nearer to the border a particle may be cut, or leave
LASTING = 3  # points: what is seen in fewer frames flickers, and has no events
SMEARED = 0.75  # of the usual contrast of the four frames on either side, below which a frame is not trusted with tracks
LIKELY = 0.5  # confidence from which a merge is told in place of an end


@dataclass(frozen=True)
class Followed:
    """particles: every candidate of every frame (`interpret.particles`, and frame). tracks: those of score 0.5 on in sharp frames, linked.
    events: birth, end, enter, leave (of the field), merge, split of tracks that last three frames, with confidence where it is one of the last two; in order.
    drift: drift table. counts: frame, t_s where known, count, count_err, area, area_err (mean, px²), contrast, and whether the frame is
    smeared, as by a jump of the stage: then its particles are in no track.
    look: what was looked for. max_step: [px]."""

    particles: pd.DataFrame
    tracks: pd.DataFrame
    events: pd.DataFrame
    drift: pd.DataFrame
    counts: pd.DataFrame
    look: Look
    max_step: float

    def summary(self) -> dict[str, Any]:
        """Numbers for a reader, with plain names."""
        span = self.tracks.groupby("track")["frame"].agg(["min", "max"])
        first, last = self.tracks["frame"].min(), self.tracks["frame"].max()
        start = span[span["min"] == first]
        kinds = self.events["event"].value_counts()
        return {
            "frames": len(self.counts),
            "radius_px": self.look.radius,
            "dark": self.look.dark,
            "max_step_px": self.max_step,
            "count_first": int(self.counts["count"].iloc[0]),
            "count_last": int(self.counts["count"].iloc[-1]),
            "tracks": len(span),
            "from_first_to_last": float((start["max"] == last).mean()) if len(start) else float("nan"),
            **{
                name: int(kinds.get(name, 0)) for name in ("birth", "end", "enter", "leave", "merge", "split")
            },
        }


def follow_particles(
    movie: Movie, *, memory: int = 3, volume: bool = True, drifts: bool = True, frames: tuple[int, ...] = ()
) -> Followed:
    """Particles of a movie, their tracks and events. Nothing is set by hand.

    memory: frames that a particle may be missing for. volume: sizes that add up in a merge are area^1.5 (solid particles); else areas.
    drifts: False where the field is known to stand still, or nothing in it does. frames: those that size and contrast sign are taken
    from, by default four over the movie.
    The longest step is half the usual distance of neighbours.
    Raises InputError for a movie in which no particle stands out.
    """
    chosen = frames or tuple(spread(len(movie), most=LOOKED_AT))
    look = survey_particles([clean_or_blank(movie[i].data)[0] for i in chosen])
    drift = measure_drift(movie) if drifts and len(movie) > 1 else _still(len(movie))
    found = [
        find_particles(clean_or_blank(movie[i].data)[0], look).assign(frame=i) for i in range(len(movie))
    ]
    particles = pd.concat(found, ignore_index=True)[["frame", *(c for c in found[0] if c != "frame")]]
    sure = particles[particles["score"] >= 0.5]
    if not len(sure):
        raise InputError(f"{movie.name}: no particle in any frame")
    max_step = STEP * _neighbours(sure)
    counts = _counts(particles, movie.times, len(movie))
    sharp = counts.loc[~counts["smeared"], "frame"].to_numpy()
    sure = sure[sure["frame"].isin(sharp)]
    tracks = link(sure.assign(kind="particle"), max_step=max_step, memory=memory, drift=drift)
    lasting = tracks[tracks.groupby("track")["frame"].transform("size") >= min(LASTING, len(movie))]
    events = _events(lasting, drift, movie, sharp=sharp, radius=look.radius, power=1.5 if volume else 1.0)
    return Followed(
        particles, tracks, events, drift, _counts(particles, movie.times, len(movie)), look, max_step
    )


def particles_of_file(file: Path, recipe: Recipe, *, out: Path) -> dict[str, Any]:
    """`follow_particles` of a file, into the folder `out`; returns its summary.

    Writes particles.parquet, tracks.parquet, events.parquet, drift.parquet, counts.csv, particles.json (the summary) and
    the figures particles.png and .svg. Raises InputError.
    """
    if out.suffix or (out.exists() and not out.is_dir()):
        raise InputError(f"-o {out}: the name of a folder is needed")
    movie = open_source(file, recipe.input).movie
    followed = follow_particles(movie)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("particles", "tracks", "events", "drift"):
        write_table(out / f"{name}.parquet", getattr(followed, name), kind=name)
    write_table(out / "counts.csv", followed.counts, kind="counts")
    write_json(out / "particles.json", followed.summary())
    image = clean_or_blank(movie[len(movie) - 1].data)[0]
    draw_particles(
        image, followed.tracks, followed.events, drift=followed.drift, counts=followed.counts, folder=out
    )
    return followed.summary()


def describe_particles(summary: dict[str, Any]) -> str:
    """The summary in a sentence."""
    kind = "dark" if summary["dark"] else "bright"
    return (
        f"{kind} particles of radius {summary['radius_px']:.1f} px: {summary['count_first']} in the first frame, {summary['count_last']} in "
        f"the last; {100 * summary['from_first_to_last']:.0f} % of the first are followed to the end; "
        f"{summary['merge']} merges, {summary['split']} splits, {summary['end']} ends and {summary['birth']} births within the field"
    )


def _still(frames: int) -> pd.DataFrame:
    return pd.DataFrame({"frame": range(frames), **dict.fromkeys(("dy", "dx", "dy_err", "dx_err"), 0.0)})


def _neighbours(sure: pd.DataFrame) -> float:
    """Median distance of nearest neighbours within a frame [px]."""
    gaps = [
        cKDTree(where).query(where, k=2)[0][:, 1]
        for _, where in ((f, rows[["y", "x"]].to_numpy()) for f, rows in sure.groupby("frame"))
        if len(where) > 1
    ]
    return float(np.median(np.concatenate(gaps))) if gaps else 20.0


def _counts(particles: pd.DataFrame, times: npt.NDArray[np.float64] | None, frames: int) -> pd.DataFrame:
    """Per frame: how many, with the error that doubtful scores leave, and mean area and contrast of whole ones."""
    index = pd.RangeIndex(frames, name="frame")
    p = particles["score"]
    doubt = (p * (1 - p)).groupby(particles["frame"]).sum()
    whole = particles[(p >= 0.5) & ~particles["cut"]].groupby("frame")
    table = pd.DataFrame(
        {
            "count": (p >= 0.5).groupby(particles["frame"]).sum(),
            "count_err": np.sqrt(doubt),
            "area": whole["area"].mean(),
            "area_err": whole["area"].sem(),
            "contrast": whole["contrast"].mean(),
        },
        index=index,
    )
    table = table.fillna({"count": 0, "count_err": 0.0}).astype({"count": int}).reset_index()
    level = whole["contrast"].median().reindex(index).to_numpy()
    usual = pd.Series(level).rolling(9, center=True, min_periods=5).median().to_numpy()
    table["smeared"] = level < SMEARED * np.nan_to_num(usual)
    if times is not None:
        table.insert(1, "t_s", times)
    return table


def _events(
    tracks: pd.DataFrame,
    drift: pd.DataFrame,
    movie: Movie,
    *,
    sharp: npt.NDArray[np.int64],
    radius: float,
    power: float,
) -> pd.DataFrame:
    plain = find_events(tracks, times=movie.times, frames=int(sharp[-1]) + 1)
    plain = plain[plain["event"].isin(["birth", "end"]) & (plain["frame"] > sharp[0])]
    inside = _stays(plain, drift, sharp, field=(movie.shape, MARGIN * radius))
    names = plain["event"].where(inside, plain["event"].map({"birth": "enter", "end": "leave"}))
    plain = plain.assign(event=names, partner=-1, confidence=np.nan)
    joined = find_merges(
        tracks,
        reach=CLOSE * radius,
        size="area",
        power=power,
        drift=drift,
        field=movie.shape,
        margin=MARGIN * radius,
    )
    joined = joined[joined["confidence"] >= LIKELY].drop(columns="away")
    if movie.times is not None:
        joined = joined.assign(t_s=movie.times[joined["frame"]])
    told = plain["event"].map({"end": "merge", "birth": "split"}).fillna("")
    known = set(zip(joined["event"], joined["track"], strict=True))
    new = [pair not in known for pair in zip(told, plain["track"], strict=True)]
    rest = plain[np.array(new, dtype=bool)]
    parts = [part for part in (rest, joined) if len(part)]
    events = pd.concat(parts or [rest], ignore_index=True)
    return events.sort_values(["frame", "track"], kind="stable", ignore_index=True)


def _stays(
    events: pd.DataFrame,
    drift: pd.DataFrame,
    sharp: npt.NDArray[np.int64],
    *,
    field: tuple[tuple[int, int], float],
) -> npt.NDArray[np.bool_]:
    """Whether what ended would still be in the field in the next frame that counts, and what was born was in it the frame before."""
    moves = drift.set_index("frame")[["dy", "dx"]]
    ended = (events["event"] == "end").to_numpy()
    seen = events["frame"].to_numpy() - ended
    place = np.searchsorted(sharp, seen) + np.where(ended, 1, -1)
    other = sharp[np.clip(place, 0, len(sharp) - 1)]
    where = events[["y", "x"]].to_numpy(float)
    there = where + moves.reindex(other).to_numpy(float) - moves.reindex(seen).to_numpy(float)
    shape, margin = field
    corner = np.array(shape) - 1 - margin
    return np.asarray(
        ((np.minimum(where, there) >= margin) & (np.maximum(where, there) <= corner)).all(axis=1)
    )
