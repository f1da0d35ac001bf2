"""Which atoms an fcc particle can have: zone axis, lattice and order of layers from the positions of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
FEWEST = 6  # columns that a lattice is found in
ORDERED = 0.6  # least share of columns in phase with the lattice
STRAY = 0.7  # Å: columns farther from their site are no part of it
NEIGHBOUR = 1.3  # times the shortest distance: so near are neighbours


@dataclass(frozen=True)
class Zone:
    """Projection of an fcc crystal, lengths / lattice constant. basis: (2, 2) rows y, x. Site (i, j) has atoms on the
    planes that leave the remainder `order` · (i, j) mod `layers`; planes are `step` apart."""

    basis: Array
    order: tuple[int, int]
    layers: int
    step: float


ZONES: Mapping[str, Zone] = {
    "110": Zone(np.array([[0.5, 0.125**0.5], [0.5, -(0.125**0.5)]]), (1, 1), 2, 0.125**0.5),
    "100": Zone(np.array([[0.5, 0.0], [0.0, 0.5]]), (1, 1), 2, 0.5),
    "111": Zone(6**-0.5 * np.array([[1.0, 0.0], [-0.5, 0.75**0.5]]), (1, 1), 3, 3**-0.5),
}


@dataclass(frozen=True)
class Stack:
    """zone: its name. member: (N,) columns that lie on the lattice, one per site. site: (N, 2) of all columns, in rows of
    `basis` (2, 2) [Å] from `origin` (2,) [Å]. score: share of columns in phase with the lattice."""

    zone: str
    member: npt.NDArray[np.bool_]
    site: Index
    basis: Array
    origin: Array
    score: float

    def layer(self, site: Index) -> Index:
        """Remainder of the planes on which sites (M, 2) have atoms."""
        known = ZONES[self.zone]
        return np.asarray(site @ np.array(known.order) % known.layers)

    def place(self, site: Index) -> Array:
        """(M, 2) position [Å]."""
        return np.asarray(self.origin + site @ self.basis)


def find_stack(positions: npt.ArrayLike, constant: float) -> Stack | None:
    """Zone axis and lattice of columns (N, 2) [Å], y down; None where they lie on none of ⟨110⟩, ⟨100⟩, ⟨111⟩.

    constant: the crystal's lattice constant [Å], right to about 2 %. The sense of the three layers of ⟨111⟩ cannot be
    told from positions: the mirrored one is as likely.
    """
    at = np.asarray(positions, dtype=float).reshape(-1, 2)
    if len(at) < FEWEST:
        return None
    best = (0.0, "", 0.0)
    for name, zone in ZONES.items():
        for angle in np.deg2rad(np.arange(0, 180, 0.5)):
            best = max(best, (_phase(at, _turned(zone.basis * constant, angle)), name, float(angle)))
    score, name, angle = best
    if score < ORDERED:
        return None
    basis, origin = _turned(ZONES[name].basis * constant, angle), np.zeros(2)
    phase = np.exp(2j * np.pi * at @ np.linalg.inv(basis)).mean(0)
    origin = np.angle(phase) / (2 * np.pi) @ basis
    for _ in range(4):
        site = np.rint((at - origin) @ np.linalg.inv(basis)).astype(np.int64)
        near = np.hypot(*(at - origin - site @ basis).T) < STRAY
        if near.sum() < FEWEST or np.linalg.matrix_rank(site[near] - site[near][0]) < 2:
            return None
        solved = np.linalg.lstsq(np.column_stack([site, np.ones(len(at))])[near], at[near], rcond=None)[0]
        basis, origin = solved[:2], solved[2]
    off = np.hypot(*(at - origin - site @ basis).T)
    first = {tuple(site[i]): i for i in np.argsort(-off)}  # of several at one site the nearest
    member = np.zeros(len(at), dtype=bool)
    member[list(first.values())] = True
    return Stack(name, member & (off < STRAY), site, basis, origin, score)


def empty_sites(stack: Stack, *, neighbours: int = 2) -> Index:
    """(M, 2) sites without a column that have at least so many neighbours with one."""
    steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    length = np.hypot(*(steps @ ZONES[stack.zone].basis).T)
    steps = steps[length < NEIGHBOUR * length.min()]
    full = {tuple(s) for s in stack.site[stack.member]}
    around, times = np.unique(
        (stack.site[stack.member][:, None] + steps).reshape(-1, 2), axis=0, return_counts=True
    )
    keep = (times >= neighbours) & np.array([tuple(s) not in full for s in around])
    return np.asarray(around[keep], dtype=np.int64)


def _turned(basis: Array, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(basis @ np.array([[c, s], [-s, c]]))


def _phase(at: Array, basis: Array) -> float:
    """How well positions lie on a lattice with any origin: the least of three mean phase factors."""
    inverse = np.linalg.inv(basis)
    turns = at @ np.column_stack([inverse, inverse.sum(1)])
    return float(np.abs(np.exp(2j * np.pi * turns).mean(0)).min())
