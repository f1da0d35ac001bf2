"""Several files in one call: one Run each with a summary, or one table over all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import AtomreelError, AtomreelWarning, InputError
from atomreel.core.files import write_table
from atomreel.core.recipe import Recipe
from atomreel.core.run import RunFolder
from atomreel.pipeline.driver import run
from atomreel.pipeline.frames import find_atoms, frame_symmetry
from atomreel.pipeline.grains import fine_grid, frame_grains
from atomreel.pipeline.progress import progress
from atomreel.pipeline.source import open_input, open_source
from atomreel.pipeline.store import write_frames
from atomreel.pipeline.survey import plan_columns, plan_run
from atomreel.pipeline.whole import whole_symmetry
from atomreel.predict.heights import find_heights
from atomreel.read.movie import describe, list_datasets, suffix_table

FOUND = ["file", "frame", "y", "x", "y_err", "x_err", "score", "species", "intensity", "domain"]


def run_files(inputs: Sequence[Path], recipe: Recipe, *, out: Path | None = None) -> Path:
    """One Run per file. One file: the path of its Run. Several, or a folder: a folder of Runs and summary.csv.

    A file that cannot be used does not stop the others; its error stands in the summary. Raises the error
    itself where there is only one file, and InputError when none of several could be used.
    """
    files = expand(inputs)
    if len(files) == 1 and not Path(inputs[0]).is_dir():
        return run(files[0], recipe=recipe, out=out)
    home = Path("runs") if out is None else out
    home.mkdir(parents=True, exist_ok=True)
    rows = []
    for file, name in zip(files, _unique_names(files), strict=True):
        row: dict[str, Any] = {"file": str(file), "run": name, "error": ""}
        try:
            row |= summarise(run(file, recipe=recipe, out=home / name))
        except AtomreelError as error:
            row |= {"run": "", "error": " ".join(str(error).split())}
        rows.append(row)
    write_table(home / "summary.csv", pd.DataFrame(rows), kind="summary")
    if all(row["error"] for row in rows):
        raise InputError(f"none of the {len(rows)} files could be used; {home / 'summary.csv'} says why")
    return home


def describe_file(path: Path, recipe: Recipe) -> dict[str, Any]:
    """What `atomreel info` prints; for a file of several images, their list."""
    options = recipe.input
    listed = list_datasets(path)
    if options.dataset is None and sum(item.kind == "image" for item in listed) > 1:
        return {f"dataset {k}": f"{d.name!r} {d.shape} {d.dtype} {d.kind}" for k, d in enumerate(listed)}
    movie = open_input(path, options)
    return {key: value for key, value in describe(movie).items() if value not in (None, [], {})}


def map_file(inputs: Sequence[Path], recipe: Recipe, *, out: Path) -> Path:
    """Symmetry of sliding windows of every frame of one file: a Zarr Field, MAP.zarr. Returns its path.

    Beside it MAP.grains.parquet and MAP.boundaries.parquet, whose `frame` counts the frames of the map. In the Zarr group
    `grain` is the label of each window and `grain_area`, on the grid of the attributes area_origin and area_step, that
    of each place.
    """
    if len(inputs) != 1 or out.suffix != ".zarr":
        raise InputError(
            "a symmetry map is of one file, and -o names a .zarr; --whole makes a table of many files"
        )
    plan = plan_run(open_source(inputs[0], recipe.input), recipe)
    about = {
        "origin": list(plan.windows.origin),
        "step": list(plan.windows.step),
        "window": plan.windows.side,
        "shear": recipe.symmetry.shear,
        "source_frames": list(plan.columns.source.frames),
        **{f"area_{key}": value for key, value in fine_grid(plan).items()},
    }
    count = len(plan.movie)
    tables: dict[str, list[pd.DataFrame]] = {"grains": [], "boundaries": []}
    with progress("symmetry", count) as advance:

        def maps(i: int) -> Mapping[str, npt.NDArray[Any]]:
            data = plan.columns.source.clean(i)[0]
            symmetry = frame_symmetry(plan, i, data)
            grains = frame_grains(plan, i, data, symmetry=symmetry)
            for name, table in grains.tables.items():
                tables[name].append(table.assign(frame=i))
            advance(1)
            return {**symmetry.maps, **grains.maps, "grain_area": grains.area}

        write_frames(out, map(maps, range(count)), kind="symmetry", count=count, attrs=about)
    for name, parts in tables.items():
        write_table(out.with_suffix(f".{name}.parquet"), pd.concat(parts, ignore_index=True), kind=name)
    return out


def summarise(path: Path) -> dict[str, Any]:
    """One row about a Run: what a folder of files is compared by."""
    atoms, lattice, defects, phases = (
        pd.read_parquet(path / f"{name}.parquet") for name in ("atoms", "lattice", "defects", "phases")
    )
    means = {
        c.removeprefix("mean_"): phases[c].mean()
        for c in phases
        if c.startswith("mean_") and c[-4:] != "_err"
    }
    return {
        "frames": len(phases),
        "columns_per_frame": len(atoms) / len(phases),
        "median_err_px": atoms[["y_err", "x_err"]].stack().median() if len(atoms) else np.nan,
        "a_px": lattice.a_px.median(),
        "b_px": lattice.b_px.median(),
        "gamma_deg": lattice.gamma_deg.median(),
        "symmetry": max(means, key=lambda name: means[name]) if means else "",
        "defects_per_frame": len(defects) / len(phases),
        "warnings": len(RunFolder(path).about().get("warnings", [])),
    }


def find_in_files(inputs: Sequence[Path], recipe: Recipe, *, out: Path) -> Path:
    """Columns of every frame of every file: one table with the columns of FOUND. Returns its path.

    `frame` is the number of the frame in its file, whichever frames the recipe chooses. What there is to doubt is an
    AtomreelWarning, once for each file.
    """

    def rows(file: Path) -> list[pd.DataFrame]:
        plan = plan_columns(open_source(file, recipe.input), recipe)
        parts, told = [], dict.fromkeys(plan.warnings)
        for i, number in enumerate(plan.source.frames):
            found = find_atoms(plan, plan.source.clean(i)[0])
            parts.append(found.table.assign(frame=number).reindex(columns=FOUND[1:]))
            told |= dict.fromkeys(found.warnings)
        for text in told:
            warnings.warn(f"{plan.source.movie.name}: {text}", AtomreelWarning, stacklevel=2)
        return parts

    return _table_of_files(inputs, rows, out=out, kind="columns")


def heights_of_files(
    inputs: Sequence[Path], recipe: Recipe, *, out: Path, model: str | Path = "heights"
) -> Path:
    """Atoms per column of one focal series per file: file, y, x, y_err, x_err [px], score, height, height_p, and p_1 …
    for every number of atoms. The pixel size must be known; the dose helps. Returns the table's path."""

    def rows(file: Path) -> list[pd.DataFrame]:
        source = open_source(file, recipe.input)
        if source.movie.pixel is None:
            raise InputError(f"{source.movie.name}: pixel size unknown; give it with --set input.pixel_A=…")
        series = np.stack([source.clean(i)[0] for i in range(len(source.movie))])
        pixel = float(np.mean(source.movie.pixel))
        found = find_heights(series, pixel=pixel, dose=source.movie.dose, model=model)
        for text in found.warnings:
            warnings.warn(f"{source.movie.name}: {text}", AtomreelWarning, stacklevel=2)
        each = {f"p_{n + 1}": found.probability[:, n] for n in range(found.probability.shape[1])}
        table = found.table.assign(**each)
        if source.mask is not None:
            at = np.rint(table[["y", "x"]].to_numpy()).astype(int)
            inside = np.clip(at, 0, np.array(source.mask.shape) - 1)
            table = table[source.mask[inside[:, 0], inside[:, 1]]]
        return [table]

    return _table_of_files(inputs, rows, out=out, kind="heights")


