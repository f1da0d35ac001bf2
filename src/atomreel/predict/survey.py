"""Looking at a few pieces of a movie first: how far apart are its columns, and are they bright or dark?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.image import Image, Movie
from atomreel.nets.columns import STRIDE, ColumnFinder
from atomreel.predict.model import load_model
from atomreel.prepare.scale import spectral_spacing, zoom_image, zoomed_shape
from atomreel.tasks.columns import find_peaks
from atomreel.tasks.survey import CROP

FloatArray = npt.NDArray[np.float32]
TARGET = 8.0  # spacing that the column network is given [px]; it knows 5–14
DEFAULT_SPACING = 10.0  # assumed where an image shows neither lattice nor columns [px]
ZOOMS = (1.0, 0.5, 0.25)  # looked at first
ZOOM_LIMITS = (1 / 32, 3.0)
ROUNDS = 2  # of looking again at the zoom that suits the spacing found
SMALLEST = 48  # px: pieces under this show too little
CLEAR = 0.99  # odds above which the contrast is settled
HONEYCOMB = 8.0  # to one: prior odds of a honeycomb against the triangular lattice of its holes
LINES = 1.6  # line noise above which an image was scanned, by STM or STEM
SCANNED = (
    5.0  # to one: prior odds of bright columns there, beside what the network says (ABF shows dark ones)
)
FRAMES = 3  # that are looked at
UNSURE = 0.4  # spread of log2 spacing above which a warning is due
LOST = 0.8  # above which nothing is known, unless the spectrum shows a lattice
NO_LATTICE = 6.0  # strength of the strongest spectral spot below which an image has no lattice


@dataclass(frozen=True)
class Survey:
    """What all frames of a movie are analysed with.

    zoom: from image to network. bright: columns are brighter than their surroundings; p_bright: the odds of
    that. spacing_px: typical distance of neighbouring columns in the image. scale_source: "image", "given" or
    "default". model: name or folder. warnings: in words.
    """

    zoom: float
    bright: bool
    p_bright: float
    spacing_px: float
    scale_source: str
    model: str
    warnings: tuple[str, ...] = ()


def survey_columns(
    movie: Movie | Image | npt.ArrayLike,
    *,
    model: str | Path = "columns",
    contrast: str = "auto",
    spacing: float | None = None,
) -> Survey:
    """Scale and contrast of a movie, from pieces of a few frames at several zooms.

    contrast: "auto", "bright" or "dark". spacing: distance of neighbouring columns [px], if known.
    Raises InputError on another contrast or a spacing that is not positive, ModelError on a bad model.
    """
    if contrast not in ("auto", "bright", "dark"):
        raise InputError(f"contrast {contrast!r}: it is auto, bright or dark")
    if spacing is not None and not spacing > 0:
        raise InputError(f"spacing {spacing!r}: it must be a positive number of px")
    frames = list(_frames(movie))
    net = cast(ColumnFinder, load_model(model)[0])
    found, spread, votes = _look(net, frames, spacing)
    source, warnings = "given" if spacing is not None else "image", []
    if spacing is None and spread > UNSURE:
        lattice = max(spectral_spacing(_central(frame)).strength for frame in frames)
        if lattice < NO_LATTICE and spread > LOST:
            found, source = DEFAULT_SPACING, "default"
            warnings.append(
                f"neither a lattice nor columns set the scale; {DEFAULT_SPACING:g} px between columns is assumed "
                "(set columns.spacing_px if you know it)"
            )
        else:
            warnings.append(
                f"the distance between columns is uncertain: {found:.3g} px, give or take a factor {2**spread:.2f} "
                "(set columns.spacing_px if you know it)"
            )
    p_bright = odds(votes)
    if contrast == "auto" and 1 - CLEAR < p_bright < CLEAR:
        if max(line_noise(_central(frame)) for frame in frames) > LINES:
            ratio = SCANNED * p_bright / (1 - p_bright)
            p_bright = ratio / (1 + ratio)
        else:
            p_bright, found = _either_reading(net, frames, p_bright, found)
    bright = p_bright >= 0.5 if contrast == "auto" else contrast == "bright"
    if contrast == "auto" and 0.1 < p_bright < 0.9:
        other = "dark" if bright else "bright"
        warnings.append(
            f"columns are taken as {'bright' if bright else 'dark'}, but {other} is possible: the odds of bright "
            f"are {p_bright:.2f} (set columns.contrast if you know it)"
        )
    zoom = float(np.clip(TARGET / found, *ZOOM_LIMITS))
    return Survey(zoom, bool(bright), p_bright, float(found), source, str(model), tuple(warnings))


def _look(
    net: ColumnFinder, frames: list[npt.NDArray[np.generic]], spacing: float | None
) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Spacing [px], spread of its log2, and the votes at the zoom that suits it: first at fixed zooms, then there."""
    if spacing is not None:
        return spacing, 0.0, _votes(net, frames, float(np.clip(TARGET / spacing, *ZOOM_LIMITS)))
    coarse = np.concatenate([_votes(net, frames, zoom) for zoom in ZOOMS])
    found, spread = vote(coarse)
    near = coarse
    for _ in range(ROUNDS):
        zoom = float(np.clip(TARGET / found, *ZOOM_LIMITS))
        near = _votes(net, frames, zoom)
        before, (found, spread) = found, vote(np.concatenate([coarse, near, near]))
        if abs(np.log2(found / before)) < 0.3:
            break
    return found, spread, near if len(near) else coarse


