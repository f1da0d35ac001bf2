"""Grains of a frame as tables, maps and numbers of a Run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.field import Field
from atomreel.core.image import FloatArray
from atomreel.interpret.grainarea import fine_step
from atomreel.interpret.grains import Grains, find_grains, lattice_vectors
from atomreel.interpret.shared import Shared, shared_distortion
from atomreel.pipeline.survey import Plan
from atomreel.predict.sheared import Imaging, within_shear


@dataclass(frozen=True)
class FrameGrains:
    """maps: of the windows, by name. area: (Gy, Gx) grain of each place on the finer grid. tables: grains, boundaries.
    numbers: what the frame has of them, for `phases`."""

    maps: Mapping[str, npt.NDArray[Any]]
    area: npt.NDArray[Any]
    tables: Mapping[str, pd.DataFrame]
    numbers: Mapping[str, float]


def frame_grains(plan: Plan, i: int, data: FloatArray, *, symmetry: Field) -> FrameGrains:
    """Grains of cleaned frame i, `data` (Y, X), from its symmetry map."""
    options = plan.recipe.symmetry
    found = find_grains(
        data, symmetry, window=plan.windows.side, pixel=plan.pixel, tolerance=options.grain_deg
    )
    imaging, shared = _imaging(plan, i), None
    if plan.drifts is None and plan.calibration is None and imaging.scan == "any":
        shared = _shared(found, symmetry, pixel=plan.pixel)
    if shared is not None:
        error = (shared.s_err, shared.e_err)
        imaging = replace(imaging, drift=(shared.s, shared.e), drift_err=error)
    maps = {
        "grain": found.labels.astype(np.float32),
        "lattice_change_deg": found.change.astype(np.float32),
        "within_shear": within_shear(symmetry, bound=options.shear, imaging=imaging),
    }
    told = {f"image_{key}": getattr(shared, key, np.nan) for key in ("s", "s_err", "e", "e_err")}
    tables = {"grains": found.table.assign(**told), "boundaries": found.boundaries}
    return FrameGrains(maps, found.area.maps["grain"], tables, mean_sizes(found))


def _shared(found: Grains, symmetry: Field, *, pixel: tuple[float, float] | None) -> Shared | None:
    """The distortion of the image that the grains of a frame agree upon."""
    vectors = lattice_vectors(symmetry)[0] * (1.0 if pixel is None else np.asarray(pixel))
    return shared_distortion(vectors.reshape(-1, 2, 2), found.labels.ravel())


def _imaging(plan: Plan, i: int) -> Imaging:
    """What is known of the distortion of frame i: the drift measured in it, or else the shear that the material tells."""
    known = Imaging(pixel=plan.pixel, scan=plan.recipe.symmetry.scan)
    if plan.drifts is not None:
        drift = plan.drifts[i]
        return replace(known, drift=(drift.s, drift.e), drift_err=(drift.s_err, drift.e_err))
    if plan.calibration is None or known.scan == "columns":
        return known
    ratio = plan.calibration.pixel[1] / plan.calibration.pixel[0]  # its shear is in px
    shear, error = ratio * plan.calibration.shear, ratio * plan.calibration.shear_err
    return replace(known, drift=(shear, 0.0), drift_err=(error, 0.0))


def mean_sizes(found: Grains) -> dict[str, float]:
    """Number of grains and their mean area, with the error of the measured areas; NaN without grains."""
    table = found.table
    numbers: dict[str, float] = {"grains": float(len(table))}
    for unit in ("px2", "nm2"):
        if f"area_{unit}" in table or unit == "px2":
            areas, errors = table[f"area_{unit}"], table[f"area_{unit}_err"]
            count = max(len(table), 1)
            numbers[f"grain_area_{unit}"] = float(areas.mean())
            # what one grain loses at a boundary another gains, so this is an upper limit
            error = float(np.sqrt(np.square(errors).sum()) / count)
            numbers[f"grain_area_{unit}_err"] = error if len(table) else float("nan")
    return numbers


def fine_grid(plan: Plan) -> dict[str, list[float]]:
    """origin and step (y, x) [px] of the finer map."""
    step = float(fine_step(plan.windows.side))
    return {"origin": [(step - 1) / 2] * 2, "step": [step] * 2}
