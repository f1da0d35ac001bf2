"""What defects look like: their crops, cut from the file that the Run was made of, in classes that nobody named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.files import sha256
from atomreel.core.recipe import Input
from atomreel.interpret.crops import Classes, classify, cut_crops
from atomreel.interpret.subclasses import inner_atoms, sub_classes
from atomreel.pipeline.complexes import Complex
from atomreel.pipeline.progress import progress
from atomreel.pipeline.source import Source, open_source
from atomreel.track.sites import Sites

Array = npt.NDArray[np.float64]
WIDTH = 2.75  # spacings: side of a crop, the defect and its nearest neighbours
MOST = 4000  # crops that are sorted; of more, that many evenly over the movie
PIXELS = 2e7  # in all of them, for the same reason: memory


@dataclass(frozen=True, eq=False)
class Looks:
    """table: rows of the tracks with a crop: frame, y, x, kind, state, track, class (from 1), p_class. images: (N, size, size)."""

    table: pd.DataFrame
    images: Array
    classes: Classes

    def mean_of(self, label: pd.Series) -> dict[str, Array]:
        """Mean crop of each value of `label`, one per row of the table."""
        return {
            str(k): self.images[own].mean(axis=0)
            for k, own in label.reset_index(drop=True).groupby(label.to_numpy()).groups.items()
        }


def open_frames(run: Path, about: Mapping[str, Any], movie: Path | None = None) -> tuple[Source | None, str]:
    """The frames that a Run was made of, and "" or why they are not at hand.

    movie: where the file lies now; by default beside the Run, one folder up, and in the present one. It must be the same by its SHA-256.
    Raises InputError for a `movie` given that is not that file.
    """
    name, digest = str(about["input"].get("path", "")), about["input"].get("sha256")
    places = [movie] if movie else [folder / name for folder in (run.parent, run.parent.parent, Path())]
    file = next((p for p in places if name and p.is_file() and sha256(p) == digest), None)
    if file is None and movie is not None:
        raise InputError(f"{movie}: not the file {name!r} that {run} was made of")
    if file is None:
        return (
            None,
            f"crops of the defects are left out: {name or 'the file of the Run'} is not beside it; tell where with --movie",
        )
    told = about.get("recipe", {}).get("input", {})
    kept = {key: told[key] for key in ("dataset", "frames", "roi", "data_bar") if key in told}
    source = open_source(file, Input(**kept))
    if len(source.movie) != int(about["input"]["frames"]) or list(source.movie.shape) != list(
        about["input"]["shape"]
    ):
        return None, f"crops of the defects are left out: {name} has not the frames that the Run tells of"
    return source, ""


def look_at(source: Source, tracks: pd.DataFrame, *, spacing: float, rng: int = 0) -> Looks:
    """Crops of all defects, sorted into classes. spacing: of columns [px]. Raises InputError for too few."""
    size = 2 * round(WIDTH * spacing / 2) + 1
    chosen = tracks.reset_index(drop=True)
    most = max(min(MOST, int(PIXELS / size**2)), 1)
    if len(chosen) > most:
        rows = np.unique(np.linspace(0, len(chosen) - 1, most).astype(int))
        chosen = chosen.iloc[rows].reset_index(drop=True)
    with progress("crops", chosen["frame"].nunique()) as advance:
        crops = cut_crops(lambda i: source.clean(i)[0], chosen, size=size, advance=advance)
    images = crops.images[:, 0]
    classes = classify(images, rng=rng)
    table = chosen.iloc[crops.rows][["frame", "y", "x", "kind", "state", "track"]].reset_index(drop=True)
    table = table.assign(**{"class": classes.label + 1, "p_class": classes.probability.max(axis=1)})
    return Looks(table, images, classes)


def inner_classes(sites: Sites, c: Complex, *, rng: int = 0) -> pd.DataFrame:
    """Sub-classes of a dopant from its nearest atoms, one frame at a time: track, frame, state (of the whole movie), sub_class, p_sub_class.

    sub_class counts neighbours as `state` does; −1 for a shell that is neither whole nor lacks one atom. Raises InputError where nothing is to be told apart.
    """
    rows = c.rows[(c.slots[c.rows["site"]] >= 0).all(axis=1)].reset_index(drop=True)
    carried = {int(t): sites.at(int(t)) for t in rows["frame"].unique()}
    where = np.array([carried[t][s] for t, s in zip(rows["frame"], rows["site"], strict=True)])
    shell = inner_atoms(rows.assign(y=where[:, 0], x=where[:, 1]), sites.atoms, neighbours=c.slots.shape[1])
    found = sub_classes(shell, rng=rng)
    table = rows.iloc[shell.rows][["track", "frame", "state"]].reset_index(drop=True)
    return table.assign(sub_class=found.state, p_sub_class=found.classes.probability.max(axis=1))