def _either_reading(
    net: ColumnFinder, frames: list[npt.NDArray[np.generic]], p_bright: float, spacing: float
) -> tuple[float, float]:
    """Odds and spacing when one reading of the contrast is a honeycomb and the other the lattice of its holes.

    A honeycomb has twice as many columns, √3 nearer. Two-dimensional crystals (graphene, BN, MoS₂ …) are honeycombs far
    more often than one-column triangular lattices, so that reading's odds are multiplied by HONEYCOMB.
    """
    zoom = float(np.clip(1.15 * TARGET / spacing, *ZOOM_LIMITS))
    pieces = [torch.from_numpy(p)[None, None] for frame in frames for p in _pieces(frame, zoom)]
    bright, dark = (_count(net, [sign * p for p in pieces]) for sign in (1, -1))
    dense, sparse = (bright, dark) if bright[0] > dark[0] else (dark, bright)
    if sparse[0] < 10 or dense[2] != 3 or not 0.5 < dense[1] / sparse[1] < 0.66:
        return p_bright, spacing
    factor = HONEYCOMB if dense is bright else 1 / HONEYCOMB
    ratio = factor * p_bright / (1 - p_bright)
    chosen = bright if ratio > 1 else dark
    return ratio / (1 + ratio), chosen[1] / zoom


def line_noise(frame: npt.NDArray[np.floating]) -> float:
    """How much noisier means of rows are than means of columns: about 1, above where an image was scanned line by line.

    Third differences, so that lattices and shading do not count.
    """
    level = []
    for axis in (0, 1):
        third = np.diff(np.nan_to_num(frame.astype(float)), n=3, axis=axis)
        if third.size < 64:
            return 1.0
        alone = third.std() / np.sqrt(third.shape[1 - axis])
        level.append(float(np.median(np.abs(third.mean(axis=1 - axis)))) / max(alone, 1e-12))
    return level[0] / max(level[1], 1e-12) if level[0] > 0 else 1.0


def _count(net: ColumnFinder, pieces: list[torch.Tensor]) -> tuple[int, float, float]:
    """Columns that the network sees, median distance of neighbours [px of the pieces], and how many are that near (≤ 4)."""
    near: list[npt.NDArray[np.float64]] = [np.zeros((0, 4))]
    with torch.no_grad():
        for piece in pieces:
            at, logit, _ = find_peaks(net(piece)[0, 0].numpy())
            at = at[logit > -1]
            if len(at) > 4:
                near.append(cKDTree(at).query(at, k=5)[0][:, 1:])
    distance = np.concatenate(near)
    if not len(distance):
        return 0, np.nan, np.nan
    first = float(np.median(distance[:, 0]))
    return len(distance), first, float(np.median((distance < 1.4 * first).sum(1)))


