"""What a lattice is worth as evidence for a column: python benchmarks/fit_context.py [--check] [IMAGES] (360).

Simulates images of any material in STEM, HRTEM and STM, every fourth of metal particles known atom by atom, finds candidates at
a scale that is off by as much as a survey may be, and fits the weights of `predict.context.context_terms` (logistic regression
beside the log odds of the score, whose own weight stays 1) to what is right; twice, since candidates speak by the new scores in
the second turn. Writes src/atomreel/predict/context.json. Then measures on as many fresh images what it gains, by what is shown, at the
model's threshold: measured/context.json. --check: only measures. Takes six minutes on one core.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import expit, logit

from atomreel.core.scope import Scope
from atomreel.nets.columns import ColumnFinder
from atomreel.predict.columns import detect
from atomreel.predict.context import CLIP, WEIGHTS, context_terms, in_context, read_again
from atomreel.predict.model import load_model
from atomreel.predict.survey import TARGET, ZOOM_LIMITS, Survey
from atomreel.simulate.sample import random_image
from atomreel.tasks.columns import match
from atomreel.tasks.scores import calibrated

Array = npt.NDArray[np.float64]
MEASURED = Path(__file__).parent / "measured" / "context.json"
ZOOMED = (6.2, 10.5)  # px between columns, as the network is given them
ACROSS = 26  # columns in a field
SIDES = (320, 512)  # px
RIDGE = 1e-3
SEEDS = {"fit": 20311, "check": 20312}


@dataclass(frozen=True)
class Example:
    """right: (N,) 1 right, 0 wrong, −1 at the border. missed: columns that show and have no candidate. shown: what."""

    position: Array
    score: Array
    now: Array
    right: npt.NDArray[np.int_]
    missed: int
    spacing: float
    shown: str


def main() -> None:
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    count = numbers[0] if numbers else 360
    if "--check" not in sys.argv:
        fit = fitted(examples(count, SEEDS["fit"]))
        WEIGHTS.write_text(json.dumps({"weights": [round(float(w), 3) for w in fit]}) + "\n")
    result = {"images": count, **measured(examples(count, SEEDS["check"]))}
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n")


def examples(count: int, seed: int) -> list[Example]:
    net, card = load_model("columns")
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        special = number % 4 == 3
        nn = float(np.exp(rng.uniform(*np.log((10, 28) if special else (4, 30)))))
        side = int(np.clip(ACROSS * nn, *SIDES))
        told: dict[str, Any] = {}
        if special:
            kind = "hrtem" if number % 8 == 3 else "stem"
            made_of = ["au110", "au110", "au100"] if rng.random() < 2 / 3 else None
            told = {"scope": Scope(faceted=1.0), "modality": kind, "materials": made_of}
        made = random_image(rng, size=(side, side), nn_px=(nn, nn), **told)
        zoom = float(np.clip(np.exp(rng.uniform(*np.log(ZOOMED))) / nn, *ZOOM_LIMITS))
        survey = Survey(zoom, made.bright, 1.0, TARGET / zoom, "given", "columns")
        position, height, _ = detect(made.image, cast(ColumnFinder, net), survey=survey)
        score = calibrated(position, height, card.calibration)
        likely = score > CLIP[0]
        position, score = position[likely], score[likely]
        shows = made.columns[made.snr > 0]
        right, missed = match(shows, position, spacing=nn, shape=made.image.shape)
        shown = "particles" if "faceted" in made.family else made.family.split("_")[-1]
        shown = f"{made.modality} {shown}" if shown == "particles" else shown
        found.append(Example(position, score, score, right, missed, TARGET / zoom, shown))
    return found


def fitted(found: list[Example]) -> Array:
    """The weights of `context_terms` with the greatest likelihood; images with many candidates count more, by the root of that."""
    weights = np.zeros(0)
    for _ in range(2):
        rows, odds, sign, share = [], [], [], []
        for one in found:
            which, terms = context_terms(one.position, one.score, one.now, spacing=one.spacing)
            counted = one.right[which] >= 0
            rows.append(terms[counted])
            odds.append(logit(np.clip(one.score[which][counted], *CLIP)))
            sign.append(np.where(one.right[which][counted] > 0, 1.0, -1.0))
            share.append(np.full(int(counted.sum()), (len(which) + 20) ** -0.5))
        weights = _regression(
            np.concatenate(rows), np.concatenate(odds), np.concatenate(sign), np.concatenate(share)
        )
        found = [_read_again(one, weights) for one in found]
    return weights


def _read_again(one: Example, weights: Array) -> Example:
    now = read_again(one.position, one.score, one.now, spacing=one.spacing, weights=weights)
    return replace(one, now=now)


def _regression(terms: Array, odds: Array, sign: Array, share: Array) -> Array:
    share = share / share.sum()
    size = np.sqrt((terms**2).mean(0)) + 1e-9

    def loss(w: Array) -> tuple[float, Array]:
        margin = sign * (odds + terms @ (w / size))
        slope = -((share * sign * expit(-margin)) @ terms) / size + 2 * RIDGE * w
        return float(share @ np.logaddexp(0, -margin) + RIDGE * w @ w), slope

    done = optimize.minimize(loss, np.zeros(terms.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(done.x / size)


def measured(found: list[Example]) -> dict[str, Any]:
    """Precision, recall, F1 pooled and the mean of the images' F1, and how far scores are from being probabilities; without and with."""
    least = float(load_model("columns")[1].threshold or 0.5)
    after = [in_context(one.position, one.score, spacing=one.spacing) for one in found]
    result: dict[str, Any] = {}
    for shown in ("all", *sorted({one.shown for one in found})):
        part = [k for k, one in enumerate(found) if shown in ("all", one.shown)]
        result[shown] = {"images": len(part)}
        for name, scores in (("without", [one.score for one in found]), ("with", after)):
            result[shown][name] = _rates([found[k] for k in part], [scores[k] for k in part], least)
    return result


def _rates(found: list[Example], scores: list[Array], least: float) -> dict[str, float]:
    counts, gaps, total = [], np.zeros(10), 0
    for one, score in zip(found, scores, strict=True):
        counted = one.right >= 0
        right, told = one.right[counted] > 0, score[counted]
        called = told >= least
        hits = int((called & right).sum())
        counts.append((hits, int(called.sum()), int(right.sum()) + one.missed))
        cell = np.minimum((10 * told).astype(int), 9)
        gaps += np.bincount(cell, told - right, minlength=10)
        total += len(told)
    hits, called, there = np.array(counts).sum(0)
    each = [2 * h / max(1, c + t) for h, c, t in counts]
    return {
        "precision": round(float(hits / max(1, called)), 4),
        "recall": round(float(hits / max(1, there)), 4),
        "f1": round(float(2 * hits / max(1, called + there)), 4),
        "mean_image_f1": round(float(np.mean(each)), 4),
        "calibration_error": round(float(np.abs(gaps).sum() / max(1, total)), 4),
    }


if __name__ == "__main__":
    main()
