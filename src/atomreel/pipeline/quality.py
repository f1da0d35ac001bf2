"""Measures by which a reader can judge a Run, each with its meaning and whether it is a reason to worry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.image import FloatArray
from atomreel.interpret.pairs import coverage_gaps, short_pairs
from atomreel.pipeline.frames import central_part, find_atoms
from atomreel.pipeline.survey import ColumnPlan, Plan
from atomreel.predict.columns import Found
from atomreel.predict.domain import MANY, MOST, UNKNOWN


def quality(plan: Plan, atoms: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """name → value, meaning, warn. atoms: columns of the preview frames."""
    frames = [atoms[atoms.frame == i] for i in plan.preview]
    parts = [central_part(frame, plan.movie.shape) for frame in frames]
    gaps = np.median([coverage_gaps(near, shape=shape)[0] for shape, near in parts])
    outside = float((atoms.domain < UNKNOWN).mean()) if len(atoms) and "domain" in atoms else 0.0
    pairs = short_pairs(atoms)[0] if len(atoms) else 0.0
    first = plan.columns.source.clean(plan.preview[0])[0]
    found = find_atoms(plan.columns, first)
    rows = {
        "short_pairs": (pairs, "share of columns closer than 0.6 of the usual distance to another one", 0.02),
        "coverage_gaps": (
            float(gaps),
            "share of the field far from every column: vacuum, holes, or missed columns",
            0.25,
        ),
        "outside_domain_fraction": (
            outside,
            "share of columns where the image looks like nothing that the model knows (domain below 0.5)",
            MANY,
        ),
        "unknown_area_fraction": (
            float((found.known.maps["domain"] < UNKNOWN).mean()),
            "share of the first shown frame that looks like nothing that the model knows: vacuum, amorphous, thick",
            MOST,
        ),
    }
    measures = {
        name: {"value": value, "meaning": meaning, "warn": bool(value > limit)}
        for name, (value, meaning, limit) in rows.items()
    }
    left = residual_over_noise(found, first)
    if left is not None:
        measures["residual_rms_over_noise"] = {
            "value": left,
            "meaning": "what the fit leaves over, in units of the noise that it measured: 1 is ideal",
            "warn": left > 1.5,
        }
    halves = half_dose_agreement(plan.columns, first)
    if halves is not None:
        measures["half_dose_agreement"] = {
            "value": halves,
            "meaning": "scatter between the columns of two halves of the counts, over the scatter that their errors claim",
            "warn": not 0.7 < halves < 1.4,
        }
    return measures


def residual_over_noise(found: Found, data: FloatArray) -> float | None:
    """rms of (image − model) / σ with σ² = gain·model + constant as the fit measured it; None without a fit."""
    if found.residual is None or not found.diagnostics.get("gain", 0) >= 0:
        return None
    variance = found.diagnostics.get("gain", 0.0) * (data - found.residual) + found.diagnostics.get(
        "zero", 0.0
    )
    usable = variance > 0.05 * max(float(np.median(variance)), 1e-30)
    if not usable.any():
        return None
    return float(np.sqrt(np.mean(found.residual[usable] ** 2 / variance[usable])))


def half_dose_agreement(plan: ColumnPlan, data: FloatArray) -> float | None:
    """Split the counts of one frame at random into two independent halves and compare the columns found in them.

    1 means that the claimed errors are right. None where the image is not counts (no whole numbers), where
    counts are too many to be them, or where fewer than ten columns are found in both.
    """
    counts = np.rint(data)
    if np.abs(data - counts).max() > 0 or counts.min() < 0 or counts.max() > 4000 or data.size > 2048**2:
        return None
    half = (
        np.random.default_rng(plan.recipe.run.seed).binomial(counts.astype(np.int64), 0.5).astype(np.float32)
    )
    first, second = find_atoms(plan, half).table, find_atoms(plan, counts.astype(np.float32) - half).table
    if min(len(first), len(second)) < 10:
        return None
    distance, nearest = cKDTree(second[["y", "x"]]).query(first[["y", "x"]])
    near = distance < 0.3 * plan.survey.spacing_px
    if near.sum() < 10:
        return None
    a, b = first[near].reset_index(drop=True), second.iloc[nearest[near]].reset_index(drop=True)
    z = np.concatenate([(a[k] - b[k]) / np.hypot(a[f"{k}_err"], b[f"{k}_err"]) for k in "yx"])
    return float(np.median(np.abs(z[np.isfinite(z)])) / 0.6745)