def vote(votes: npt.NDArray[np.float64]) -> tuple[float, float]:
    """(N, 3) votes (log2 spacing, its scale, bright logit) → the most likely spacing [px] and the spread of log2.

    The likelihood is a mixture of Laplace densities, so votes that are lost do not pull.
    """
    if not len(votes):
        return DEFAULT_SPACING, np.inf
    grid = np.linspace(0, 9, 901)
    distance = np.abs(grid[:, None] - votes[:, 0])
    scale = np.maximum(votes[:, 1], 0.03)
    density = (np.exp(-distance / scale) / scale).mean(1)
    best = grid[int(np.argmax(density))]
    near = np.abs(grid - best) < 1
    weight = density[near] / density.sum()
    inside = float(weight.sum())
    spread = float(np.sqrt((weight * (grid[near] - best) ** 2).sum() / max(inside, 1e-9)))
    return float(2**best), spread if inside > 0.4 else 1.0


def odds(votes: npt.NDArray[np.float64]) -> float:
    """Probability that columns are bright: the mean logit of pieces, those that are sure of their scale first."""
    if not len(votes):
        return 0.5
    weight = 1 / (0.05 + votes[:, 1])
    logit = float((votes[:, 2] * weight).sum() / weight.sum())
    return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


def _votes(net: ColumnFinder, frames: list[npt.NDArray[np.generic]], zoom: float) -> npt.NDArray[np.float64]:
    """(N, 3): log2 spacing in px of the image, its scale and bright logit, of every piece at this zoom."""
    pieces = [p for frame in frames for p in _pieces(frame, zoom) if np.ptp(p) > 0]
    if not pieces:
        return np.zeros((0, 3))
    with torch.no_grad():
        told = [net.survey(torch.from_numpy(p)[None, None])[0].double().numpy() for p in pieces]
    log2_spacing, log_scale, bright = np.array(told).T
    return np.stack([log2_spacing - np.log2(zoom), np.exp(log_scale), bright], 1)


def _pieces(frame: npt.NDArray[np.generic], zoom: float) -> Iterator[FloatArray]:
    """Up to four pieces, evenly spread; none when the zoomed image is too small to show a lattice."""
    shape = zoomed_shape((frame.shape[0], frame.shape[1]), zoom)
    if min(shape) < SMALLEST:
        return
    side = [min(CROP, n // STRIDE * STRIDE) for n in shape]
    starts = []
    for n, s in zip(shape, side, strict=True):
        count = 1 if n < 1.3 * s else 2
        rest = n - count * s
        # four pieces of a large image stand in the middle of its quarters
        starts.append(
            [
                round(rest * (2 * i + 1) / (2 * count)) + i * s if rest > 0 else i * (n - s)
                for i in range(count)
            ]
        )
    for y in starts[0]:
        for x in starts[1]:
            yield zoom_image(frame, zoom, rows=(y, y + side[0]), cols=(x, x + side[1]))


def _frames(movie: Movie | Image | npt.ArrayLike) -> Iterator[npt.NDArray[np.generic]]:
    """First, middle and last frame, or the one that there is."""
    if isinstance(movie, Movie):
        for i in np.unique(np.linspace(0, len(movie) - 1, FRAMES).round().astype(int)):
            yield movie[int(i)].data
    else:
        yield as_frame(movie)


def as_frame(image: Image | npt.ArrayLike) -> npt.NDArray[np.generic]:
    """An array (Y, X) that can be sliced; what is lazy stays lazy. Raises InputError on anything else."""
    data = image.data if isinstance(image, Image) else image
    lazy = hasattr(data, "shape") and hasattr(data, "__getitem__")
    array = data if lazy else np.asarray(data)
    if len(array.shape) != 2 or min(array.shape) < 2:  # type: ignore[union-attr]
        raise InputError(f"an image of shape (Y, X) is needed, got {tuple(array.shape)}")  # type: ignore[union-attr]
    return cast("npt.NDArray[np.generic]", array)


def _central(frame: npt.NDArray[np.generic], side: int = 1024) -> FloatArray:
    y, x = (max(0, (n - side) // 2) for n in frame.shape)
    return np.asarray(frame[y : y + side, x : x + side], dtype=np.float32)
