"""Atomic columns of an image: the network finds them, a joint fit places them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import expit

from atomreel.core.card import Card
from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.core.image import Image
from atomreel.core.registry import lookup
from atomreel.core.tables import check_table
from atomreel.interpret.blobs import find_blobs
from atomreel.interpret.chunks import side_by_side
from atomreel.interpret.outside import refine_with_outside
from atomreel.interpret.segments import find_segments
from atomreel.interpret.species import fit_species
from atomreel.interpret.sublattices import cut_by_place, label_by_place, measured
from atomreel.nets.columns import ColumnFinder
from atomreel.predict.backend import choose_backend
from atomreel.predict.context import in_context
from atomreel.predict.domain import CELL, blank_texture, describe, domain_at, domain_field, doubts
from atomreel.predict.model import load_model
from atomreel.predict.placing import place
from atomreel.predict.survey import Survey, as_frame, survey_columns
from atomreel.predict.tiles import TILE, map_tiles
from atomreel.prepare.scale import from_zoomed
from atomreel.tasks.columns import APART, SIGMA, find_peaks
from atomreel.tasks.scores import calibrated, least_score

__all__ = ["Found", "Survey", "detect", "find_columns", "survey_columns"]
BLOCK = 2048  # px: larger images are refined in blocks of this side
OVERLAP = 8.0  # spacings by which blocks overlap
FIT = ("y", "x", "y_err", "x_err", "intensity", "intensity_err")
FAINTEST = 0.01  # blobs below this probability are no candidates


@dataclass(frozen=True)
class Found:
    """table: atoms (without `frame`): y, x, y_err, x_err [px], score, intensity, intensity_err, species, domain.

    residual: (Y, X) image minus fitted model, or None (not refined, or refined in blocks).
    diagnostics: numbers about the image. warnings: in words. known: the map "domain", the probability that a
    place shows columns that the model knows.
    """

    table: pd.DataFrame
    residual: npt.NDArray[np.float32] | None
    survey: Survey
    diagnostics: Mapping[str, Any]
    warnings: tuple[str, ...]
    known: Field


def find_columns(
    image: Image | npt.ArrayLike,
    *,
    survey: Survey | None = None,
    model: str | Path = "columns",
    contrast: str = "auto",
    spacing: float | None = None,
    threshold: float | None = None,
    precision: float | None = None,
    refine: bool = True,
    max_species: int = 4,
    tile: int = TILE,
    decoder: str = "peaks",
    backend: str = "auto",
) -> Found:
    """Every atomic column of `image` (Y, X), which may be anything that can be sliced.

    survey: from `survey_columns`, so that all frames of a movie are treated alike; otherwise made from this image
    with model, contrast ("auto", "bright", "dark") and spacing [px]. threshold: least score; the model's own
    operating point by default. precision: instead of it, the share of the columns that shall be real: as many are
    kept as the scores and the odds of the survey's contrast allow, which may be none. refine: joint
    maximum-likelihood positions with errors; without it the errors are NaN. max_species: most intensity classes. tile: side of the pieces that the network sees at a time [px].
    decoder: how the network's map becomes positions, "peaks" (its maxima), "log"
    (`interpret.blobs`) or "watershed" (`interpret.segments`).
    backend: what runs the network, see `predict.backend.candidates`.

    A score is the probability that the column is real if the contrast is as the survey says, calibrated on simulated
    images; diagnostics["false_expected"] is how many of the table are not, if scores and odds are right. Raises
    InputError, ModelError.
    """
    frame = as_frame(image)
    survey = survey or survey_columns(frame, model=model, contrast=contrast, spacing=spacing, backend=backend)
    net, card = load_model(survey.model)
    position, logit, texture = detect(
        frame, cast(ColumnFinder, net), survey=survey, tile=tile, decoder=decoder, backend=backend
    )
    score, known = _read((position, logit, texture), survey, card)
    sure = survey.p_bright if survey.bright else 1 - survey.p_bright  # in the other contrast nothing is real
    least = _least(score, threshold, precision, card=card, sure=sure)
    keep = score >= least
    at = position[keep]
    columns = dict(zip(FIT[:4], [*at.T, *np.full((2, len(at)), np.nan)], strict=True))
    columns |= {"score": score[keep], "domain": domain_at(known, at)}
    warnings = [*survey.warnings, *_beyond(precision, sure), *doubts(columns["domain"], known)]
    residual = None
    diagnostics: dict[str, Any] = {"candidates": len(score), "threshold": least}
    if refine and len(at) and min(frame.shape) >= 4:
        fit, residual, more, notes = _refine(frame, at, survey)
        diagnostics, warnings = diagnostics | more, warnings + list(notes)
        columns = _placed(columns, fit, survey, shape=frame.shape, max_species=max_species)
    false_expected = float((1 - sure * columns["score"]).sum())
    diagnostics |= {"columns": len(columns["score"]), "false_expected": false_expected}
    return Found(_checked(columns), residual, survey, diagnostics, tuple(dict.fromkeys(warnings)), known)


def _read(
    found: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], survey: Survey, card: Card
) -> tuple[npt.NDArray[np.float64], Field]:
    """The scores of what `detect` found, and where the image looks like columns that the model knows."""
    position, logit, texture = found
    return side_by_side(
        lambda: in_context(
            position, calibrated(position, logit, card.calibration), spacing=survey.spacing_px
        ),
        lambda: domain_field(texture, position, logit, zoom=survey.zoom),
    )


def _least(
    score: npt.NDArray[np.float64],
    threshold: float | None,
    precision: float | None,
    *,
    card: Card,
    sure: float,
) -> float:
    """The score from which on columns are kept; sure: probability of the contrast by which they were scored."""
    if precision is None:
        return threshold if threshold is not None else float(card.threshold or 0.5)
    if threshold is not None or not 0 < precision < 1:
        raise InputError(
            f"precision {precision:g}, threshold {threshold}: give one of them, a precision between 0 and 1"
        )
    return least_score(score, precision, sure=sure)


def _beyond(precision: float | None, sure: float) -> list[str]:
    """What to say when the contrast is less certain than the columns shall be."""
    if precision is None or sure > precision:
        return []
    return [
        f"no column is kept: a precision of {precision:g} is asked for, and the contrast itself is right with a probability "
        f"of {sure:.2g} (set columns.contrast if you know it)"
    ]


def _blobs(logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """As find_peaks, by the Laplacian of Gaussian of the probabilities; the logit is that of the blob's pixel."""
    found = find_blobs(expit(logits), SIGMA, threshold=FAINTEST)
    return found.position, logits[found.pixel[:, 0], found.pixel[:, 1]], found.pixel


