"""Looking at a few pieces of a movie first: how far apart are its columns, and are they bright or dark?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.errors import InputError
from atomreel.core.image import Image, Movie
from atomreel.nets.columns import STRIDE, ColumnFinder
from atomreel.nets.surveyor import BINS, STEP, spacing_bins
from atomreel.predict.model import load_model
from atomreel.prepare.scale import spectral_spacing, zoom_image, zoomed_shape
from atomreel.tasks.survey import CROP

FloatArray = npt.NDArray[np.float32]
FloatTable = npt.NDArray[np.float64]
TARGET = 8.0  # spacing that the column network is given [px]; it knows 5–14
DEFAULT_SPACING = 10.0  # assumed where an image shows neither lattice nor columns [px]
ZOOMS = (1.0, 0.5, 0.25)  # looked at first
ZOOM_LIMITS = (1 / 32, 3.0)
ROUNDS = 2  # of looking again at the zoom that suits the spacing found
SMALLEST = 48  # px: pieces under this show too little
FRAMES = 3  # that are looked at
GRID = np.arange(0.0, 8.01, STEP)  # log2 of spacings in px of the image
INDEPENDENT = 0.5  # power of the number of pieces that counts as independent
NARROW = 0.1  # spread of log2 spacing that is allowed about a spacing that is told
NEAR = 1.25  # a spacing within this factor is right
UNSURE = 0.7  # certainty below which a warning is due
LOST = 0.3  # below which nothing is known, unless the spectrum shows a lattice
NO_LATTICE = 6.0  # strength of the strongest spectral spot below which an image has no lattice


@dataclass(frozen=True)
class Wish:
    """What is told about an image: contrast and spacing [px], or None."""

    bright: bool | None = None
    spacing: float | None = None


ANY = Wish()


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
    wish = Wish(None if contrast == "auto" else contrast == "bright", spacing)
    table = _look(net, frames, wish)
    p_bright = float(table[1].sum())
    bright = p_bright >= 0.5 if wish.bright is None else wish.bright
    table = pooled(np.log(table[None] + 1e-300), replace(wish, bright=bright))
    found, source, warnings = spacing or likeliest(table), "given" if spacing else "image", []
    if spacing is None and (sure := certainty(table, found)) < UNSURE:
        lattice = max(spectral_spacing(_central(frame)).strength for frame in frames)
        if sure < LOST and lattice < NO_LATTICE:
            found, source = DEFAULT_SPACING, "default"
            warnings.append(
                f"neither a lattice nor columns set the scale; {DEFAULT_SPACING:g} px between columns is assumed "
                "(set columns.spacing_px if you know it)"
            )
        else:
            warnings.append(
                f"the distance between columns is uncertain: {found:.3g} px, with a probability of {sure:.2f} "
                "(set columns.spacing_px if you know it)"
            )
    if contrast == "auto" and 0.1 < p_bright < 0.9:
        other = "dark" if bright else "bright"
        warnings.append(
            f"columns are taken as {'bright' if bright else 'dark'}, but {other} is possible: the odds of bright "
            f"are {p_bright:.2f} (set columns.contrast if you know it)"
        )
    zoom = float(np.clip(TARGET / found, *ZOOM_LIMITS))
    return Survey(zoom, bool(bright), p_bright, float(found), source, str(model), tuple(warnings))


def _look(net: ColumnFinder, frames: list[npt.NDArray[np.generic]], wish: Wish) -> FloatTable:
    """Probability of each contrast and spacing: pieces at fixed zooms first, then at the zoom that suits the spacing."""
    if wish.spacing is not None:
        zoom = float(np.clip(TARGET / wish.spacing, *ZOOM_LIMITS))
        return pooled(_beliefs(net, frames, zoom), wish)
    coarse = [_beliefs(net, frames, zoom) for zoom in ZOOMS]
    table = pooled(np.concatenate(coarse), wish)
    for _ in range(ROUNDS):
        before = likeliest(table)
        near = _beliefs(net, frames, float(np.clip(TARGET / before, *ZOOM_LIMITS)))
        table = pooled(np.concatenate([*coarse, near, near]), wish)
        if abs(np.log2(likeliest(table) / before)) < 0.3:
            break
    return table


def pooled(beliefs: FloatTable, wish: Wish = ANY) -> FloatTable:
    """(N, 2, G) log-probabilities that pieces give → (2, G) probabilities, within what is told.

    Pieces of one image err together, so N of them count as N**INDEPENDENT.
    """
    total = np.zeros((2, len(GRID)))
    if len(beliefs):
        total = total + beliefs.mean(0) * len(beliefs) ** INDEPENDENT
    if wish.bright is not None:
        total[int(not wish.bright)] = -np.inf
    if wish.spacing is not None:
        total = total - 0.5 * ((GRID - np.log2(wish.spacing)) / NARROW) ** 2
    table: FloatTable = np.exp(total - total.max())
    return table / table.sum()


def likeliest(table: FloatTable) -> float:
    """The spacing [px] that the probabilities (2, G) favour, to a fraction of a bin."""
    share = table.sum(0)
    near = np.abs(GRID - GRID[int(np.argmax(share))]) < 2.5 * STEP
    return float(2 ** ((share * GRID)[near].sum() / share[near].sum()))


def certainty(table: FloatTable, spacing: float) -> float:
    """Probability that `spacing` [px] is right to within a factor NEAR."""
    return float(table[:, np.abs(GRID - np.log2(spacing)) < np.log2(NEAR)].sum())


def _beliefs(net: ColumnFinder, frames: list[npt.NDArray[np.generic]], zoom: float) -> FloatTable:
    """(N, 2, G): what every piece at this zoom says, by spacing in px of the image; even where it cannot tell."""
    pieces = [p for frame in frames for p in _pieces(frame, zoom) if np.ptp(p) > 0]
    if not pieces:
        return np.zeros((0, 2, len(GRID)))
    with torch.no_grad():
        told = torch.cat([net.survey(torch.from_numpy(p)[None, None]) for p in pieces]).double().numpy()
    even = -np.log(2 * BINS)
    seen, bins = GRID + np.log2(zoom), spacing_bins().numpy()
    return np.array([[np.interp(seen, bins, row, left=even, right=even) for row in both] for both in told])


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
