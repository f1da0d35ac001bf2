"""What is done with one frame, and with a chunk of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.field import Field
from atomreel.core.image import FloatArray
from atomreel.interpret.defects import find_defects
from atomreel.interpret.holes import hole_fraction
from atomreel.interpret.lattice import LatticeFit, fit_lattices
from atomreel.interpret.openings import find_openings
from atomreel.interpret.strain import map_strain
from atomreel.interpret.sublattices import label_by_place, measured
from atomreel.kinetics.phases import class_fractions
from atomreel.pipeline.grains import frame_grains
from atomreel.pipeline.survey import BLOCK, ColumnPlan, Plan
from atomreel.predict.columns import Found, find_columns
from atomreel.predict.symmetry import CLASSES, map_symmetry


@dataclass(frozen=True)
class FrameResult:
    """tables: rows of this frame. maps: "symmetry/p_square" → (Gy, Gx). notices: what was mended or guessed."""

    tables: dict[str, pd.DataFrame]
    maps: dict[str, npt.NDArray[Any]]
    residual: FloatArray | None
    notices: tuple[str, ...]


def analyse_frame(plan: Plan, i: int, data: FloatArray) -> FrameResult:
    """Columns, lattices, strain, defects and symmetry of cleaned frame `data` (Y, X)."""
    found = find_atoms(plan.columns, data)
    atoms = judged = found.table
    notices = tuple(text for text in found.warnings if text not in plan.columns.survey.warnings)
    if is_large(data.shape):
        judged = atoms[_central(atoms, data.shape)]
        notices = (
            *notices,
            "very large frame: lattice, strain, defects and holes are those of its central block",
        )
    recipe = plan.recipe
    fit = fit_lattices(judged, shape=data.shape, max_grains=recipe.lattice.max_grains, pixel=plan.pixel)
    grain = pd.Series(fit.grain, index=judged.index).reindex(atoms.index, fill_value=-1)
    defects = find_defects(
        judged.reset_index(drop=True).assign(frame=i),
        fit,
        shape=data.shape,
        material=plan.material,
        images={i: data},
        bright=plan.columns.survey.bright,
        threshold=recipe.defects.score,
    )
    symmetry = frame_symmetry(plan, i, data)
    grains = frame_grains(plan, i, data, symmetry=symmetry)
    maps = {f"symmetry/{name}": values for name, values in {**symmetry.maps, **grains.maps}.items()}
    maps["grains/grain"] = grains.area
    strain = _strain(plan, judged, fit, data.shape)
    maps |= {f"domain/{name}": values for name, values in found.known.maps.items()}
    maps |= {f"strain/{name}": values for name, values in strain.maps.items()} if strain is not None else {}
    tables = {
        "atoms": _numbered(atoms.assign(grain=grain), i),
        "lattice": _numbered(fit.rows, i),
        "defects": _numbered(defects, i),
        "phases": _numbered(_phases(plan, data, symmetry, holes=_holes(plan, data, judged, fit=fit)), i),
        **{name: _numbered(table, i) for name, table in grains.tables.items()},
    }
    tables["phases"] = tables["phases"].assign(**grains.numbers)
    return FrameResult(tables, maps, found.residual, notices)


def frame_symmetry(plan: Plan, i: int, data: FloatArray) -> Field:
    """Class probabilities of the windows of frame i."""
    options = plan.recipe.symmetry
    return map_symmetry(
        data,
        window=plan.windows.side,
        step=plan.windows.step,
        flush=plan.windows.flush,
        pixel=plan.pixel,
        model=options.model,
        passes=options.passes,
        rng=np.random.default_rng([plan.recipe.run.seed, i]),
    )


def is_large(shape: tuple[int, int]) -> bool:
    return max(shape) > 2 * BLOCK


def _central(atoms: pd.DataFrame, shape: tuple[int, int]) -> pd.Series:
    """Rows within the central block."""
    near_y = (atoms.y - shape[0] / 2).abs() <= BLOCK / 2
    return near_y & ((atoms.x - shape[1] / 2).abs() <= BLOCK / 2)


def central_part(atoms: pd.DataFrame, shape: tuple[int, int]) -> tuple[tuple[int, int], pd.DataFrame]:
    """Of a very large frame the shape of the central block, and its rows in its own pixels; of others everything."""
    if not is_large(shape):
        return shape, atoms
    block = (min(BLOCK, shape[0]), min(BLOCK, shape[1]))
    top, left = ((whole - part) // 2 for whole, part in zip(shape, block, strict=True))
    near = atoms[_central(atoms, shape)]
    return block, near.assign(y=near.y - top, x=near.x - left)


def _strain(plan: Plan, atoms: pd.DataFrame, fit: LatticeFit, shape: tuple[int, int]) -> Field | None:
    """Against the frame's own main lattice; NaN everywhere when the frame has none, so that maps stay aligned."""
    if not plan.recipe.lattice.strain or plan.reference is None:
        return None
    lattice = fit.lattices[0] if fit.lattices else plan.reference
    own = atoms[fit.grain == 0] if fit.lattices else atoms.iloc[:0]
    return map_strain(own, lattice, shape=shape, step=plan.strain_step)


