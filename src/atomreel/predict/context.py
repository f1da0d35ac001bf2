"""Scores read a second time: a candidate that stands where the lattice around it goes on is more likely a column.

The network sees about ten spacings around a place and no further back than its own map; here the maxima speak to each
other. What they say is `interpret.repeats`; what it is worth was measured on simulated images (benchmarks/fit_context.py, which writes
context.json). docs/columns.md has the equations.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import expit, logit

from atomreel.interpret.nearest import mean_of_nearest
from atomreel.interpret.repeats import repeats

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int_]
WEIGHTS = Path(__file__).with_name("context.json")
LEAST = 0.03  # score under which a candidate is left as it is
SETTLED = 0.97  # score from which on one among its like is left as it is
AMONG = 6  # neighbours that are its like ...
LIKE = 0.95  # ... if their mean score is this
SAMPLE = 200  # settled ones of which it is looked up whether they repeat
TURNS = 2  # of reading again with the new scores
SURE = 2.0  # columns: number by which agreement over the image is shrunk towards none
OPENS, OPEN = (
    0.04,
    0.10,
)  # agreement of an image's sure columns, below and above which the lattice says nothing, all
RING, WITHIN, APART, GAP = 6, 1.5, 0.75, np.deg2rad(160)  # see `surrounded`
CLIP = (0.005, 0.9975)  # scores are taken to be no nearer to 0 and 1


def in_context(position: Array, score: Array, *, spacing: float) -> Array:
    """(N,) probability that each candidate (N, 2) [px] is a column, `score` (N,) being that without the others' help.

    spacing: typical distance of columns [px]. In an image whose sure columns stand in no lattice (single atoms on a support) scores stay as they are.
    """
    weights, now, parts = load_weights(), score, undecided(position, score)
    for _ in range(TURNS):
        now = read_again(position, score, now, spacing=spacing, weights=weights, parts=parts)
    return now


def read_again(
    position: Array,
    score: Array,
    now: Array,
    *,
    spacing: float,
    weights: Array,
    parts: tuple[Places, Places] | None = None,
) -> Array:
    """One turn: the scores (N,) by what candidates say of each other with their scores `now`. parts: as `undecided` gives."""
    which, terms = context_terms(position, score, now, spacing=spacing, parts=parts)
    if not terms.any():  # no lattice, or nothing undecided
        return score
    shift = terms @ weights
    inside = surrounded(position, now, which, spacing=spacing)
    shift[inside] = np.maximum(shift[inside], 0)
    told = expit(logit(np.clip(score[which], *CLIP)) + shift)
    out = score.copy()
    out[which] = np.where(inside, np.maximum(told, score[which]), told)
    return out


def surrounded(position: Array, now: Array, which: Places, *, spacing: float) -> npt.NDArray[np.bool_]:
    """(K,) whether likely columns (now > ½) stand on all sides of a candidate and none too near: inside a crystal a place may
    be one of a boundary or a defect, which need not repeat.

    That is: of those within WITHIN spacings none is within APART, and no two neighbours in angle are more than GAP apart.
    """
    likely = np.flatnonzero(now > 0.5)
    if len(likely) <= RING:
        return np.zeros(len(which), dtype=np.bool_)
    distance, index = cKDTree(position[likely]).query(position[which], k=RING + 1)
    other = likely[index] != which[:, None]
    near = other & (distance < WITHIN * spacing)
    away = position[likely[index]] - position[which, None]
    # those that are not near count as at the greatest angle of those that are
    angle = np.where(near, np.arctan2(away[..., 0], away[..., 1]), -np.pi)
    angle = np.sort(np.where(near, angle, angle.max(1, keepdims=True)), axis=1)
    around = np.concatenate([angle, angle[:, :1] + 2 * np.pi], axis=1)
    widest = np.where(near.sum(1) > 2, np.diff(around, axis=1).max(1), np.inf)
    crowded = (other & (distance < APART * spacing)).any(1)
    return np.asarray((widest < GAP) & ~crowded, dtype=np.bool_)


def context_terms(
    position: Array,
    score: Array,
    now: Array,
    *,
    spacing: float,
    parts: tuple[Places, Places] | None = None,
) -> tuple[Places, Array]:
    """Candidates (K,) that are not settled, and (K, 12) what is added to the log odds of each, once weighted.

    score: (N,) without help; now: (N,) by which candidates speak. With a and b of `repeats`, l the log odds of `score`,
    G = Σ h a / (SURE + Σ h) and U = Σ h (1 − a) / (SURE + Σ h) over the image, h = max(0, 2 · now − 1):
    1, a, b, a², l, l a, G, G a, G l, U, U a, U l, all times how far ρ = Σ h a / (1 + Σ h) is from OPENS to OPEN.
    """
    which, settled = parts or undecided(position, score)
    some = settled[:: max(1, -(-len(settled) // SAMPLE))]
    agreed = repeats(position, now, spacing=spacing, which=np.concatenate([which, some]))
    a, b = agreed[: len(which)].T
    sure, sure_settled = (np.maximum(2 * now[k] - 1, 0) for k in (which, settled))
    total = float(sure.sum() + sure_settled.sum())
    repeated = float(sure @ a)
    if len(some):
        repeated += float(sure_settled.sum() * agreed[len(which) :, 0].mean())
    whole, alone = repeated / (SURE + total), (total - repeated) / (SURE + total)
    gate = float(np.clip((repeated / (1 + total) - OPENS) / (OPEN - OPENS), 0, 1))
    log_odds = logit(np.clip(score[which], *CLIP))
    one = np.ones(len(which))
    own = np.stack([one, a, log_odds], 1)
    terms = [one, a, b, a * a, log_odds, log_odds * a]
    return which, gate * np.column_stack([*terms, whole * own, alone * own])


@lru_cache(maxsize=1)
def load_weights(path: Path = WEIGHTS) -> Array:
    return np.array(json.loads(path.read_text())["weights"], dtype=float)


def undecided(position: Array, score: Array) -> tuple[Places, Places]:
    """Candidates whose score may change; and those that are as sure as all around them."""
    sure = np.flatnonzero(score >= SETTLED)
    counted = np.flatnonzero(score >= LEAST)
    if len(sure) <= AMONG:
        return counted, np.zeros(0, dtype=np.int_)
    like = mean_of_nearest(position[sure], position[counted], score[counted], count=AMONG + 1)  # itself too
    settled = sure[like >= LIKE]
    return np.setdiff1d(counted, settled, assume_unique=True), settled