def symmetry_of_files(inputs: Sequence[Path], recipe: Recipe, *, out: Path) -> Path:
    """Class and lattice of every whole frame of every file: one row each (`whole_symmetry`). Returns the table's path."""
    return _table_of_files(
        inputs,
        lambda file: [whole_symmetry(open_source(file, recipe.input), recipe)],
        out=out,
        kind="symmetry",
    )


def _table_of_files(inputs: Sequence[Path], rows: Any, *, out: Path, kind: str) -> Path:
    if out.suffix not in (".csv", ".parquet", ".pq"):
        raise InputError(f"-o {out}: a table is written as .parquet or .csv")
    files, parts = expand(inputs), []
    with progress(kind, len(files)) as advance:
        for file in files:
            parts += [part.assign(file=file.name) for part in rows(file)]
            advance(1)
    table = pd.concat(parts, ignore_index=True)
    write_table(out, table[["file", *(c for c in table if c != "file")]], kind=kind)
    return out


def expand(inputs: Sequence[Path]) -> list[Path]:
    """Files as they are; a folder as the files in it (a Zarr store is a file). Raises InputError where there is none."""
    files: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir() and not _is_store(path):
            try:
                inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
            except OSError as error:
                raise InputError(f"{path}: folder cannot be read ({error.strerror})") from error
            files += [p for p in inside if p.suffix.lower() in suffix_table()]
        else:
            files.append(path)
    if not files:
        raise InputError(f"{', '.join(map(str, inputs))}: no image or movie file here")
    return files


def _is_store(path: Path) -> bool:
    """A Zarr folder, which is one file to its user."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _unique_names(files: list[Path]) -> list[str]:
    """Run names: the stem, with the ending where two files share one."""
    stems = [file.stem for file in files]
    return [f"{f.name if stems.count(f.stem) > 1 else f.stem}.atomreel" for f in files]
