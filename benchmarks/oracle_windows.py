"""What the noise allows: kinds of defects in windows told by one who knows everything but the kind and the site.

The noise-free picture of every hypothesis (each kind at each site that lies near enough to the middle, and no defect) is
compared with the noisy one by the exact likelihood of the noise, and summed over the sites with the odds with which they are drawn:
the Bayes answer, which no classifier beats on average.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from atomreel.core.material import Material
from atomreel.simulate.windows import CELL_PX, JITTER, SIDE, Windows, changed_heights, changes, draw

Float32 = npt.NDArray[np.float32]


def hypotheses(
    windows: Windows, row: int, material: Material
) -> tuple[Float32, npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Pictures (H, SIDE, SIDE) of window `row` with every kind at every site in reach, their class, and log odds."""
    views = windows.views
    one = replace(views, **{name: getattr(views, name)[row : row + 1] for name in vars(views)})
    heights = one.heights.copy()
    if windows.site[row] >= 0:  # what stands at the target where nothing is changed
        heights[0, 0] = usual(material, one)[0]
    off = np.abs(one.sites[0] - (SIDE - 1) / 2).max(1)
    near = np.flatnonzero((off <= JITTER) & (one.column[0] >= 0))
    pictures, classes, odds = [heights[0]], [len(windows.classes) - 1], [-np.log(CELL_PX**2 * np.sqrt(0.75))]
    for k, name in enumerate(windows.classes[:-1]):
        new = changed_heights(one, material, name)[0]
        for site in near[np.isin(one.column[0, near], changes(material, name)[0])]:
            changed = heights[0].copy()
            changed[site] = new[site]
            pictures.append(changed)
            classes.append(k)
            odds.append(-np.log((2 * JITTER) ** 2))
    n = len(pictures)
    many = replace(one, **{name: np.repeat(getattr(one, name), n, 0) for name in vars(one)})
    return draw(replace(many, heights=np.array(pictures))), np.array(classes), np.array(odds)


def usual(material: Material, views: Any) -> npt.NDArray[Any]:
    """(N,) height of the target's column with all its atoms."""
    from atomreel.simulate.stem import z_contrast

    atoms = material.project().atoms
    return np.array(
        [
            z_contrast(atoms[c], e) / u
            for c, e, u in zip(views.column[:, 0], views.exponent, views.unit, strict=True)
        ]
    )


def log_likelihood(noisy: Float32, clean: Float32, noise: str, level: float) -> npt.NDArray[Any]:
    """(H,) of pictures without noise (H, Y, X), each less the same constant."""
    x, mu = noisy.astype(np.float64), clean.astype(np.float64)
    if noise == "gaussian":
        return -((x - mu) ** 2).sum((1, 2)) / 2 / level**2
    if noise == "speckle":
        sigma = np.maximum(level * np.abs(mu), 1e-9)
        return (-((x - mu) ** 2) / 2 / sigma**2 - np.log(sigma)).sum((1, 2))
    if noise == "poisson":
        counts, mean = np.rint(x / level**2), np.maximum(mu / level**2, 1e-6)
        return (counts * np.log(mean) - mean).sum((1, 2))
    same = np.isclose(x, mu, atol=1e-6)  # of salt and pepper every pixel that is not hit is exact
    return np.where(same, np.log(1 - level), np.log(level / 2)).sum((1, 2))


def tell(
    windows: Windows, noisy: Float32, material: Material, *, noise: list[tuple[str, float]]
) -> npt.NDArray[np.float64]:
    """(N, C) probabilities of the classes of `windows` for their noisy pictures (N, SIDE, SIDE)."""
    p = np.zeros((len(noisy), len(windows.classes)))
    for row, (name, level) in enumerate(noise):
        clean, classes, odds = hypotheses(windows, row, material)
        log = log_likelihood(noisy[row], clean, name, level) + odds
        each = [logsumexp(log[classes == k]) if (classes == k).any() else -np.inf for k in range(p.shape[1])]
        p[row] = np.exp(np.array(each) - logsumexp(each))
    return p
