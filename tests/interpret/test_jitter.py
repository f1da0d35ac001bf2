"""Jitter's moments, on scores made by the model that the method assumes."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import peaks
from atomreel.interpret.jitter import measure_jitter


def columns(rng, sd, *, count=400, span=15, lines=128):
    """Scores per column and line after each column has swallowed the mean of its lines' displacements."""
    start = np.stack([rng.integers(0, lines - span, count), rng.integers(0, 200, count)], 1)
    t = np.arange(span) - span / 2 + 0.5
    information = np.tile(40 * np.exp(-(t**2) / 8.0), (count, 1))
    shift = rng.normal(0, sd, lines)[start[:, :1] + np.arange(span)]
    raw = information * shift + np.sqrt(information) * rng.standard_normal((count, span))
    mean = raw.sum(1, keepdims=True) / information.sum(1, keepdims=True)
    across = information * 0 + rng.standard_normal((count, span)) * np.sqrt(information)
    across -= information * across.sum(1, keepdims=True) / information.sum(1, keepdims=True)
    none = np.zeros((0, 1), np.float32)
    w = peaks.Windows(none, none, none, start, span // 2, peaks.round_shape(2.0))
    return measure_jitter(raw - information * mean, information, w, lines=lines, across=(across, information))


def test_variance_is_recovered(rng):
    found = [columns(rng, 0.3) for _ in range(8)]
    assert np.mean([f.variance for f in found]) == pytest.approx(0.09, rel=0.15)
    assert found[0].added[0] / found[0].variance == pytest.approx(1 / (4 * np.sqrt(np.pi)), rel=0.05)


def test_none_is_found_where_there_is_none(rng):
    found = [columns(rng, 0.0) for _ in range(20)]
    assert sum(f.variance > 0 for f in found) <= 2
