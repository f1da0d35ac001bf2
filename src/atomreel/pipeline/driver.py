"""`run`: one file to one Run folder, resumable at every chunk of frames."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atomreel.core.errors import AtomreelError, AtomreelWarning, InputError
from atomreel.core.files import sha256
from atomreel.core.recipe import Recipe, load_recipe
from atomreel.core.run import RunFolder, close_run, discard_run, finish_run, start_run
from atomreel.pipeline.assemble import assemble, check_analyses
from atomreel.pipeline.doctor import versions
from atomreel.pipeline.judged import judge_movie
from atomreel.pipeline.preview import shrink
from atomreel.pipeline.progress import progress
from atomreel.pipeline.source import describe_source, open_source
from atomreel.pipeline.store import Chunk, read_group, write_chunk
from atomreel.pipeline.survey import (
    Plan,
    describe_beam,
    describe_calibration,
    describe_plan,
    plan_run,
)
from atomreel.pipeline.workers import Analysed, frame_workers
from atomreel.predict.backend import identify_backend
from atomreel.predict.model import model_folder
from atomreel.prepare.drift import DriftState, advance
from atomreel.report.page import write_report


def run(
    path: Path | str, *, recipe: Recipe | Path | str | None = None, out: Path | str | None = None
) -> Path:
    """The whole chain on one file. Returns the Run folder.

    path: any file that `open_movie` reads. recipe: a Recipe, a TOML file, or None for the defaults. out: the
    Run folder, by default NAME.atomreel in the working folder. An unfinished Run of the same input and recipe
    is resumed, with the same bytes as if it had never stopped; a finished one is left as it is.
    Raises InputError, RecipeError, ModelError, RunError.
    """
    path = Path(path)
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    check_analyses(chosen.analysis)
    source = open_source(path, chosen.input)
    plan_key = identify(path, chosen)
    folder, state = start_run(out or default_folder(path), plan_key)
    if state == "finished":
        warnings.warn(f"{folder.path}: finished before; nothing was changed", AtomreelWarning, stacklevel=2)
        return folder.path
    try:
        folder.log("start" if state == "new" else "resume")
        with _timed(folder, "survey"):
            plan = plan_run(source, chosen)
        folder.log("backend", plan.columns.backend.describe())
        with _timed(folder, "frames"):
            chunks = _all_chunks(plan, folder, path)
    except AtomreelError:
        discard_run(folder)
        raise
    with _timed(folder, "assemble"):
        notes = assemble(plan, folder, chunks)
    finish_run(folder, _about(plan, path, plan_key, notes), plan_key)
    with _timed(folder, "reactions"):
        told = judge_movie(plan, folder, path)
    if told:
        finish_run(folder, _about(plan, path, plan_key, [*notes, *told]), plan_key)
    with _timed(folder, "report"):
        write_report(folder.path)
    close_run(folder)
    return folder.path


def _about(plan: Plan, path: Path, key: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """The contents of run.toml."""
    about = {
        "command": _command(path, plan.recipe),
        "input": {"path": path.name, "sha256": key["input"], **describe_source(plan.columns.source)},
        "recipe": plan.recipe.to_dict(),
        "versions": key["versions"],
        "models": {name: {"sha256": digest} for name, digest in key["models"].items()},
        "backend": plan.columns.backend.describe(),
        "survey": describe_plan(plan),
        "warnings": list(notes),
    }
    if plan.calibration is not None:
        about["calibration"] = describe_calibration(plan, plan.calibration)
    if beam := describe_beam(plan):
        about["beam"] = beam
    return about


def _command(path: Path, recipe: Recipe) -> str:
    """What a reader types to get this Run again: the file and every key that is not the default."""
    plain = Recipe().to_dict()
    changed = [
        f"--set {section}.{key}={value}"
        for section, values in recipe.to_dict().items()
        for key, value in values.items()
        if value != plain[section].get(key) and section != "analysis"
    ]
    return " ".join(["atomreel run", path.name, *changed])


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    folder.log(stage, {"seconds": round(time.perf_counter() - start, 3)})


def default_folder(path: Path) -> Path:
    return Path(f"{path.stem}.atomreel")


def identify(path: Path, recipe: Recipe) -> dict[str, Any]:
    """What makes two runs the same run: bytes of the input and of what it names, recipe, versions, models, backend."""
    models = {name: sha256(model_folder(name)) for name in (recipe.columns.model, recipe.symmetry.model)}
    beside: dict[str, Any] = {"times_csv": recipe.input.times_csv, "mask": recipe.input.mask}
    for key, file in beside.items():
        if file is not None and not Path(file).is_file():
            raise InputError(f"input.{key} = {str(file)!r}: no such file")
    for section in ("defects", "calibrate"):
        material = getattr(recipe, section).material
        beside[section] = material if material is not None and Path(material).is_file() else None
    return {
        "input": sha256(path),
        "recipe": {
            **recipe.to_dict(),
            "compute": {"backend": recipe.compute.backend},
        },  # not how many share the work
        "versions": versions(),
        "models": models,
        "backend": identify_backend(recipe.compute.backend),
        **{key: sha256(file) for key, file in beside.items() if file is not None},
    }


def _all_chunks(plan: Plan, folder: RunFolder, path: Path) -> int:
    """Every chunk that is not there yet, in order. Returns their number."""
    size, frames = plan.recipe.run.chunk, len(plan.movie)
    chunks = -(-frames // size)
    indices = [range(n * size, min(frames, (n + 1) * size)) for n in range(chunks)]
    missing = {n for n in range(chunks) if not folder.chunk(n).is_dir()}
    left = [i for n in sorted(missing) for i in indices[n]]
    with (
        frame_workers(path, plan.recipe, frames=len(left)) as analyse,
        progress("frames", frames) as done,
    ):
        coming = analyse(plan, left)
        for number in range(chunks):
            if number in missing:
                before = read_group(folder, number - 1, "drift") if number else {}
                write_chunk(folder, number, _chunk(plan, islice(coming, len(indices[number])), before))
            done(len(indices[number]))
    return chunks


def _chunk(plan: Plan, frames: Iterator[Analysed], before: dict[str, np.ndarray]) -> Chunk:
    """A few frames from pixels to tables, starting from the state in which the last chunk ended."""
    tables: dict[str, list[pd.DataFrame]] = {}
    maps: dict[str, list[np.ndarray]] = {}
    arrays: dict[str, np.ndarray] = {}
    notices: dict[str, int] = {}
    drift = DriftState.from_arrays(before) if before else None
    for frame in frames:
        i, data, result = frame.number, frame.data, frame.result
        for name, table in result.tables.items():
            tables.setdefault(name, []).append(table)
        for name, values in result.maps.items():
            maps.setdefault(name, []).append(values)
        if plan.recipe.drift.measure and len(plan.movie) > 1:
            drift, row = advance(drift, data)
            tables.setdefault("drift", []).append(pd.DataFrame([{"frame": i, **row}]))
        if i in plan.preview:
            arrays[f"preview/{i}"] = shrink(data)
            if i == plan.preview[0] and result.residual is not None:
                arrays["residual"] = shrink(result.residual)
        for text in (*frame.mended, *result.notices):
            notices[text] = notices.get(text, 0) + 1
    joined = {name: pd.concat(rows, ignore_index=True) for name, rows in tables.items()}
    stacked = {name: np.stack(values) for name, values in maps.items()}
    if drift is not None:
        arrays |= {f"drift/{name}": values for name, values in drift.arrays().items()}
    return Chunk(joined, stacked | arrays, {"notices": notices})
