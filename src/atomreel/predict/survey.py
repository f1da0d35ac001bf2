"""Looking at a few pieces of a movie first: how far apart are its columns, and are they bright or dark?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.errors import InputError
from atomreel.core.image import Image, Movie
from atomreel.nets.columns import ColumnFinder
from atomreel.predict.model import load_model
from atomreel.prepare.scale import spectral_spacing, zoom_image, zoomed_shape

FloatArray = npt.NDArray[np.float32]
TARGET = 8.0  # spacing that the column network is given [px]; it knows 5–14
DEFAULT_SPACING = 10.0  # assumed where an image shows neither lattice nor columns [px]
CROP = 128  # side of a piece [px of the zoomed image], as trained
ZOOMS = (1.0, 0.5, 0.25, 2.0)
FRAMES = 3  # that are looked at
CROPS = 9  # per zoom and frame
UNSURE = 0.35  # σ of log2 spacing above which nothing is known
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
    votes = np.concatenate([_votes(net, frame, zoom) for frame in frames for zoom in ZOOMS])
    found, spread, source = spacing, 0.0, "given"
    warnings: list[str] = []
    if found is None:
        found, spread = vote(votes)
        source = "image"
        lattice = max(spectral_spacing(_central(frame)).strength for frame in frames)
        if spread > UNSURE and lattice < NO_LATTICE:
            found, source = DEFAULT_SPACING, "default"
            warnings.append(
                f"neither a lattice nor columns set the scale; {DEFAULT_SPACING:g} px between columns is assumed "
                "(set columns.spacing_px if you know it)"
            )
        elif spread > UNSURE:
            warnings.append(
                f"the distance between columns is uncertain: {found:.3g} px, give or take a factor {2**spread:.2f} "
                "(set columns.spacing_px if you know it)"
            )
    p_bright = _odds(votes, found)
    bright = p_bright >= 0.5 if contrast == "auto" else contrast == "bright"
    if contrast == "auto" and 0.1 < p_bright < 0.9:
        other = "dark" if bright else "bright"
        warnings.append(
            f"columns are taken as {'bright' if bright else 'dark'}, but {other} is possible: the odds of bright "
            f"are {p_bright:.2f} (set columns.contrast if you know it)"
        )
    zoom = float(np.clip(TARGET / found, 1 / 32, 4.0))
    return Survey(zoom, bool(bright), p_bright, float(found), source, str(model), tuple(warnings))


def vote(votes: npt.NDArray[np.float64]) -> tuple[float, float]:
    """(N, 4) votes (log2 spacing, its scale, bright logit, zoom) → the most likely spacing [px] and the spread of log2.

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


def _odds(votes: npt.NDArray[np.float64], spacing: float) -> float:
    """Probability that columns are bright, from the pieces in which the spacing lies where the network is at home."""
    if not len(votes):
        return 0.5
    inside = spacing * votes[:, 3]
    use = (inside > 4) & (inside < 26)
    use = use if use.any() else np.ones(len(votes), dtype=bool)
    weight = 1 / (0.05 + votes[use, 1])
    logit = float((votes[use, 2] * weight).sum() / weight.sum())
    return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


def _votes(net: ColumnFinder, frame: npt.NDArray[np.generic], zoom: float) -> npt.NDArray[np.float64]:
    """(N, 4): log2 spacing in px of the image, its scale, bright logit and zoom, of every piece at this zoom."""
    pieces = [p for p in _pieces(frame, zoom) if np.ptp(p) > 0]
    if not pieces:
        return np.zeros((0, 4))
    with torch.no_grad():
        told = net.survey(torch.from_numpy(np.stack(pieces)[:, None])).double().numpy()
    log2_spacing = told[:, 0] - np.log2(zoom)
    return np.stack([log2_spacing, np.exp(told[:, 1]), told[:, 2], np.full(len(told), zoom)], 1)


def _pieces(frame: npt.NDArray[np.generic], zoom: float) -> Iterator[FloatArray]:
    """Up to CROPS pieces on a regular grid; none when the zoomed image is too small to show a lattice."""
    shape = zoomed_shape((frame.shape[0], frame.shape[1]), zoom)
    if min(shape) < 48 or (zoom > 1 and min(frame.shape) > 4 * CROP):
        return
    side = [min(CROP, n // 16 * 16) for n in shape]
    count = [min(int(np.sqrt(CROPS)), -(-n // s)) for n, s in zip(shape, side, strict=True)]
    for y in np.linspace(0, shape[0] - side[0], count[0]).astype(int):
        for x in np.linspace(0, shape[1] - side[1], count[1]).astype(int):
            rows, cols = (int(y), int(y) + side[0]), (int(x), int(x) + side[1])
            yield zoom_image(frame, zoom, rows=rows, cols=cols)


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
