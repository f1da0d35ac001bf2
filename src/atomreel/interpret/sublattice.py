"""Displacement of one sublattice against the other: the polar displacement of a ferroelectric, cell by cell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.core.registry import analysis
from atomreel.interpret.lattice import LatticeFit, fit_lattices

COLUMNS = ("y", "x", "dy_px", "dx_px", "dy_err_px", "dx_err_px", "grain")


def measure_displacements(
    atoms: pd.DataFrame, fit: LatticeFit, *, site: int = 1, frame_site: int = 0
) -> pd.DataFrame:
    """How far each column of motif `site` stands from the middle of the columns of `frame_site` around it.

    atoms: one frame, rows as given to fit_lattices. The middle is where the lattice of the nearest cells of
    frame_site, four in a square cell, puts the mean position of the site, so that the mean displacement over
    the crystal is zero for a motif at rest and a common shift of all columns (as in a fully poled crystal)
    shows only against the symmetric position: `dy_px, dx_px` are taken from the point of highest symmetry,
    the mean of the frame columns. Errors are 1σ from y_err, x_err of all columns that take part.
    Columns: y, x (of the column), dy_px, dx_px, dy_err_px, dx_err_px, grain.
    """
    rows = []
    for number, lattice in enumerate(fit.lattices):
        for wanted in (site, frame_site):
            if not 0 <= wanted < len(lattice.sites):
                raise InputError(
                    f"motif site {wanted}: grain {number} has sites 0 … {len(lattice.sites) - 1}"
                )
        rows.append(_grain(atoms, fit, number, (site, frame_site)))
    return (
        pd.concat(rows, ignore_index=True)
        if rows
        else pd.DataFrame({c: pd.Series(dtype=float) for c in COLUMNS})
    )


@analysis(needs=("atoms", "shape", "pixel"), gives="displacements")
def sublattice_displacements(
    atoms: pd.DataFrame,
    shape: tuple[int, int],
    pixel: tuple[float, float] | None = None,
    *,
    site: int = 1,
    frame_site: int = 0,
) -> pd.DataFrame:
    """Sublattice displacements of every frame whose lattice has at least two motif sites.

    shape: (Y, X). pixel: (dy, dx) [Å] or None; where known u_pm and u_err_pm [pm] are given. u_deg is the
    direction, counter-clockwise as seen on screen. Other columns as in measure_displacements, with frame.
    """
    parts = []
    for frame, table in atoms.groupby("frame"):
        table = table.reset_index(drop=True)
        fit = fit_lattices(table, shape=shape)
        if fit.lattices and all(len(lattice.sites) > max(site, frame_site) for lattice in fit.lattices):
            part = measure_displacements(table, fit, site=site, frame_site=frame_site)
            part.insert(0, "frame", frame)
            parts.append(part)
    if not parts:
        names = ["frame", *COLUMNS, "u_deg", *(["u_pm", "u_err_pm"] if pixel is not None else [])]
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})
    out = pd.concat(parts, ignore_index=True)
    out["u_deg"] = np.degrees(np.arctan2(-out["dy_px"], out["dx_px"]))
    if pixel is not None:
        dy, dx = out["dy_px"] * pixel[0] * 100, out["dx_px"] * pixel[1] * 100
        length = np.hypot(dy, dx)
        spread = np.hypot(dy * out["dy_err_px"] * pixel[0] * 100, dx * out["dx_err_px"] * pixel[1] * 100)
        out["u_pm"], out["u_err_pm"] = length, spread / np.maximum(length, 1e-12)
    return out


def _grain(atoms: pd.DataFrame, fit: LatticeFit, number: int, sites: tuple[int, int]) -> pd.DataFrame:
    lattice = fit.lattices[number]
    offsets, middle = _surroundings(lattice, *sites)
    here = fit.grain == number
    where = atoms[["y", "x"]].to_numpy(float)
    errors = (
        atoms[["y_err", "x_err"]].to_numpy(float)
        if {"y_err", "x_err"} <= set(atoms)
        else np.full_like(where, np.nan)
    )
    known = {tuple(fit.cell[i]): int(i) for i in np.flatnonzero(here & (fit.site == sites[1]))}
    rows = []
    for i in np.flatnonzero(here & (fit.site == sites[0])):
        around = np.array([known.get(tuple(fit.cell[i] + step), -1) for step in offsets])
        if around.min() < 0:
            continue
        shift = where[i] - where[around].mean(0) - middle
        spread = np.sqrt(errors[i] ** 2 + (errors[around] ** 2).sum(0) / len(around) ** 2)
        rows.append((*where[i], *shift, *spread, number))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _surroundings(lattice: Lattice, site: int, frame_site: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells (K, 2) of the nearest frame columns around a column of `site`, relative to its own cell, and
    what is left of the site's mean position against their middle where that is no symmetric surrounding."""
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    offsets = lattice.offsets()
    gap = steps @ lattice.vectors + offsets[frame_site] - offsets[site]
    length = np.hypot(gap[:, 0], gap[:, 1])
    chosen = length < 1.35 * length.min()
    middle = gap[chosen].mean(0)
    # Three or more neighbours on all sides: their middle is the rest position. Else the mean site is.
    rest = np.zeros(2) if np.hypot(*middle) < 0.35 * length.min() and chosen.sum() >= 3 else -middle
    return steps[chosen], rest
