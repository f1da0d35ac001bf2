"""Atoms per column from a focal series of HRTEM images, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from atomreel.core.card import Card
from atomreel.core.errors import InputError
from atomreel.interpret.vacuum import SMALLEST, vacuum_level
from atomreel.nets.heights import HeightReader
from atomreel.predict.counting import Refined, refine_heights
from atomreel.predict.model import load_model
from atomreel.tasks.heights import Reading, read_series

LEAST_DOSE = 300.0  # e/Å² and image: below, the fit is right no more often than the network, and claims more
FAR = 0.05  # share of columns two atoms or more from the network's answer, which hardly errs so far: a fit gone astray
LEVEL_WITHIN = 0.06  # relative error up to which the measured level of the vacuum is used
AGREES = 0.12  # of the log contrast: within it the strength of the contrast is believed
LOW = 0.6  # share of the simulated contrast below which no height is called sure
SLIP = 0.1  # there the probability, at the least, of one atom more or less than is called
FOCUS_WITHIN = 30.0  # Å: differences of focus that depart more from the trained ones are refused


@dataclass(frozen=True)
class Heights:
    """table: y, x, y_err, x_err [px], score (probability of being a column), height (atoms), height_p (its probability).
    probability: (N, K) of 1 … K atoms, rows sum to 1. warnings: in words."""

    table: pd.DataFrame
    probability: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def find_heights(
    images: npt.ArrayLike,
    *,
    pixel: float,
    dose: float | None = None,
    defocus: Sequence[float] | None = None,
    vacuum: float | None = None,
    model: str | Path = "heights",
    threshold: float | None = None,
    refine: bool = True,
) -> Heights:
    """Columns of a focal series (F, Y, X), registered to about 0.1 Å, and the number of atoms in each.

    pixel: size [Å]. dose: electrons per Å² and image; None where it is not known, at some cost. defocus: of the images
    [Å], underfocus positive, in their order; None: as the model's card says. Only the differences must be right, and
    the first one to about 30 Å. vacuum: its grey level above the detector's offset, which tells how strong the
    contrast is; None: measured by the noise where the dose is known (`interpret.vacuum`), else done without.
    model: name or folder. threshold: least score; the model's own by default. refine: the network's answer is a start for
    `counting.refine_heights`, where the dose is high enough and the fit explains the images; contrast unlike the
    simulated one is told in the warnings. Brightness and offset of the detector do not matter. Raises InputError, ModelError.

    J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, sections 2 and 4.3.
    """
    net, card = load_model(model)
    if card.task != "heights":
        raise InputError(f"model {card.name} has learned {card.task!r}, not heights; see 'atomreel models'")
    series = _checked(images, pixel, card)
    warnings = _doubts(dose, defocus, card)
    level = _level(images, pixel, dose, vacuum, warnings)
    known = {"pixel": pixel, "dose": np.nan if dose is None else dose, "level": level}
    read = _read(cast(HeightReader, net), card, series, known=known, threshold=threshold)
    if not refine or len(read.table) == 0 or (dose is not None and dose < LEAST_DOSE):
        return _warned(read, warnings, card)
    at = tuple(defocus if defocus is not None else card.input["defocus_A"])
    found = _fit(read, images, card, known=known, defocus=at)
    if abs(np.log(_contrast(found, level))) > AGREES:
        # so far as signal over noise goes, these images are like those of full contrast and this dose
        like = {**known, "dose": known["dose"] * min(_contrast(found, level), 1.0) ** 2, "level": np.nan}
        again = _read(cast(HeightReader, net), card, series, known=like, threshold=threshold)
        if len(again.table):
            read, found = again, _fit(again, images, card, known=known, defocus=at)
    contrast = _contrast(found, level)
    if abs(np.log(contrast)) > AGREES:
        warnings.append(_weak(contrast))
    read = _refined(read, found, warnings)
    return _warned(_unsure(read) if contrast < LOW else read, warnings, card)


def _contrast(found: Refined, level: float) -> float:
    """Share of the simulated contrast, 1 where that cannot be told."""
    return float(np.exp(found.optics.get("contrast", 0.0))) if np.isfinite(level) else 1.0


def _read(
    net: HeightReader,
    card: Card,
    series: npt.NDArray[np.float32],
    *,
    known: Mapping[str, float],
    threshold: float | None,
) -> Heights:
    """What the network says. known: pixel, dose and level."""
    reading, calibration = read_series(net, series, **known), card.calibration
    score = np.interp(reading.logit, calibration["logit"], calibration["score"])
    keep = score >= (threshold if threshold is not None else float(card.threshold or 0.5))
    probability = softmax(reading.heights[keep].astype(float) / float(calibration["temperature"]), axis=1)
    return Heights(_table(reading, keep, score, probability, card, known["pixel"]), probability, ())


def _fit(
    read: Heights,
    images: npt.ArrayLike,
    card: Card,
    *,
    known: Mapping[str, float],
    defocus: tuple[float, ...],
) -> Refined:
    return refine_heights(
        images,
        read.table[["y", "x"]].to_numpy(),
        read.table["height"].to_numpy(),
        **known,
        element=str(card.scope["element"][0]),
        voltage=float(card.scope["voltage"][0]),
        defocus=defocus,
        most=read.probability.shape[1],
    )


def _refined(read: Heights, found: Refined, warnings: list[str]) -> Heights:
    """Heights by the fit of the images; as they were, and a word in `warnings`, where that failed."""
    table = read.table
    trouble = found.trouble or _astray(found, table["height"].to_numpy())
    if trouble:
        warnings.append(f"heights are the network's alone: {trouble}")
        return read
    there = found.probability.sum(1)
    probability = found.probability / there[:, None]
    score = np.where(found.source < 0, there, table["score"].to_numpy()[found.source])
    columns = (*found.position.T, *found.error.T, score, found.count, probability.max(1))
    return Heights(pd.DataFrame(dict(zip(table, columns, strict=True))), probability, ())


def _weak(contrast: float) -> str:
    said = f"the contrast is {contrast:.2f} of the simulated one, so only its pattern tells the heights"
    return said if contrast >= LOW else f"{said}; so far from what was learned no height is called sure"


def _unsure(read: Heights) -> Heights:
    """Heights with a share of each probability given to one atom more and one less."""
    p = np.pad(read.probability, ((0, 0), (1, 1)), "edge")
    p = (1 - SLIP) * read.probability + 0.5 * SLIP * (p[:, 2:] + p[:, :-2])
    p /= p.sum(1, keepdims=True)
    return replace(
        read, table=read.table.assign(height=p.argmax(1) + 1, height_p=p.max(1, initial=0.0)), probability=p
    )


def _warned(read: Heights, warnings: list[str], card: Card) -> Heights:
    most = len(card.classes)
    if (full := int((read.table["height"] == most).sum())) > 0:
        warnings = [
            *warnings,
            f"{full} columns have the most atoms that {card.name} tells apart ({most}): they may have more",
        ]
    return replace(read, warnings=tuple(warnings))


def _astray(found: Refined, heights: npt.NDArray[np.int64]) -> str:
    """What speaks against counts that are far from those of the network, in words."""
    known = found.source >= 0
    far = (
        float(np.mean(np.abs(found.count[known] - heights[found.source[known]]) >= 2)) if known.any() else 1.0
    )
    return f"a fit of the images moved {far:.0%} of them by two atoms or more" if far > FAR else ""


def _level(
    images: npt.ArrayLike, pixel: float, dose: float | None, vacuum: float | None, warnings: list[str]
) -> float:
    """Level of the vacuum as given, or by the noise; NaN, and a word in `warnings`, where that is too uncertain."""
    if vacuum is not None:
        if not vacuum > 0:
            raise InputError(f"vacuum {vacuum:g}: its grey level above the detector's offset, more than 0")
        return vacuum
    if dose is None or min(np.shape(images)[1:]) < SMALLEST:
        return float("nan")
    level, error = vacuum_level(images, pixel=pixel, dose=dose)
    if error < LEVEL_WITHIN:
        return level
    warnings.append(
        "the noise does not tell what one electron is worth in grey values, so only ratios of contrast are used"
    )
    return float("nan")


def _checked(images: npt.ArrayLike, pixel: float, card: Card) -> npt.NDArray[np.float32]:
    series, wanted = np.asarray(images, dtype=np.float32), len(card.input["defocus_A"])
    if series.ndim != 3 or len(series) != wanted:
        raise InputError(f"expected a focal series of {wanted} images (F, Y, X), got shape {series.shape}")
    if not np.isfinite(series).all():
        raise InputError("the focal series has pixels that are not finite; mend or crop them first")
    largest, smallest = float(card.input["largest_pixel_A"]), int(card.input["smallest_px"])
    if not 0 < pixel <= largest:
        raise InputError(f"pixel size {pixel:g} Å: {card.name} needs more than 0 and at most {largest:g} Å")
    if min(series.shape[1:]) * pixel < smallest * float(card.input["pixel_A"]):
        raise InputError(
            f"{series.shape[1]} × {series.shape[2]} px of {pixel:g} Å are too small a field: "
            f"{card.name} needs at least {smallest * card.input['pixel_A']:g} Å"
        )
    return series


def _doubts(dose: float | None, defocus: Sequence[float] | None, card: Card) -> list[str]:
    """What speaks against using the model, in words; a focal series of another kind is refused."""
    warnings = []
    trained = np.array(card.input["defocus_A"], dtype=float)
    if defocus is not None:
        given = np.asarray(defocus, dtype=float)
        if given.shape != trained.shape or np.abs(np.diff(given) - np.diff(trained)).max() > FOCUS_WITHIN:
            raise InputError(
                f"defocus {given.tolist()} Å: {card.name} reads {trained.tolist()} Å plus one common offset; "
                "put the images in this order, or train a model for this series"
            )
        if abs(float((given - trained).mean())) > FOCUS_WITHIN:
            warnings.append(
                f"the focus is off by {(given - trained).mean():.0f} Å from what {card.name} was trained on"
            )
    if dose is not None:
        low, high = card.scope["dose"]
        if not dose > 0:
            raise InputError(f"dose {dose:g}: electrons per Å² and image, more than 0")
        if not low <= dose <= high:
            warnings.append(
                f"dose {dose:g} e/Å² per image is outside what {card.name} was trained on ({low:g}–{high:g})"
            )
    return warnings


def _table(
    reading: Reading,
    keep: npt.NDArray[np.bool_],
    score: npt.NDArray[np.float64],
    probability: npt.NDArray[np.float64],
    card: Card,
    pixel: float,
) -> pd.DataFrame:
    error = np.interp(reading.logit[keep], card.calibration["logit"], card.calibration["position_A"]) / pixel
    return pd.DataFrame(
        {
            "y": reading.position[keep, 0],
            "x": reading.position[keep, 1],
            "y_err": error,
            "x_err": error,
            "score": score[keep],
            "height": probability.argmax(1) + 1 if len(probability) else np.zeros(0, dtype=np.int64),
            "height_p": probability.max(1, initial=0.0),
        }
    )
