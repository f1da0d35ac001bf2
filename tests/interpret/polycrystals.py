"""Frames of several grains, made without the package: every atom is added by itself where its grain is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHAPES = {
    "hexagonal": (1.0, 60.0),
    "square": (1.0, 90.0),
    "rectangular": (1.3, 90.0),
    "centred": (1.0, 76.0),
    "oblique": (1.25, 77.0),
}
Region = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Crystals:
    """image: (S, S) counts. areas: of each grain [px²]. region: (N, 2) places (y, x) → grain, −1 for none."""

    image: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float64]
    region: Region


def nearest(points: npt.ArrayLike) -> Region:
    """Grain k is where point k is nearest: straight boundaries of known area."""
    centres = np.asarray(points, dtype=float)
    return lambda at: np.square(at[:, None] - centres).sum(-1).argmin(1)


def disc(middle: tuple[float, float], radius: float) -> Region:
    return lambda at: np.where(np.hypot(*(at - middle).T) < radius, 0, -1)


def basis(shape: tuple[float, float], *, a: float, turn: float) -> npt.NDArray[np.float64]:
    """Rows a and b as (y down, x); a points `turn` degrees counter-clockwise of x, b by γ more."""
    t = np.deg2rad([turn, turn + shape[1]])
    return a * np.array([[1.0], [shape[0]]]) * np.stack([-np.sin(t), np.cos(t)], 1)


def grow(
    rng: np.random.Generator,
    *,
    turns: Sequence[float],
    region: Region,
    shape: str = "hexagonal",
    a: float = 8.0,
    size: int = 224,
    counts: float = 25.0,
    disorder: float = 0.03,
) -> Crystals:
    """One lattice per turn, cut where `region` says. counts: at the centre of an atom; disorder: σ in units of a."""
    image = np.full((size, size), 0.2)
    reach = int(1.2 * size / a) + 3
    index = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), -1).reshape(-1, 2)
    for grain, turn in enumerate(turns):
        vectors = basis(SHAPES[shape], a=a, turn=turn)
        at = size / 2 + rng.uniform(-a, a, 2) + index @ vectors
        at = at + disorder * a * rng.standard_normal(at.shape)
        at = at[((at > -a) & (at < size + a)).all(1)]
        at = at[region(at) == grain]
        y, x = (np.exp(-((np.arange(size) - c[:, None]) ** 2) / (2 * (0.18 * a) ** 2)) for c in at.T)
        image += y.T @ x
    pixels = np.stack(np.mgrid[:size, :size], -1).reshape(-1, 2).astype(float)
    owner = np.concatenate([region(part) for part in np.array_split(pixels, 8)])
    areas = np.array([float((owner == grain).sum()) for grain in range(len(turns))])
    return Crystals(rng.poisson(counts * image).astype(np.float32), areas, region)
