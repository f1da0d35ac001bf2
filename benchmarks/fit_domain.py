"""The weights of `domain`, and how far it can be trusted: python benchmarks/fit_domain.py [--check] [IMAGES] (480).

Simulates images of columns of any material in STEM, HRTEM and STM (every fifth partly replaced by an outsider) and as many
outsiders, surveys each as a user's image is, describes every cell (predict/domain.py), and fits a logistic regression to
whether there are columns. Writes src/atomreel/predict/domain.json. Then measures on fresh images: calibration, area under the
curve, share of outsiders that are marked, and the same for every kind of outsider when it is left out of the fit.
Writes measured/domain.json. --check: only measures, with the weights that are there. Takes three minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from atomreel.nets.columns import ColumnFinder
from atomreel.predict.columns import detect
from atomreel.predict.domain import (
    CELL,
    UNKNOWN,
    WEIGHTS,
    Weights,
    expand,
    features,
    known,
    load_weights,
)
from atomreel.predict.model import load_model
from atomreel.predict.survey import survey_columns
from atomreel.prepare.scale import from_zoomed, to_zoomed
from atomreel.simulate.outsiders import KINDS, put_beside, random_outsider
from atomreel.simulate.sample import random_image

Array = npt.NDArray[np.float64]
MEASURED = Path(__file__).parent / "measured" / "domain.json"
SIDE = (224, 384)  # px
SEEN = 4.0  # least signal-to-noise ratio of a column that counts
CELLS = 40  # taken from each image
MIXED = 0.2  # of the images of columns: a part is something else
WRONG = 1.6  # factor by which the survey's spacing may be off


@dataclass(frozen=True)
class Example:
    """values: (N, F) features of cells. truth: (N,) 1 columns, 0 none. kind: modality or kind of outsider; mixed ones of both."""

    values: Array
    truth: npt.NDArray[np.int_]
    kind: str


def examples(number: int, seed: int) -> list[Example]:
    """Half of them images of columns, half outsiders in turn."""
    net, _ = load_model("columns")
    kinds = sorted(KINDS)
    found = []
    for i in range(number):
        rng = np.random.default_rng([seed, i])
        side = int(rng.integers(*SIDE))
        if i % 2:
            kind = kinds[i // 2 % len(kinds)]
            image = random_outsider(rng, size=(side, side), kind=kind).image
            image = -image if rng.random() < 0.3 else image
            found.append(example(image, cast(ColumnFinder, net), rng, kind=kind))
            continue
        spacing = float(np.exp(rng.uniform(np.log(5), np.log(min(26, side / 12)))))
        made = random_image(rng, size=(side, side), nn_px=(spacing, spacing))
        image, foreign = made.image, None
        if rng.random() < MIXED:
            other = random_outsider(rng, size=image.shape)
            image, foreign = put_beside(image, other.image, rng)
        if np.median(made.snr) < SEEN:
            continue
        told = (made.columns[made.snr > SEEN], made.columns, foreign, spacing)
        found.append(example(image, cast(ColumnFinder, net), rng, kind=made.modality, told=told))
    return [e for e in found if len(e.truth)]


def example(
    image: npt.NDArray[np.float32],
    net: ColumnFinder,
    rng: np.random.Generator,
    *,
    kind: str,
    told: Any = None,
) -> Example:
    survey = survey_columns(image)
    position, logit, texture = detect(image, net, survey=survey)
    maps = features(texture, to_zoomed(position, survey.zoom), logit)
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in maps.shape[1:]), indexing="ij"), -1).reshape(-1, 2)
    truth = np.zeros(len(cells), dtype=int)
    if told is not None:
        at = from_zoomed(CELL * cells + (CELL - 1) / 2, survey.zoom)
        truth = labels(at, *told)
        if not 1 / WRONG < survey.spacing_px / told[3] < WRONG and np.any(truth == 1):
            truth[truth == 1] = -1  # seen at another scale than its own
    fair = np.flatnonzero(truth >= 0)
    if told is None:  # where columns are found matters most
        near = cKDTree(to_zoomed(position[logit > 0], survey.zoom)) if np.any(logit > 0) else None
        gap = near.query(CELL * cells + 3.5)[0] if near is not None else np.full(len(cells), np.inf)
        first = np.flatnonzero(gap < CELL)
        fair = np.concatenate([rng.permutation(first)[: CELLS // 2], rng.permutation(fair)])
    else:
        fair = rng.permutation(fair)
    fair = fair[:CELLS]
    return Example(maps.reshape(len(maps), -1).T[fair].astype(float), truth[fair], kind)


def labels(at: Array, seen: Array, columns: Array, foreign: Any, spacing: float) -> npt.NDArray[np.int_]:
    """1 with three visible columns within two spacings, 0 with none of any kind within 3.5, else −1; `foreign` overrules."""
    truth = np.full(len(at), -1)
    around = cKDTree(seen).query_ball_point(at, 2 * spacing, return_length=True)
    gap, _ = cKDTree(columns).query(at)
    truth[around >= 3] = 1
    truth[gap > 3.5 * spacing] = 0
    if foreign is not None:
        index = tuple(np.clip(np.rint(at).astype(int), 0, np.array(foreign.shape) - 1).T)
        inside, outside = (distance_transform_edt(m)[index] for m in (foreign, ~foreign))
        truth[inside > 0] = -1
        truth[inside > 2.5 * spacing] = 0
        truth[(truth == 1) & (outside < 1.5 * spacing)] = -1
    return truth


def stacked(found: Sequence[Example]) -> tuple[Array, npt.NDArray[np.int_], Array]:
    """values, truth, and weights by which every image counts the same, and known and unknown places too."""
    values, truth = (np.concatenate([getattr(e, name) for e in found]) for name in ("values", "truth"))
    weight = np.concatenate([np.full(len(e.truth), 1 / len(e.truth)) for e in found])
    for side in (0, 1):
        weight[truth == side] /= weight[truth == side].sum()
    return values, truth, weight * len(found)


def fit(found: Sequence[Example]) -> Weights:
    values, truth, weight = stacked(found)
    own = values[truth == 1]
    centre = np.median(own, 0)
    spread = np.maximum(np.subtract(*np.quantile(own, (0.84, 0.16), axis=0)) / 2, 1e-3)
    scaled = np.clip((own - centre) / spread, -4, 4)
    precision = np.linalg.inv(np.cov(scaled.T) + 0.05 * np.eye(len(centre)))
    blank = Weights(centre, spread, precision, np.zeros(2 * len(centre) + 1), 0.0)
    model = LogisticRegression(C=0.3, max_iter=2000).fit(expand(values, blank), truth, weight)
    return Weights(centre, spread, precision, model.coef_[0], float(model.intercept_[0]))


def write(weights: Weights) -> None:
    told = {
        name: np.round(getattr(weights, name), 4).tolist()
        for name in ("centre", "spread", "precision", "linear")
    }
    WEIGHTS.write_text(json.dumps({"offset": round(weights.offset, 4)} | told) + "\n")


def measures(weights: Weights, fresh: Sequence[Example]) -> dict[str, Any]:
    values, truth, weight = stacked(fresh)
    p = known(values.T, weights)
    cut = float(np.quantile(p[truth == 1], 0.05))
    bins = np.clip((p * 10).astype(int), 0, 9)
    reliability = [
        [round(float(np.average(v[bins == b], weights=weight[bins == b])), 3) for v in (p, truth)]
        for b in range(10)
        if (bins == b).sum() > 20
    ]
    sizes = [weight[bins == b].sum() for b in range(10) if (bins == b).sum() > 20]
    gaps = [abs(a - b) for a, b in reliability]
    names = sorted({e.kind for e in fresh})
    marked = {}
    for name in names:
        own = [e for e in fresh if e.kind == name]
        p_own = known(np.concatenate([e.values for e in own]).T, weights)
        t_own = np.concatenate([e.truth for e in own])
        for side, word in ((1, "columns"), (0, "none")):
            if (t_own == side).sum() > 20:
                marked[f"{name}: {word}"] = round(float((p_own[t_own == side] < UNKNOWN).mean()), 3)
    return {
        "images": len(fresh),
        "cells": len(truth),
        "area_under_curve": round(float(roc_auc_score(truth, p, sample_weight=weight)), 4),
        "detected_at_5_percent_false": round(
            float(np.average(p[truth == 0] < cut, weights=weight[truth == 0])), 4
        ),
        "cut_at_5_percent_false": round(cut, 3),
        "calibration_error": round(float(np.average(gaps, weights=sizes)), 4),
        "reliability": reliability,
        "marked": marked,
    }


def left_out(found: Sequence[Example], fresh: Sequence[Example]) -> dict[str, Any]:
    """For every kind of outsider: how well it is told when the fit has never seen it."""
    result = {}
    for kind in sorted(KINDS):
        weights = fit([e for e in found if e.kind != kind])
        own = measures(weights, [e for e in fresh if e.kind == kind or e.kind not in KINDS])
        names = ("area_under_curve", "detected_at_5_percent_false")
        pure = {"marked": own["marked"].get(f"{kind}: none")}
        result[kind] = pure | {name: own[name] for name in names}
    return result


def main() -> None:
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    number = numbers[0] if numbers else 480
    fresh = examples(number // 2, seed=7001)
    if "--check" in sys.argv:
        print(json.dumps(measures(load_weights(), fresh), indent=1))
        return
    found = examples(number, seed=7000)
    weights = fit(found)
    write(weights)
    result = measures(weights, fresh) | {"left_out": left_out(found, fresh)}
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
