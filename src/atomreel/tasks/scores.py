"""Scores: how sure the network is of a column and of those around it, turned into the probability that it is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import expit

from atomreel.core.errors import ModelError
from atomreel.interpret.nearest import mean_of_nearest

Array = npt.NDArray[np.float64]
AROUND = 48  # maxima whose decidedness tells how well a region can be read
LIKELY = 0.3  # raw probability from which on a maximum takes part in that
RIDGE = 1e-4  # keeps the weights finite where everything can be told apart


def sureness(position: Array, logit: npt.NDArray[np.floating]) -> Array:
    """(N,) 0…1: mean |2p − 1| over the nearest maxima (N, 2) that may be columns, p = 1 / (1 + exp(−logit))."""
    raw = expit(logit.astype(np.float64))
    likely = np.flatnonzero(raw > LIKELY)
    if not len(likely):
        return np.zeros(len(position))
    decided = np.abs(2 * raw[likely] - 1)
    return mean_of_nearest(position, position[likely], decided, count=AROUND)


def evidence(logit: npt.NDArray[np.floating], sure: Array, weights: Sequence[float]) -> Array:
    """w₀ + w₁ z + w₂ s + w₃ z s of the logit z and the sureness s: where all is clear, the same logit says more."""
    return np.asarray(_terms(logit, sure) @ np.asarray(weights, dtype=float))


def _terms(logit: npt.NDArray[np.floating], sure: Array) -> Array:
    z = logit.astype(np.float64)
    return np.stack([np.ones_like(z), z, sure, z * sure], axis=1)


def fit_evidence(found: list[dict[str, Any]]) -> list[float]:
    """Weights of `evidence` with the greatest likelihood of what was right; it never falls with the logit
    nor with the sureness."""
    terms = _terms(*(np.concatenate([f[key] for f in found]) for key in ("logit", "sure")))
    sign = np.where(np.concatenate([f["right"] for f in found]), 1.0, -1.0)
    if not len(sign):
        return [0.0, 1.0, 0.0, 0.0]

    def loss(w: Array) -> tuple[float, Array]:
        margin = sign * (terms @ w)
        slope = -(sign * expit(-margin)) @ terms / len(sign) + 2 * RIDGE * w
        return float(np.logaddexp(0, -margin).mean() + RIDGE * w @ w), slope

    bounds = [(None, None), (0, None), (0, None), (0, None)]
    done = optimize.minimize(loss, np.array([0.0, 1.0, 0.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B")
    return [round(float(v), 4) for v in done.x]


def calibrated(position: Array, logit: npt.NDArray[np.floating], table: Mapping[str, Any]) -> Array:
    """Probability that each maximum (N, 2) of these logits (N,) is a column, by what `ColumnTask.score` fitted.

    An empty table leaves the network's own. Raises ModelError for a table of another kind, as older models have.
    """
    if not table:
        return np.asarray(expit(logit.astype(np.float64)))
    if missing := {"weights", "evidence", "score"} - set(table):
        raise ModelError(
            f"the model's card has scores without {', '.join(sorted(missing))}: it was made by another version of "
            "atomreel; train the model again"
        )
    told = evidence(logit, sureness(position, logit), table["weights"])
    return np.interp(told, table["evidence"], table["score"])


def least_score(score: Array, precision: float, *, sure: float = 1.0) -> float:
    """The least score at which the columns from there on are right in the share `precision` on average, by the scores
    themselves: 1 − precision is their false-discovery rate. sure: the probability of what the scores take for granted,
    without which all are false. Above all scores where even the best do not reach it."""
    down = np.sort(score)[::-1]
    enough = np.flatnonzero(sure * np.cumsum(down) >= precision * np.arange(1, len(down) + 1))
    return float(down[enough[-1]]) if len(enough) else float(np.nextafter(1.0, 2.0))


def calibrate(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Logit → probability that the column is right, monotone; and the score, 0.3 to 0.8, with the best pooled F1."""
    logit = np.concatenate([f["logit"] for f in found])
    right = np.concatenate([f["right"] for f in found]).astype(float)
    missed = sum(f["missed"] for f in found)
    order = np.argsort(logit)
    bins = [b for b in np.array_split(order, min(40, max(1, len(order) // 25))) if len(b)]
    centre = np.array([logit[b].mean() for b in bins])
    rate = np.array([(right[b].sum() + 0.5) / (len(b) + 1) for b in bins])
    rate = optimize.isotonic_regression(rate, weights=[len(b) for b in bins]).x
    score = np.interp(logit, centre, rate)
    down = np.argsort(-score)
    hits = np.cumsum(right[down])
    f1 = 2 * hits / (np.arange(1, len(down) + 1) + hits[-1] + missed) if len(down) else np.zeros(1)
    best = float(score[down][int(np.argmax(f1))]) if len(down) else 0.5
    return {
        "logit": [round(float(v), 3) for v in centre],
        "score": [round(float(v), 4) for v in rate],
        "threshold": round(float(np.clip(best, 0.3, 0.8)), 3),
    }


def summarise(found: list[dict[str, Any]], calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Precision, recall and F1 pooled and by dose, and how far the score is from being a probability."""
    doses = np.array([f["dose"] for f in found])
    groups = {"all": np.ones(len(found), bool), "no dose": doses <= 0}
    for low in (1, 100, 1000, 10_000):
        groups[f"dose {low} to {10 * low if low > 1 else 100}"] = (doses >= low) & (
            doses < (10 * low if low > 1 else 100)
        )
    scores: dict[str, Any] = {}
    for name, chosen in groups.items():
        part = [f for f, c in zip(found, chosen, strict=True) if c]
        if part:
            scores[name] = _rates(part, calibration)
    return {**scores.pop("all"), "by_dose": scores}


def _rates(found: list[dict[str, Any]], calibration: Mapping[str, Any]) -> dict[str, Any]:
    logit = np.concatenate([f["logit"] for f in found])
    right = np.concatenate([f["right"] for f in found])
    score = np.interp(logit, calibration["logit"], calibration["score"])
    called = score >= calibration["threshold"]
    hits, total = int((called & right).sum()), int(right.sum()) + sum(f["missed"] for f in found)
    bins = np.minimum((score * 10).astype(int), 9)
    gaps = [abs(score[bins == b].sum() - right[bins == b].sum()) for b in range(10)]
    return {
        "images": len(found),
        "columns": total,
        "precision": round(hits / max(1, int(called.sum())), 4),
        "recall": round(hits / max(1, total), 4),
        "f1": round(2 * hits / max(1, int(called.sum()) + total), 4),
        "calibration_error": round(float(sum(gaps) / max(1, len(score))), 4),
    }
