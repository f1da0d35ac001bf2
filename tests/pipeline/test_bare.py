"""A triangular two-site layer drawn by hand: places that no column ever filled become sites, those of holes stay unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from atomreel.interpret.lattice import LatticeFit, fit_lattices
from atomreel.pipeline.bare import in_holes, with_bare_sites
from atomreel.track.sites import Sites, find_sites

A, SIZE, FRAMES = 16.0, 200, 12
FAR = A / np.sqrt(3)


def layer() -> np.ndarray:
    """(N, 3) y, x of the field and 40 px around it, and brightness."""
    i, j = np.meshgrid(np.arange(-25, 25), np.arange(-25, 25), indexing="ij")
    first, second = A * np.array([0.1, 0.995]), A * np.array([0.5 * 0.1 - 0.862, 0.5 * 0.995 + 0.087])
    cells = i.reshape(-1, 1) * first + j.reshape(-1, 1) * second + 100
    where = np.concatenate([cells, cells + (first + second) / 3])
    light = np.repeat([60.0, 8.0], len(cells))
    kept = ((where > -40) & (where < SIZE + 40)).all(axis=1)
    return np.column_stack([where, light])[kept]


def movie(gone: np.ndarray, *, step: float = 1.0) -> tuple[Sites, LatticeFit]:
    """Twelve frames that drift by `step` px each, rows `gone` of the layer missing in all of them."""
    rng, every = np.random.default_rng(3), np.delete(layer(), gone, axis=0)
    parts = []
    for t in range(FRAMES):
        at = every[:, :2] + [0.3 * step * t, step * t] + rng.normal(0, 0.2, (len(every), 2))
        inside = ((at > 0) & (at < SIZE - 1)).all(axis=1)
        parts.append(
            pd.DataFrame({"frame": t, "y": at[inside, 0], "x": at[inside, 1], "intensity": every[inside, 2]})
        )
    atoms = pd.concat(parts, ignore_index=True).assign(score=1.0)
    sites = find_sites(atoms, shape=(SIZE, SIZE), frames=FRAMES)
    held = atoms.assign(site=sites.atoms["site"])
    light = held[held["site"] >= 0].groupby("site")["intensity"].median()
    table = sites.table.assign(intensity=light.reindex(sites.table["site"]).to_numpy(), score=1.0)
    return sites, fit_lattices(table, shape=(SIZE, SIZE))


def inner(number: int) -> np.ndarray:
    """Rows of sites well inside, the nearest to some places far from each other."""
    places = np.array([[60, 60], [140, 70], [70, 145], [100, 100], [150, 150]])[:number]
    where = layer()[:, :2]
    return np.array([int(np.hypot(*(where - p).T).argmin()) for p in places])


def test_a_vacancy_that_never_hops_is_a_site() -> None:
    """Three columns missing from the first frame to the last: three more sites, there, with their cells, empty in all frames."""
    gone = inner(3)
    sites, fit = movie(gone)
    more, told, bare = with_bare_sites(sites, fit, shape=(SIZE, SIZE))
    assert len(more.table) == len(sites.table) + 3 == len(more.found) == len(told.grain) and len(bare) == 0
    where = more.table[["y", "x"]].to_numpy()[-3:]
    true = layer()[gone, :2] + sites.reference * np.array([0.3, 1.0])
    off = np.linalg.norm(where[:, None] - true[None], axis=2).min(axis=1)
    assert off.max() < 0.5
    assert (more.found[-3:] == 0).all() and np.isnan(told.gap[-3:]).all()
    at = told.lattices[0].positions(told.cell[-3:], told.site[-3:])
    assert np.abs(at - where).max() < 1.0
    assert not in_holes(more, bare).any()
    whole, fit = movie(np.zeros(0, dtype=int))
    assert len(with_bare_sites(whole, fit, shape=(SIZE, SIZE))[0].table) == len(whole.table)


def test_a_hole_is_no_vacancies() -> None:
    """Eleven neighbouring columns missing: their places are bare and none of them is a site; a site of the rim hangs together with them."""
    where = layer()[:, :2]
    gone = np.argsort(np.hypot(*(where - 100).T))[:11]
    sites, fit = movie(gone)
    more, _, bare = with_bare_sites(sites, fit, shape=(SIZE, SIZE))
    assert len(more.table) == len(sites.table) and len(bare) == 11
    rim = int(np.hypot(*(more.table[["y", "x"]].to_numpy() - bare.mean(0)).T).argmin())
    empty = replace(more, found=more.found.copy())
    empty.found[rim, 4] = 0
    assert in_holes(empty, bare)[rim, 4] and in_holes(empty, bare).sum() == 1


def test_places_at_the_border_and_partly_filled_sites_are_not_taken_for_vacancies() -> None:
    """A place that drifts through the field's edge for a few frames is no site, nor is any where one of six is bare; of two lattices none is."""
    rows = np.flatnonzero(layer()[:, 2] == 8.0)
    some = np.random.default_rng(5).permutation(rows)[: len(rows) // 6]
    sites, fit = movie(some)
    more, _, _ = with_bare_sites(sites, fit, shape=(SIZE, SIZE))
    assert len(more.table) == len(sites.table)
    sites, fit = movie(inner(2))
    twice = replace(fit, lattices=fit.lattices * 2)
    more, _, bare = with_bare_sites(sites, twice, shape=(SIZE, SIZE))
    assert len(more.table) == len(sites.table) and len(bare) == 0


@pytest.mark.parametrize("frames", [3, 8])
def test_only_places_seen_often_become_sites(frames: int) -> None:
    """A vacancy that the drift brings into the field for the last frames only."""
    where = layer()[:, :2]
    enter = np.array([100.0, -2.0 * (FRAMES - frames) + FAR / 2 + 1.0])
    gone = np.array([int(np.hypot(*(where - enter).T).argmin())])
    sites, fit = movie(gone, step=2.0)
    more, _, _ = with_bare_sites(sites, fit, shape=(SIZE, SIZE))
    inside = np.sum(where[gone[0], 1] + 2.0 * np.arange(FRAMES) > 0.5 * sites.spacing)
    assert len(more.table) - len(sites.table) == (inside >= 5)
