"""Whole frames: class, lattice, and what drift could have made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atomreel.core.errors import InputError, RecipeError
from atomreel.core.recipe import Recipe
from atomreel.interpret.distortion import SYMMETRIC, describe_reach, reachable
from atomreel.pipeline.source import Source
from atomreel.pipeline.windows import asked_side
from atomreel.predict.cells import lattice_row
from atomreel.predict.symmetry import CLASSES, ImageSymmetry, read_image
from atomreel.prepare.drift import measure_drift

SHOWN = 12  # rows whose verdicts are told one by one


def whole_symmetry(source: Source, recipe: Recipe) -> pd.DataFrame:
    """One row per frame: frame (its number in the file), p_<class>, std_<class> of the whole frame; class, the likeliest.

    Of the lattice that most windows share (`share`): a_px, b_px, gamma_deg, angle_deg, a_A, b_A, each with _err; shear_<class>
    with _err, the smallest distortion that leads there from the class (a simple shear s, x′ = x + s·y, or √(s² + e²) of a
    scan); `consistent`, the classes within symmetry.shear; `verdict`, the same in words. NaN and "" without a lattice.
    """
    rows = []
    known = scan_drift(source, recipe)
    for i, number in enumerate(source.frames):
        seen = read_frame(source, recipe, i)
        row: dict[str, Any] = {"frame": number}
        row |= {f"p_{name}": value for name, value in zip(CLASSES, seen.mean, strict=True)}
        row |= {f"std_{name}": value for name, value in zip(CLASSES, seen.std, strict=True)}
        row |= {"class": seen.name, **lattice_row(seen.lattice), "share": seen.share}
        rows.append(row | _distortion(seen, recipe, known[i] if known is not None else None))
    return pd.DataFrame(rows)


def read_frame(source: Source, recipe: Recipe, i: int) -> ImageSymmetry:
    """Class and lattice of frame i as a whole."""
    options = recipe.symmetry
    return read_image(
        source.clean(i)[0],
        window=asked_side(options, source.movie.pixel),
        pixel=source.movie.pixel,
        model=options.model,
        passes=options.passes,
        rng=np.random.default_rng([recipe.run.seed, source.frames[i]]),
    )


def _distortion(seen: ImageSymmetry, recipe: Recipe, known: ScanDrift | None) -> dict[str, Any]:
    """shear_<class> with _err, consistent, verdict."""
    none: dict[str, Any] = {f"shear_{name}{end}": np.nan for name in SYMMETRIC for end in ("", "_err")}
    if seen.lattice is None or seen.name == "noise":
        return none | {"consistent": "", "verdict": "no lattice"}
    options = recipe.symmetry
    drift = known or ScanDrift(0.0, 0.0, 0.0, 0.0)
    reaches = reachable(
        seen.lattice,
        bound=options.shear,
        scan=options.scan,
        drift=(drift.s, drift.e),
        drift_err=(drift.s_err, drift.e_err),
    )
    consistent = [reach.name for reach in reaches if reach.consistent]
    values = {f"shear_{r.name}{end}": v for r in reaches for end, v in (("", r.shear), ("_err", r.shear_err))}
    words = describe_reach(seen.name, reaches, bound=options.shear)
    if known is not None:
        words += (
            f"; drift of {100 * drift.s:.2g} % across and {100 * drift.e:.2g} % along the slow scan undone"
        )
    return values | {"consistent": " ".join([*consistent, "oblique"]), "verdict": words}


@dataclass(frozen=True)
class ScanDrift:
    """Drift within one frame as a distortion (see `interpret.distortion`), on the specimen: s, e and their errors."""

    s: float
    e: float
    s_err: float
    e_err: float


def scan_drift(source: Source, recipe: Recipe) -> tuple[ScanDrift, ...] | None:
    """Per frame the drift between the frames, as it acts while one frame is scanned line by line; None where not asked for.

    A frame is taken to last from one frame to the next. Raises RecipeError and InputError where that cannot be known.
    """
    options = recipe.symmetry
    if not options.drift:
        return None
    if options.scan == "any":
        raise RecipeError(
            "symmetry.drift needs the slow scan's axis: symmetry.scan = 'rows' (y) or 'columns' (x)"
        )
    if len(source.frames) < 2:
        raise InputError(f"{source.movie.name}: one frame shows no drift; leave symmetry.drift out")
    table = measure_drift(source.movie)
    frames = np.asarray(source.frames, dtype=float)
    lines = source.movie.shape[0 if options.scan == "rows" else 1]
    speed = {axis: np.gradient(table[f"d{axis}"].to_numpy(float), frames) / lines for axis in "yx"}
    error = {}
    for axis, values in speed.items():
        own = np.nan_to_num(table[f"d{axis}_err"].to_numpy(float))
        change = np.abs(np.gradient(values, frames)) / 2 if len(frames) > 2 else 0.0
        error[axis] = np.hypot(own / np.sqrt(2) / lines, change)
    across, along = ("x", "y") if options.scan == "rows" else ("y", "x")
    size = dict(zip("yx", source.movie.pixel or (1.0, 1.0), strict=True))
    longer = size[across] / size[along]
    columns = (longer * speed[across], speed[along], longer * error[across], error[along])
    return tuple(ScanDrift(*(float(v) for v in row)) for row in zip(*columns, strict=True))


def verdicts(path: Path) -> list[str]:
    """Lines for the screen: the verdict of each row of the table, or of many the number of frames of each class."""
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    if len(table) <= SHOWN:
        return [f"{row.file} frame {row.frame}: {row.verdict}" for row in table.itertuples()]
    counts = table["class"].value_counts()
    return [f"{len(table)} frames: " + ", ".join(f"{name} {count}" for name, count in counts.items())]
