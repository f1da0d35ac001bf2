"""Defects that several methods found in the same frames: one table, a combined score, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import expit, logit

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table

Floats = npt.NDArray[np.float64]
SILENT = 0.05  # probability that a method which lists nothing at a place is taken to give it
UNNAMED = ("brighter", "dimmer")  # kinds that name no defect: they agree with any name and give way to it
SUREST = 1e-4  # probabilities are taken to be no nearer to 0 and 1


def combine_sources(tables: Mapping[str, pd.DataFrame], *, reach: float) -> pd.DataFrame:
    """One row per place where any method found a defect.

    tables: name of the method → its table of defects. reach: how far two methods may differ about a place [px], half the
    distance of neighbouring sites, say. In every frame each method's defects are joined one to one with those of the methods before, the nearest first.

    Result: a table of defects in which y, x are weighted means, `kind` is that of the method whose score is highest (of those that
    give a name, not just UNNAMED), `source` lists the
    methods with "+", and `score` is the logarithmic pool of theirs: the mean of the log odds, that of a method which lists nothing there being
    that of SILENT. The methods saw the same pixels: multiplying their odds would count one piece of evidence several times, while their mean
    is never surer than the surest (M. Stone, Ann. Math. Stat. 32 (1961) 1339). `score_NAME` and `kind_NAME` are what each
    said (NaN and "" where it is silent); `agree` is true where no method is silent and none names another kind. Rows are sorted by frame, y, x.
    Raises InputError for no table, a reach that is no length, or missing columns.
    """
    if not tables:
        raise InputError("combine_sources: no table of defects was given")
    if not (np.isfinite(reach) and reach > 0):
        raise InputError(f"reach is {reach}: expected a length in pixels above 0")
    checked = {name: check_table(table, "defects") for name, table in tables.items()}
    frames = sorted(set().union(*(set(table.frame) for table in checked.values())))
    found = [
        _combined({name: t[t.frame == frame] for name, t in checked.items()}, reach=reach) for frame in frames
    ]
    if not found:
        found = [_combined(checked, reach=reach)]
    whole = pd.concat(found, ignore_index=True)
    return check_table(whole, "defects").sort_values(["frame", "y", "x"], kind="stable", ignore_index=True)


def _combined(tables: Mapping[str, pd.DataFrame], *, reach: float) -> pd.DataFrame:
    """The defects of one frame."""
    place = np.zeros((0, 2))
    members: dict[
        str, npt.NDArray[np.int64]
    ] = {}  # row of each method's table at each place, −1 where silent
    for name, table in tables.items():
        here = table[["y", "x"]].to_numpy(float)
        new, old = _matched(place, here, reach)
        fresh = np.setdiff1d(np.arange(len(here)), new)
        row = np.full(len(place) + len(fresh), -1)
        row[old], row[len(place) :] = new, fresh
        members = {k: np.append(v, np.full(len(fresh), -1)) for k, v in members.items()} | {name: row}
        place = np.concatenate([place, here[fresh]])
    rows = {  # of each method, one per place, NaN where it is silent
        name: table.reset_index(drop=True).reindex(row).reset_index(drop=True)
        for (name, table), row in zip(tables.items(), members.values(), strict=True)
    }
    heard = np.array([row >= 0 for row in members.values()])
    return _pooled(rows, heard)


def _pooled(rows: Mapping[str, pd.DataFrame], heard: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """rows: of each method, one per place. heard: (methods, places)."""
    scores = np.array(
        [np.where(here, table.score, np.nan) for table, here in zip(rows.values(), heard, strict=True)]
    )
    kinds = np.array(
        [np.where(here, table.kind, "") for table, here in zip(rows.values(), heard, strict=True)],
        dtype=object,
    )
    odds = logit(np.clip(np.where(heard, scores, SILENT), SUREST, 1 - SUREST))
    named = heard & ~np.isin(kinds, UNNAMED)
    surest = np.where(heard, scores + 2.0 * named, -1).argmax(axis=0)
    at = np.arange(heard.shape[1])
    kind = kinds[surest, at]
    where = {
        axis: _weighted(
            np.array([table[axis] for table in rows.values()]),
            np.array([table[f"{axis}_err"] for table in rows.values()]),
            heard,
        )
        for axis in ("y", "x")
    }
    frame = np.array([table.frame for table in rows.values()])
    names = np.array(list(rows), dtype=object)
    table = pd.DataFrame(
        {
            "frame": frame[heard.argmax(axis=0), at],
            "y": where["y"][0],
            "x": where["x"][0],
            "y_err": where["y"][1],
            "x_err": where["x"][1],
            "kind": kind,
            "score": expit(odds.mean(axis=0)),
            "source": ["+".join(names[here]) for here in heard.T],
            "agree": heard.all(axis=0) & ((kinds == kind) | ~named).all(axis=0),
        }
    )
    said = {f"score_{name}": score for name, score in zip(rows, scores, strict=True)}
    said |= {f"kind_{name}": one for name, one in zip(rows, kinds, strict=True)}
    return table.assign(**said)


def _matched(
    place: Floats, here: Floats, reach: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of `here` and of `place` that belong together, one to one, the nearest first."""
    near = cKDTree(here).sparse_distance_matrix(cKDTree(place), reach, output_type="ndarray")
    near.sort(order=["v", "i", "j"])
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for i, j in zip(near["i"].tolist(), near["j"].tolist(), strict=True):
        if i not in taken[0] and j not in taken[1]:
            pairs.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    new, old = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return new, old


def _weighted(values: Floats, errors: Floats, heard: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean of what was heard, by its errors, and the least of those: the same pixels twice are no better than once."""
    errors = np.where(heard, errors, np.inf)
    known = np.where(np.isfinite(errors) & (errors > 0), errors, np.inf)
    weight = np.where(heard, np.where(np.isfinite(known), known, 1e9) ** -2.0, 0.0)
    least = known.min(axis=0)
    return (weight * np.where(heard, values, 0)).sum(axis=0) / weight.sum(axis=0), np.where(
        np.isfinite(least), least, np.nan
    )
