"""Places of the lattice at which no column ever stood: holes that were there from the start, and vacancies that never hop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.interpret.defects import COMMON, HOLE, NEIGHBOURS, group_sizes, site_positions
from atomreel.interpret.lattice import LatticeFit
from atomreel.track.sites import BORDER, Sites

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
OFF = 0.5  # of the spacing: a place further than this from every site is not one of them
LEAST = 0.1  # of the frames (and at least FRAMES) must have a place in their field
FRAMES = 5
SPREAD = 0.05  # of the spacing: 1σ of the place of a site without a column


def with_bare_sites(
    sites: Sites, fit: LatticeFit, *, shape: tuple[int, int]
) -> tuple[Sites, LatticeFit, Array]:
    """The sites with those added at which no column ever stood, the fit with their cells, and (M, 2) the bare places of holes.

    fit: of `sites.table`. Sites are the places of columns, so a vacancy that stands where it stood is none of them. Fewer than four bare
    places that hang together become sites, with `found` 0 wherever they lie in the field; more are a hole, and beside a place that
    was never in the field the layer may end. Where a tenth of the places of a motif site are bare, that site is partly filled or the cell is
    wrong, and none becomes a site. With several lattices nothing is bare: one of them would go on through the others.
    """
    place, cell, motif = _bare(sites, fit, shape)
    inside = _inside(sites, place, shape)
    looked = inside.any(axis=1)
    if not looked.any():
        return sites, fit, place[looked]
    reach = NEIGHBOURS * sites.spacing
    beside = cKDTree(place[~looked]).query(place[looked])[0] if not looked.all() else np.inf
    place, cell, motif, inside = place[looked], cell[looked], motif[looked], inside[looked]
    lone = (group_sizes(place, reach) < HOLE) & (beside > reach)
    usual = np.bincount(fit.site[fit.grain == 0], minlength=len(fit.lattices[0].sites))
    many = np.bincount(motif[lone], minlength=len(usual)) > COMMON * usual
    known = np.isfinite(sites.found).any(axis=0)
    count = (inside & known).sum(axis=1)
    new = lone & ~many[motif] & (count >= max(FRAMES, LEAST * known.sum()))
    found = np.where(inside[new] & known, 0.0, np.nan)
    size, error = len(sites.table), SPREAD * sites.spacing
    extra = pd.DataFrame(
        {
            "site": size + np.arange(int(new.sum())),
            **{name: place[new, k] for k, name in enumerate("yx")},
            **{f"{name}_err": error for name in "yx"},
            "present": 0,
            "frames": count[new],
            "neighbours": 0,
            "surface": False,
            "edge": False,
        }
    )
    whole = (
        pd.concat([sites.table, extra[list(sites.table)]], ignore_index=True) if len(extra) else sites.table
    )
    told = replace(
        fit,
        grain=np.r_[fit.grain, np.zeros(len(extra), dtype=fit.grain.dtype)],
        cell=np.concatenate([fit.cell, cell[new].astype(fit.cell.dtype)]),
        site=np.r_[fit.site, motif[new].astype(fit.site.dtype)],
        gap=np.concatenate([fit.gap, np.full((len(extra), 2), np.nan)]),
    )
    return replace(sites, table=whole, found=np.concatenate([sites.found, found])), told, place[~new]


def in_holes(sites: Sites, bare: Array) -> Bools:
    """(S, T) empty sites that hang together with three others, `bare` ones among them: a hole, where nothing is judged."""
    where = sites.table[["y", "x"]].to_numpy()
    out = sites.found == 0
    for empty in out.T:
        size = group_sizes(np.concatenate([where[empty], bare]), NEIGHBOURS * sites.spacing)
        empty[empty] = size[: empty.sum()] >= HOLE
    return np.asarray(out)


def _bare(
    sites: Sites, fit: LatticeFit, shape: tuple[int, int]
) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(M, 2) places within the field's reach at which no column ever stood, moved as the columns nearby are; cells and motif sites."""
    if len(fit.lattices) != 1:
        return np.zeros((0, 2)), np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
    lattice, own = fit.lattices[0], np.flatnonzero(fit.grain == 0)
    points = sites.table[["y", "x"]].to_numpy(float)
    far = float(np.abs(sites.motion[["dy", "dx"]].to_numpy()).max()) + sites.spacing
    cell, motif = lattice.inside(shape, margin=-far)
    place = site_positions(points[own], lattice, at=(fit.cell[own], fit.site[own]), wanted=(cell, motif))
    bare = cKDTree(points).query(place)[0] > OFF * sites.spacing
    return place[bare], cell[bare], motif[bare]


def _inside(sites: Sites, place: Array, shape: tuple[int, int]) -> Bools:
    """(M, T) whether each place lies in the field of each frame, half a spacing from its border."""
    table = sites.table.iloc[:0].reindex(range(len(place))).assign(y=place[:, 0], x=place[:, 1])
    there = replace(sites, table=table)
    margin = BORDER * sites.spacing
    at = np.stack([there.at(t) for t in range(len(sites.motion))], axis=1)
    return np.asarray(((at >= margin) & (at <= np.array(shape) - 1 - margin)).all(axis=2))
