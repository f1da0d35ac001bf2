"""Crops around defects sorted into classes without labels: principal components, a Gaussian mixture, the number of classes from BIC and ICL.

The way of Maksov et al., npj Comput. Mater. 5, 12 (2019); the criterion of completed likelihood is that of Biernacki, Celeux & Govaert,
IEEE Trans. PAMI 22, 719 (2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from atomreel.core.errors import InputError

Floats = npt.NDArray[np.float64]
ROUNDS = 6  # of turning crops onto their mean
STARTS = 4  # of the mixture for every number of classes
WINDOW = 0.45  # of half a crop: 1σ of the weight of its pixels in `classify`, so that the defect counts and not what lies at the rim
PER_CLASS = 8  # crops that a class takes at least, so that its spread can be told
CRITERIA = ("icl", "bic")
LEAST = 3  # crops in a class of the common spread
SHAPES = ("tied", "full")  # one spread for all classes, which is that of noise, or each its own


@dataclass(frozen=True, eq=False)
class Crops:
    """images: (N, turns, size, size), each crop in `turns` equivalent orientations, in units of its frame's scatter above its mean.
    rows: (N,) positions in the table given; crops that reach beyond the frame are left out."""

    images: Floats
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classes:
    """probability: (N, k). criteria: one row per number and shape of classes: classes, shape, bic, icl (the lower the better; NaN for a fit with a class of too few), chosen.
    features: (N, C) principal components, explained: (C,) their share of the variance. Classes are in the order of their size."""

    probability: Floats
    criteria: pd.DataFrame
    features: Floats
    explained: Floats

    @property
    def label(self) -> npt.NDArray[np.int64]:
        return self.probability.argmax(axis=1)


def cut_crops(
    frames: Sequence[npt.ArrayLike] | Callable[[int], npt.ArrayLike],
    table: pd.DataFrame,
    *,
    size: int,
    turn: float | npt.ArrayLike = 0.0,
    fold: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> Crops:
    """Crops of `size` × `size` px whose middle is the position itself, to parts of a pixel (cubic splines).

    frames: (T, Y, X) or a function of the frame number. table: frame, y, x [px]. turn: direction [degrees, counter-clockwise on screen]
    that comes to lie along +x, one or one per row: a lattice direction, where grains differ. fold: number of equivalent
    orientations 360°/fold apart, for `aligned`. advance: told of every frame done. Raises InputError without rows or for a size below 5.
    """
    missing = [c for c in ("frame", "y", "x") if c not in table]
    if missing or not len(table):
        raise InputError(f"crops need rows with frame, y, x; {', '.join(missing) or 'rows'} missing")
    if size < 5 or fold < 1:
        raise InputError(f"crops of {size} px in {fold} orientations: at least 5 px and 1 are needed")
    half = (size - 1) / 2
    grid = np.mgrid[-half : half + 1, -half : half + 1]

    start = np.broadcast_to(np.asarray(turn, dtype=float), len(table))
    where, frame = table[["y", "x"]].to_numpy(float), table["frame"].to_numpy(np.int64)
    images, rows = [], []
    for number in np.unique(frame):
        data = np.asarray(frames(int(number)) if callable(frames) else frames[int(number)], dtype=float)
        data = (data - data.mean()) / max(float(data.std()), 1e-300)
        spline = ndimage.spline_filter(data, order=3)
        own = np.flatnonzero(frame == number)
        inside = ((where[own] >= half) & (where[own] <= np.array(data.shape) - 1 - half)).all(axis=1)
        for row in own[inside]:
            angles = np.deg2rad(start[row] + 360 / fold * np.arange(fold))
            cut = [_look(spline, where[row], grid, angle) for angle in angles]
            images.append(cut)
            rows.append(row)
        advance(1)
    if not images:
        raise InputError(f"no crop of {size} px lies within its frame; choose a smaller size")
    return Crops(np.array(images), np.array(rows, dtype=np.int64))


def _look(spline: Floats, where: Floats, grid: Floats, angle: float) -> Floats:
    """The picture around `where` turned clockwise, so that what lay at `angle` (y up) lies at 0."""
    y, x = grid
    back = (
        where[0] + np.cos(angle) * y - np.sin(angle) * x,
        where[1] + np.sin(angle) * y + np.cos(angle) * x,
    )
    return ndimage.map_coordinates(spline, back, order=3, prefilter=False, mode="nearest")


def aligned(crops: Crops) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(N, size, size) crops turned so that equivalent orientations coincide, and (N,) by which of the orientations each was.

    Each is turned to where it looks most like the mean of all, from the least symmetric crop on. A crop without direction is turned by its noise,
    which leaves a faint false direction in it. `crops.images[:, 0]` are those whose orientations stay distinct.
    """
    images = crops.images
    n, fold = images.shape[:2]
    flat = images.reshape(n, fold, -1)
    uneven = ((flat - flat.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))
    best = np.argsort(uneven)[-max(n // 10, 1) :]
    template, which = flat[best[-1], 0], np.zeros(n, dtype=np.int64)
    for k in range(ROUNDS):
        which = (flat @ (template - template.mean())).argmax(axis=1)
        turned = np.take_along_axis(flat, which[:, None, None], axis=1)[:, 0]
        template = turned[best if k == 0 else slice(None)].mean(axis=0)
    return turned.reshape(n, *images.shape[2:]), which


def classify(
    descriptors: npt.ArrayLike,
    *,
    most: int = 8,
    components: int = 8,
    criterion: str = "icl",
    rng: int = 0,
) -> Classes:
    """Classes of crops (N, size, size), or of any descriptors (N, …), by a Gaussian mixture of their principal components.

    most: largest number of classes tried. components: principal components kept. criterion: "icl" counts groups that can be told apart, "bic"
    the Gaussians that describe them best, which may be several to a group that is no Gaussian; both are told. rng: seed.
    Raises InputError for fewer than 16 descriptors, values that are not finite, an unknown criterion.
    """
    from sklearn.mixture import GaussianMixture

    data = np.asarray(descriptors, dtype=float)
    if data.ndim == 3:
        data = data * _window(data.shape[-1])
    data = data.reshape(len(data), -1)
    if len(data) < 2 * PER_CLASS or not np.isfinite(data).all():
        raise InputError(f"classes need {2 * PER_CLASS} finite descriptors at least, got shape {data.shape}")
    if criterion not in CRITERIA:
        raise InputError(f"criterion {criterion!r}: expected {' or '.join(CRITERIA)}")
    features, explained = principal(data, components)
    rows, fits = [], []
    for k in range(1, min(most, len(data) // PER_CLASS) + 1):
        for shape in SHAPES:
            fit = GaussianMixture(k, covariance_type=shape, n_init=STARTS, random_state=rng).fit(features)
            share = fit.predict_proba(features)
            entropy = -float((share * np.log(np.maximum(share, 1e-300))).sum())
            # A spread of its own that is fitted to as few points as it has directions has no volume, and any likelihood.
            few = 2 * features.shape[1] if shape == "full" and k > 1 else LEAST
            bic = float(fit.bic(features)) if share.sum(axis=0).min() >= few else np.nan
            rows.append({"classes": k, "shape": shape, "bic": bic, "icl": bic + 2 * entropy})
            fits.append(share)
    criteria = pd.DataFrame(rows)
    chosen = int(criteria[criterion].argmin())
    order = np.argsort(-fits[chosen].sum(axis=0), kind="stable")
    criteria["chosen"] = np.arange(len(criteria)) == chosen
    return Classes(fits[chosen][:, order], criteria, features, explained)


def _window(size: int) -> Floats:
    half = (size - 1) / 2
    grid = np.mgrid[-half : half + 1, -half : half + 1]
    return np.asarray(np.exp(-(grid**2).sum(axis=0) / (2 * (WINDOW * half) ** 2)))


def principal(data: Floats, components: int) -> tuple[Floats, Floats]:
    """(N, C) principal components of (N, D) rows and (C,) their share of the variance. C ≤ N/5, so that there is something to tell apart."""
    centred = data - data.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    count = max(min(components, len(data) // 5, len(size)), 1)
    total = max(float((size**2).sum()), 1e-300)
    return left[:, :count] * size[:count], size[:count] ** 2 / total


def mean_crops(images: npt.ArrayLike, probability: npt.ArrayLike) -> Floats:
    """(k, size, size) mean crop of each class, every crop weighted by its probability of being in it."""
    weight = np.asarray(probability, dtype=float)
    share = weight / np.maximum(weight.sum(axis=0), 1e-300)
    return np.einsum("nk,nyx->kyx", share, np.asarray(images, dtype=float))
