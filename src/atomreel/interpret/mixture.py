"""Which members of a population are odd: posterior probabilities from robust z-scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]
ROUNDS = 60
LIMITS = ((3.0, 8.0), (8.0, np.inf))  # |z| between which members may start a population: near, and far
WIDEST = 40.0  # z range of the flat density of odd ones that form no population


def odd_ones(z: Array, *, prior: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(N,) probability of not belonging to the main population, and whether odd is the likelier side of z.

    The main population is normal (centre and width re-estimated); odd members are dimmer or brighter
    populations, normal too, found by expectation–maximisation, or single ones anywhere (flat density).
    prior: expected share of odd ones, worth 200 members of evidence (Beta prior), so that a clean
    population does not invent some.
    """
    z = np.asarray(z, dtype=float)
    if len(z) == 0:
        return np.zeros(0), np.zeros(0, dtype=bool)
    centre, width = 0.0, 1.0
    groups = [g for side in (-1, 1) for limits in LIMITS if (g := _start(side * z, side, limits))]
    share = np.full(len(groups) + 1, prior / (len(groups) + 1))
    flat = np.full(len(z), -np.log(2 * WIDEST))
    odd = np.zeros(len(z))
    for _ in range(ROUNDS):
        logs = [np.log(share[k]) + _normal(z, *group) for k, group in enumerate(groups)]
        logs.append(np.log(share[-1]) + flat)
        main = np.log1p(-share.sum()) + _normal(z, centre, width)
        total = np.logaddexp.reduce([main, *logs])
        weights = np.exp(np.array(logs) - total)
        new = 1 - np.exp(main - total)
        centre, width = _main(z, 1 - new)
        groups = [_update(z, w, side) for w, side in zip(weights, groups, strict=False)]
        strength = 200.0
        share = (weights.sum(1) + strength * prior / len(weights)) / (len(z) + strength)
        if np.max(np.abs(new - odd)) < 1e-6:
            break
        odd = new
    # A normal main population alone would call its own thin tail odd: the far side of it only.
    return new, np.abs(z - centre) > 1.5 * width


def _start(z: Array, side: int, limits: tuple[float, float]) -> tuple[float, float] | None:
    far = z[(z > limits[0]) & (z <= limits[1])]
    if len(far) < 3 + 4 * len(z) * ndtr(-limits[0]):  # more than the main population's own tail explains
        return None
    centre = float(np.median(far))
    return side * centre, max(1.0, 1.4826 * float(np.median(np.abs(far - centre))))


def _update(z: Array, weight: Array, group: tuple[float, float]) -> tuple[float, float]:
    """Mean and width, held by two members' worth of the former ones; not narrower than the main population."""
    total = weight.sum() + 2.0
    mean = ((weight * z).sum() + 2.0 * group[0]) / total
    variance = ((weight * (z - mean) ** 2).sum() + 2.0 * group[1] ** 2) / total
    return float(mean), float(np.sqrt(max(variance, 0.8)))


def _main(z: Array, weight: Array) -> tuple[float, float]:
    total = max(weight.sum(), 1e-9)
    mean = (weight * z).sum() / total
    return float(mean), float(np.sqrt(max((weight * (z - mean) ** 2).sum() / total, 0.05)))


def _normal(z: Array, mean: float, width: float) -> Array:
    return np.asarray(-0.5 * ((z - mean) / width) ** 2 - np.log(width * np.sqrt(2 * np.pi)))