def _segments(logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """As find_peaks, by centres of mass of watershed segments. None is dropped (t = 0): the calibrated score decides."""
    column = expit(logits.astype(float))
    found = find_segments(np.stack([1 - column, column]), t=0.0, reach=4 * SIGMA)
    return found.position, logits[found.pixel[:, 0], found.pixel[:, 1]], found.pixel


DECODERS = {"peaks": find_peaks, "log": _blobs, "watershed": _segments}


def detect(
    frame: npt.NDArray[np.generic],
    net: ColumnFinder,
    *,
    survey: Survey,
    tile: int = TILE,
    decoder: str = "peaks",
    backend: str = "auto",
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """All columns of the map: positions (N, 2) [px of the image] and their logits (N,), in reading order; and what every
    cell of the image looks like, see `predict.domain.describe`."""
    decode = lookup("decoder", decoder, DECODERS)
    network = choose_backend(net.columns, backend).network
    positions, logits = [np.zeros((0, 2))], [np.zeros(0, dtype=np.float32)]
    sign = 1.0 if survey.bright else -1.0
    texture = blank_texture(frame.shape, survey.zoom)
    with torch.no_grad():
        for piece in map_tiles(frame, network, zoom=survey.zoom, sign=sign, tile=tile, margin=2 * APART + 4):
            (peaks, height, pixel), cells = side_by_side(
                partial(decode, piece.values), partial(describe, piece.seen, piece.values)
            )
            pixel = pixel + np.array([piece.rows[0], piece.cols[0]])
            (y0, y1), (x0, x1) = piece.core
            own = (pixel[:, 0] >= y0) & (pixel[:, 0] < y1) & (pixel[:, 1] >= x0) & (pixel[:, 1] < x1)
            positions.append(peaks[own] + (piece.rows[0], piece.cols[0]))
            logits.append(height[own])
            (top, end), (left, right) = ((low // CELL, -(-high // CELL)) for low, high in piece.core)
            first, side = piece.rows[0] // CELL, piece.cols[0] // CELL
            texture[:, top:end, left:right] = cells[:, top - first : end - first, left - side : right - side]
    position, logit = from_zoomed(np.concatenate(positions), survey.zoom), np.concatenate(logits)
    order = np.lexsort((position[:, 1], position[:, 0]))
    return position[order], logit[order], texture


def _refine(
    frame: npt.NDArray[np.generic], position: npt.NDArray[np.float64], survey: Survey
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32] | None, dict[str, Any], tuple[str, ...]]:
    """(N, 6) FIT of columns at positions (N, 2): joint fit of the whole image, or of overlapping blocks of a large one."""
    if max(frame.shape) <= BLOCK + BLOCK // 2:
        data = np.asarray(frame, dtype=np.float32)
        done = refine_with_outside(data, position, bright=survey.bright)
        more = {"gain": done.gain, "zero": done.zero, "width_px": done.width, "jitter_px": done.jitter_px}
        return _numbers(done.table), data - done.model, more, done.warnings
    fit = np.full((len(position), len(FIT)), np.nan)
    notes: list[str] = []
    margin = round(OVERLAP * survey.spacing_px)
    # a maximum of the network's last row may lie a little beyond the image
    pixel = np.clip(np.floor(position + 0.5), 0, np.array(frame.shape) - 1)
    for y in range(0, frame.shape[0], BLOCK):
        for x in range(0, frame.shape[1], BLOCK):
            own = (pixel // BLOCK == (y // BLOCK, x // BLOCK)).all(axis=1)
            if not own.any():
                continue
            corner = np.maximum(0, np.array([y, x]) - margin)
            piece = frame[corner[0] : y + BLOCK + margin, corner[1] : x + BLOCK + margin]
            near = ((pixel >= corner) & (pixel < corner + piece.shape)).all(axis=1)
            data = np.asarray(piece, dtype=np.float32)
            done = refine_with_outside(data, position[near] - corner, bright=survey.bright)
            fit[own] = _numbers(done.table)[own[near]] + (*corner, 0, 0, 0, 0)
            notes += done.warnings
    return fit, None, {}, tuple(notes)


def _numbers(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(N, 6) FIT of a table of the fit."""
    return np.stack([table[name].to_numpy(float) for name in FIT], axis=1)


def _placed(
    columns: dict[str, npt.NDArray[Any]],
    fit: npt.NDArray[np.float64],
    survey: Survey,
    *,
    shape: tuple[int, ...],
    max_species: int,
) -> dict[str, npt.NDArray[Any]]:
    """The columns at the mean of the fit's (N, 6) positions and the network's (`predict.placing`), with their species.

    Those that this leaves inside the image: one that the fit pushed out is none.
    """
    fitted = np.isfinite(fit[:, [0, 1, 4]]).all(axis=1)
    columns, fit = {name: values[fitted] for name, values in columns.items()}, fit[fitted]
    found = np.stack([columns["y"], columns["x"]], axis=1)
    within = _inside(fit[:, :2], shape)
    (position, error), classes = side_by_side(
        lambda: place(fit[:, :2], fit[:, 2:4], found, score=columns["score"], zoom=survey.zoom),
        lambda: fit_species(fit[within, 4], fit[within, 5], max_classes=max_species),
    )
    real = _inside(position, shape)
    columns = columns | dict(zip(FIT, np.concatenate([position, error, fit[:, 4:]], axis=1).T, strict=True))
    columns = {name: values[real] for name, values in columns.items()}
    image = measured(columns)
    species = label_by_place(image, cut_by_place(classes, [image], max_classes=max_species))
    return columns | {"species": species.labels}


def _inside(position: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(((position >= -0.5) & (position <= np.array(shape) - 0.5)).all(axis=1))


def _checked(columns: dict[str, npt.NDArray[Any]]) -> pd.DataFrame:
    table = pd.DataFrame(columns | {"frame": np.zeros(len(columns["y"]), np.int64)})
    return check_table(table, "atoms").drop(columns="frame")