def _phases(plan: Plan, data: FloatArray, symmetry: Field, *, holes: dict[str, float]) -> pd.DataFrame:
    """One row: class fractions of the map, and the share of the field that is hole."""
    mean, deviation = (
        {name: symmetry.maps[f"{kind}_{name}"] for name in CLASSES if f"{kind}_{name}" in symmetry.maps}
        for kind in ("p", "std")
    )
    deviations = deviation if plan.recipe.symmetry.passes else None
    row = class_fractions(mean, window=plan.windows.side, step=plan.windows.step, deviations=deviations)
    return pd.DataFrame([{**row, **holes}])


def _holes(plan: Plan, data: FloatArray, atoms: pd.DataFrame, *, fit: LatticeFit) -> dict[str, float]:
    """Holes by missing columns and by brightness, each with its error, and by how much they disagree."""
    survey = plan.columns.survey
    shape, near = central_part(atoms, data.shape)
    top, left = ((whole - part) // 2 for whole, part in zip(data.shape, shape, strict=True))
    block = data[top : top + shape[0], left : left + shape[1]]
    rows = atoms.reset_index(drop=True)
    openings = find_openings(rows, fit, shape=shape, origin=(top, left))
    hole = hole_fraction(
        block, bright=survey.bright, atoms=near, spacing_px=survey.spacing_px, openings=openings
    )
    return {
        "hole_fraction": hole.columns,
        "hole_fraction_err": hole.columns_err,
        "hole_fraction_intensity": hole.intensity,
        "hole_fraction_intensity_err": hole.intensity_err,
        "hole_disagreement": hole.disagreement,
        "hole_disagreement_err": hole.disagreement_err,
        "vacancy_fraction": hole.vacancies,
        "site_fraction": float("nan") if openings is None else openings.unit,
    }


def _numbered(table: pd.DataFrame, i: int) -> pd.DataFrame:
    return table.assign(frame=i)[["frame", *(c for c in table.columns if c != "frame")]]


def find_atoms(plan: ColumnPlan, data: FloatArray) -> Found:
    """Columns of one cleaned frame, within the mask, with species that mean the same in all frames."""
    options = plan.recipe.columns
    found = find_columns(
        data,
        survey=plan.survey,
        threshold=options.threshold,
        precision=options.precision,
        refine=options.refine,
        max_species=1,
        decoder=options.decoder,
        backend=plan.recipe.compute.backend,
    )
    atoms = found.table
    if plan.source.mask is not None and len(atoms):
        at = np.rint(atoms[["y", "x"]].to_numpy()).astype(int).clip(0, np.array(data.shape) - 1)
        atoms = atoms[plan.source.mask[at[:, 0], at[:, 1]]].reset_index(drop=True)
    if plan.species is not None and "intensity" in atoms:
        atoms = atoms.assign(species=label_by_place(measured(atoms), plan.species).labels)
    return replace(found, table=atoms)
