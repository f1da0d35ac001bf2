"""Defects of a Run from every method that looked for them: single frames, the whole movie, a detector, a classifier; and their tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.files import write_json, write_table
from atomreel.core.run import RunFolder
from atomreel.interpret.agreement import combine_sources
from atomreel.kinetics.intervals import to_rates
from atomreel.pipeline.places import places_of_run

BOND = 1.3  # of the distance of neighbouring columns: the parts of a complex are no further apart
REACH = 0.5  # of the distance of neighbouring columns: how far methods may differ about a place


def merge_sources(run: Path, detected: Path | None = None) -> pd.DataFrame:
    """Write RUN/sources.parquet, the table of `interpret.agreement.combine_sources`, and give it back.

    Of a movie with a lattice it has the tracks of `pipeline.places.follow_places`, whose rates go into RUN/sources.json.

    Its methods: "lattice" is RUN/defects.parquet, "movie" RUN/reactions/defects.parquet where it is there, "detector" that of the folder
    `detected` which `atomreel detect` wrote for the same movie, called "classifier" where one named what was found. Frames that a method
    could not look at count as silent. Raises RunError for a folder that is no Run, InputError where a table is missing or the frames are not those of the Run.
    """
    about = RunFolder(run).about()
    spacing = float(about.get("survey", {}).get("spacing_px") or np.nan)
    if not spacing > 0:
        raise InputError(f"{run}: the distance of its columns is not known, so places cannot be compared")
    tables = {"lattice": _table(run / "defects.parquet")}
    judged = run / "reactions" / "defects.parquet"
    if judged.is_file():
        movie = _table(judged)
        tables = {"lattice": without_parts(tables["lattice"], movie, reach=BOND * spacing), "movie": movie}
    if detected is not None:
        tables |= _detected(detected, about["input"])
    merged = combine_sources(tables, reach=REACH * spacing)
    followed = places_of_run(run, about, merged)
    if followed is not None:
        merged, rates = followed
        write_json(run / "sources.json", to_rates(rates))
    write_table(run / "sources.parquet", merged, kind="defects")
    return merged


def without_parts(single: pd.DataFrame, judged: pd.DataFrame, *, reach: float) -> pd.DataFrame:
    """`single` without the vacancies that `judged` has as parts of a complex such as Mo_W+V_S, which stands at its dopant.

    reach: distance of neighbouring columns, and some [px]. Both are tables of defects.
    """
    complexes = judged[judged.kind.str.contains("+", regex=False)]
    part = np.zeros(len(single), dtype=bool)
    for frame, here in complexes.groupby("frame"):
        rows = np.flatnonzero((single.frame == frame).to_numpy())
        for _, one in here.iterrows():
            away = np.hypot(single.y.to_numpy()[rows] - one.y, single.x.to_numpy()[rows] - one.x)
            same = single.kind.to_numpy()[rows] == one.kind.split("+", 1)[1]
            part[rows] |= same & (away < reach)
    return single[~part]


def describe_sources(merged: pd.DataFrame) -> list[str]:
    """What the screen says: how many places each set of methods names."""
    counts = merged.groupby("source").agg(
        places=("agree", "size"), sure=("score", lambda p: int((p >= 0.5).sum()))
    )
    return [
        f"{name}: {row.places:,} places, {row.sure:,} with a combined score of 0.5 and more"
        for name, row in counts.sort_values("places", ascending=False).iterrows()
    ]


def _detected(folder: Path, about: dict[str, object]) -> dict[str, pd.DataFrame]:
    """The table by the name of its method, frames counted as the Run counts them."""
    found = _table(folder / "defects.parquet")
    kept = about.get("source_frames")  # numbers in the file of the Run's frames, where some were chosen
    if isinstance(kept, list):
        number = {int(frame): k for k, frame in enumerate(kept)}
        found = found[found.frame.isin(number)].assign(frame=lambda t: t.frame.map(number).astype("int64"))
    frames = int(str(about["frames"]))
    if len(found) and int(found.frame.max()) >= frames:
        raise InputError(
            f"{folder}: holds frame {int(found.frame.max())}, the Run has {frames} frames; give the detections of the same movie"
        )
    named = "source" in found and (found.source == "classifier").any()
    return {"classifier" if named else "detector": found}


def _table(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: no such table; the folder of a Run or of `atomreel detect` is needed")
    return pd.read_parquet(file)
