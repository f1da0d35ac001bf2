"""From finished chunks to the files of the Run: joined tables and maps, tracks, rates, extras, quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from atomreel.core.errors import AtomreelError
from atomreel.core.files import atomic_folder, write_json, write_table
from atomreel.core.registry import analyses, lookup
from atomreel.core.run import RunFolder
from atomreel.pipeline.grains import fine_grid
from atomreel.pipeline.holes import hole_notes
from atomreel.pipeline.motion import motion
from atomreel.pipeline.preview import write_preview
from atomreel.pipeline.progress import progress
from atomreel.pipeline.quality import quality
from atomreel.pipeline.source import clean_or_blank
from atomreel.pipeline.store import head, join_maps, join_table, read_state, table_chunks, write_arrays
from atomreel.pipeline.survey import Plan
from atomreel.predict.domain import cell_grid
from atomreel.prepare.drift import aligned
from atomreel.track.slips import without_slips

JOINED = ("atoms", "lattice", "grains", "boundaries", "defects", "phases", "drift")


def assemble(plan: Plan, folder: RunFolder, chunks: int) -> list[str]:
    """Write every file but run.toml and the report. Returns what a reader must be told."""
    frames = len(plan.movie)
    there = [name for name in JOINED if (folder.chunk(0) / f"{name}.parquet").exists()]
    for name in there:
        join_table(folder, name, chunks)
    _write_phases(plan, folder)
    window: dict[str, Any] = {
        "window": plan.windows.side,
        "origin": list(plan.windows.origin),
        "step": list(plan.windows.step),
    }
    first, step = cell_grid(plan.columns.survey.zoom)
    grids = {
        "domain": {"origin": [first] * 2, "step": [step] * 2},
        "symmetry": {**window, "shear": plan.recipe.symmetry.shear},
        "grains": fine_grid(plan),
        "strain": {"origin": [0.5 * plan.strain_step] * 2, "step": [float(plan.strain_step)] * 2},
    }
    for name, attrs in grids.items():
        join_maps(folder, name, chunks, frames=frames, attrs={**attrs, "frames": list(range(frames))})
    write_preview(plan, folder)
    if plan.cell is not None:
        arrays = {"cell": plan.cell.mean, "cell_err": plan.cell.error, "count": plan.cell.count}
        write_arrays(folder.path / "cell.zarr", arrays, attrs={"vectors_px": plan.cell.vectors.tolist()})
    shown = _shown_atoms(plan, folder, chunks)
    measured = quality(plan, shown)
    write_json(folder.path / "quality.json", measured)
    notes = [*hole_notes(folder.path), *run_analyses(plan, folder, shown)]
    if frames > 1:
        notes += _mend_drift(folder, chunks)
        notes += motion(plan, folder)
        if plan.recipe.drift.measure and plan.recipe.drift.write_aligned:
            _write_aligned(plan, folder)
    return [*plan.movie.notices, *plan.warnings, *_frame_notices(folder, chunks, frames), *notes]


def _mend_drift(folder: RunFolder, chunks: int) -> list[str]:
    """drift.parquet without slips by a lattice vector, and a note on them."""
    file = folder.path / "drift.parquet"
    if not file.exists():
        return []
    columns = table_chunks(folder, "atoms", chunks)
    drift, slipped = without_slips(pd.read_parquet(file), columns)
    if not slipped:
        return []
    write_table(file, drift, kind="drift")
    told = ", ".join(str(frame) for frame in slipped[:8]) + (" and others" if len(slipped) > 8 else "")
    return [
        f"drift: the images alone would have it slip by a lattice vector in frame {told}; columns of other brightness say not"
    ]


def _write_phases(plan: Plan, folder: RunFolder) -> None:
    phases = pd.read_parquet(folder.path / "phases.parquet")
    if plan.movie.times is not None:
        phases.insert(1, "t_s", plan.movie.times)
    write_table(folder.path / "phases.parquet", phases, kind="phases")


def _shown_atoms(plan: Plan, folder: RunFolder, chunks: int) -> pd.DataFrame:
    """Columns of the preview frames: enough for histograms, and no more however long the movie is."""
    parts = [table[table.frame.isin(plan.preview)] for table in table_chunks(folder, "atoms", chunks)]
    return pd.concat(parts, ignore_index=True)


def _frame_notices(folder: RunFolder, chunks: int, frames: int) -> list[str]:
    """Notices of frames, each once, with the number of frames that it is about."""
    counts: dict[str, int] = {}
    for k in range(chunks):
        for text, count in read_state(folder, k)["notices"].items():
            counts[text] = counts.get(text, 0) + count
    return [
        text if count == frames else f"{text} ({count} of {frames} frames)" for text, count in counts.items()
    ]


def run_analyses(plan: Plan, folder: RunFolder, atoms: pd.DataFrame) -> list[str]:
    """Every registered analysis that needs no more than columns, on the preview frames: one table each."""
    given: dict[str, Any] = {"atoms": atoms, "pixel": plan.pixel, "shape": plan.movie.shape}
    notes = []
    settings = plan.recipe.analysis
    for name, entry in sorted(analyses().items()):
        if not set(entry.needs) <= set(given):
            continue
        try:
            table = entry.function(*(given[need] for need in entry.needs), **settings.get(name, {}))
        except AtomreelError as error:
            notes.append(f"{name}: not done ({error})")
            continue
        if len(table):
            write_table(folder.path / f"{entry.gives}.parquet", table, kind=entry.gives)
    return notes


def check_analyses(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UnknownNameError for an analysis or a key that does not exist: before the run, not after it."""
    for name, given in settings.items():
        entry = lookup("analysis", name, analyses())
        for key in given:
            lookup(f"key of [analysis.{name}]", key, entry.defaults())


def _write_aligned(plan: Plan, folder: RunFolder) -> None:
    """The drift-corrected movie, one frame at a time: float32 (T, Y, X)."""
    import zarr

    drift = pd.read_parquet(folder.path / "drift.parquet")
    movie = aligned(plan.movie.map(lambda data: clean_or_blank(data)[0]), drift)
    with atomic_folder(folder.path / "aligned.zarr") as part, progress("aligned", len(movie)) as done:
        group = zarr.open_group(part, mode="w", attributes=head("aligned"))
        stack = group.create_array(
            "movie", shape=(len(movie), *movie.shape), chunks=(1, *movie.shape), dtype="float32"
        )
        for i in range(len(movie)):
            stack[i] = np.asarray(movie[i].data)
            done(1)
