"""Dopants whose neighbours may lack an atom: one thing with a state, none missing or which, followed over a movie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.material import Material
from atomreel.interpret.levels import DARK, Levels
from atomreel.kinetics.hidden import Hidden, fit_hidden
from atomreel.track.link import link
from atomreel.track.sites import Sites

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SURE = 0.5  # probability from which on an occupant is listed
BOND = 1.3  # times the nearest distance between sublattices: how far neighbours reach
ONE_HOP = 1.1  # times the distance of sites of a kind: how far a dopant moves between two frames


@dataclass(frozen=True, eq=False)
class Sublattice:
    """rows: (n,) sites. levels: of their occupants. probability: (n, T, K) of each, all frames considered. seen: (n, T)."""

    grain: int
    name: str
    rows: Ints
    levels: Levels
    probability: Array
    seen: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Complex:
    """A dopant and its neighbours. dopant, vacancy: kinds. rows: one per dopant and frame: track, frame, site, state and its
    probability p. slots: (S, k) neighbouring sites in the order of their direction, −1 for none. hidden, tied: rates between states, each on its own
    and with those of equal neighbours as one."""

    dopant: str
    vacancy: str
    rows: pd.DataFrame
    slots: Ints
    hidden: Hidden
    tied: Hidden


def find_complexes(
    sites: Sites,
    layers: list[Sublattice],
    material: Material,
    *,
    times: Array | None,
    draws: int,
    rng: int,
) -> list[Complex]:
    """Dopants whose neighbours may each lack one atom, with their states over time and the rates between them."""
    found = []
    missing = {d.name for d in material.defects if d.action == "remove" and d.atoms == 1}
    added = [d.name for d in material.defects if d.action == "replace"]
    for layer in layers:
        for dopant in (kind for kind in layer.levels.names if kind in added):
            for partner in layers:
                vacancy = next(
                    (k for k in partner.levels.names if k in missing and _visible(partner, k)), None
                )
                if vacancy is None or partner.grain != layer.grain or partner is layer:
                    continue
                slots = _slots(sites, layer.rows, partner.rows)
                rows = _dopants(sites, layer, dopant)
                if rows.loc[(slots[rows["site"]] >= 0).all(axis=1), "frame"].nunique() > 1:
                    found.append(_complex(rows, slots, (dopant, partner, vacancy), (times, draws, rng)))
    return found


def _visible(layer: Sublattice, kind: str) -> bool:
    return bool(layer.levels.ratio[layer.levels.names.index(kind)] > DARK)


def _dopants(sites: Sites, layer: Sublattice, kind: str) -> pd.DataFrame:
    """track, frame, site and score of every dopant; tracks hop between sites of the sublattice."""
    chance = layer.probability[:, :, layer.levels.names.index(kind)]
    site, frame = np.nonzero(chance >= SURE)
    where = sites.table[["y", "x"]].to_numpy()[layer.rows[site]]
    table = pd.DataFrame({"frame": frame, "y": where[:, 0], "x": where[:, 1], "site": layer.rows[site]})
    table = table.assign(kind=kind, score=chance[site, frame])
    if not len(table):
        return table.assign(track=pd.Series(dtype="int64"), link=pd.Series(dtype=float))
    return link(table, max_step=ONE_HOP * apart(sites, layer.rows))


def apart(sites: Sites, rows: Ints) -> float:
    """Median distance of neighbouring sites among `rows` [px]."""
    where = sites.table[["y", "x"]].to_numpy()[rows]
    return float(np.median(cKDTree(where).query(where, k=2)[0][:, 1]))


def _complex(
    rows: pd.DataFrame,
    slots: Ints,
    what: tuple[str, Sublattice, str],
    sampling: tuple[Array | None, int, int],
) -> Complex:
    """One that the rim of the field robs of a neighbour keeps state 0 and no part in the rates: it could hide there."""
    dopant, partner, vacancy = what
    times, draws, rng = sampling
    place = np.full(len(slots), -1, dtype=np.int64)
    place[partner.rows] = np.arange(len(partner.rows))
    whole, less = partner.levels.names.index(partner.name), partner.levels.names.index(vacancy)
    full = (slots[rows["site"]] >= 0).all(axis=1)
    own = rows[full]
    log = partner.levels.log[place[slots[own["site"]]], own["frame"].to_numpy()[:, None]]
    likelihood = np.concatenate([np.zeros((len(own), 1)), log[:, :, less] - log[:, :, whole]], axis=1)
    names = (dopant, *(f"{dopant}+{vacancy}:{j + 1}" for j in range(slots.shape[1])))
    free, tied = (
        fit_hidden(own, likelihood, states=names, groups=groups, times=times, draws=draws, rng=rng)
        for groups in (None, _alike(len(names)))
    )
    state, p = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows))
    state[full], p[full] = tied.probability.argmax(1), tied.probability.max(1)
    return Complex(dopant, vacancy, rows.assign(state=state, p=p), slots, free, tied)


def _alike(n: int) -> Ints:
    """Groups of equal rates: to any neighbour 1, back 2, between neighbours 3."""
    groups = np.full((n, n), 3)
    groups[0], groups[:, 0] = 1, 2
    return groups


def _slots(sites: Sites, hosts: Ints, partners: Ints) -> Ints:
    """(S, k) partner sites next to each host, in the order of their directions, which all hosts share; −1 where there is none."""
    where = sites.table[["y", "x"]].to_numpy()
    tree = cKDTree(where[partners])
    reach = BOND * float(np.median(tree.query(where[hosts])[0]))
    near = tree.query_ball_point(where[hosts], reach)
    angles = [
        np.sort(np.arctan2(*(where[partners[n]] - where[h]).T)) for h, n in zip(hosts, near, strict=True)
    ]
    k = int(np.median([len(a) for a in angles]))
    full = np.array([a for a in angles if len(a) == k])
    middle = np.array([np.angle(np.exp(1j * full[:, j]).mean()) for j in range(k)])
    out = np.full((len(where), k), -1, dtype=np.int64)
    for host, members in zip(hosts, near, strict=True):
        for m in partners[members]:
            turn = np.arctan2(*(where[m] - where[host])) - middle
            out[host, int(np.argmax(np.cos(turn)))] = m
    return out
