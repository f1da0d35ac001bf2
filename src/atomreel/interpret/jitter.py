"""Scan-line jitter: how far each line of a scanned image is displaced, measured on the columns themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomreel.interpret.loops import compiled
from atomreel.interpret.peaks import Floats, Windows

SIGNIFICANT = 3.0


@dataclass(frozen=True)
class Jitter:
    """variance: of a line's displacement [px²], 0 when not significant. added: (N,) variance of each column [px²]."""

    variance: float
    added: npt.NDArray[np.float64]


def measure_jitter(
    gradient: Floats, information: Floats, w: Windows, *, lines: int, across: tuple[Floats, Floats]
) -> Jitter:
    """Variance of the random displacement of scan lines along one direction, by the method of moments.

    gradient, information: (N, n) per column and window row: Σ_x W·r·∂m_i/∂u and Σ_x W·∂m_i/∂u·∂m/∂u,
    where u is the direction of the displacement, m_i the column and m the sum of all columns (where two
    overlap, their slopes cancel). across: the same summed along y for each window column, where
    jitter does not add up: it calibrates the noise. lines: padded number of rows.

    A fitted column swallows the information-weighted mean of its lines' displacements, so the scores that
    remain are (D − A)·j plus noise of covariance D − A, with D = Σ_i w_il on the diagonal and
    A_ll' = Σ_i w_il w_il' / W_i. A column's error grows by σ² Σ_l w_l² / W².
    """
    total = information.sum(1)
    good = total > 1e-9 * max(float(total.max(initial=0.0)), 1e-30)
    added = np.zeros(len(total))
    added[good] = ((information[good] / total[good, None]) ** 2).sum(1)
    if good.sum() < 3:
        return Jitter(0.0, 0.0 * added)
    start = w.corner[good]
    score, noise, signal = _moments(gradient[good], information[good], start[:, 0], lines)
    lines_across = int(start[:, 1].max()) + gradient.shape[1] + 1
    base, base_noise, base_signal = _moments(across[0][good], across[1][good], start[:, 1], lines_across)
    whole = max(float(base_noise.sum()), 1e-30)
    level = max(float((base**2).sum()) / whole, 0.2)
    level_error = level * np.sqrt(2 * float(base_signal.sum())) / whole
    use = noise > 1e-6 * noise.max()
    weight = signal[use] / np.maximum(noise[use], 1e-30) ** 2
    scale = float((weight * signal[use]).sum())
    variance = float((weight * (score[use] ** 2 - level * noise[use])).sum()) / scale
    own = np.sqrt(2 * float((weight**2 * level**2 * signal[use]).sum())) / scale
    error = np.hypot(own, level_error * float((weight * noise[use]).sum()) / scale)
    if variance < SIGNIFICANT * error:
        return Jitter(0.0, 0.0 * added)
    return Jitter(variance, variance * added)


def _moments(
    gradient: Floats, information: Floats, start: Floats, lines: int
) -> tuple[Floats, Floats, Floats]:
    """Per line: score, its noise variance for white noise, and its variance per unit jitter variance."""
    span = information.shape[1]
    score, direct = np.zeros(lines), np.zeros(lines)
    left = np.zeros((lines, 2 * span - 1))  # D − A as a band: [line, line' − line + span − 1]
    _scatter((gradient, information), np.asarray(start), (score, direct, left))
    left[:, span - 1] += direct
    return score, np.maximum(left[:, span - 1], 0), np.square(left).sum(1)


@compiled
def _scatter(given, start, out):
    gradient, information = given
    score, direct, left = out
    span = information.shape[1]
    for c in range(len(start)):
        total = 0.0
        for a in range(span):
            total += information[c, a]
        total = max(total, 1e-30)
        for a in range(span):
            line = start[c] + a
            score[line] += gradient[c, a]
            direct[line] += information[c, a]
            share = information[c, a] / total
            for b in range(span):
                left[line, b - a + span - 1] -= share * information[c, b]
