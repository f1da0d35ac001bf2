"""Intensity classes of columns: a Gaussian mixture that knows the measurement errors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.interpret.loops import compiled

Floats = npt.NDArray[np.float64]
LEAST_SPREAD = 0.01  # of the intensity: no class is sharper than this, whatever the fit says
LEAST_SHARE = 0.01
UNKNOWN = 1e100  # error of a value that is not finite: its class is then anybody's guess
MOST_VALUES = 4000  # more say nothing new about four classes
MOST_CELLS = 300  # of like values, over all but the outermost
ERROR_STEP = 1.25  # ratio of errors that count as alike
GAPS = 40  # the widest ones are tried
ASIDE = 2.5  # scatters off a class: where another may hide in its tail
RARE = 0.02  # share of that one at the start
BRIEF = 8  # steps from every start, after which the best go on
STEPS = 60
TOLERANCE = 1e-5  # of the log-likelihood per value and step: less is the end


@dataclass(frozen=True)
class SpeciesModel:
    """Classes from dimmest to brightest: share, mean and intrinsic spread (sd), in image units."""

    shares: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"I{k + 1}" for k in range(len(self.means)))

    def to_dict(self) -> dict[str, Any]:
        return {"shares": list(self.shares), "means": list(self.means), "sds": list(self.sds)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SpeciesModel:
        shares, means, sds = (tuple(float(v) for v in values[key]) for key in ("shares", "means", "sds"))
        return cls(shares, means, sds)


@dataclass(frozen=True)
class Species:
    """labels: (N,) I1 (dimmest) … In. probability: (N, K), rows sum to 1. model: the classes."""

    labels: npt.NDArray[np.str_]
    probability: Floats
    model: SpeciesModel


def fit_species(
    intensity: npt.ArrayLike,
    intensity_err: npt.ArrayLike,
    *,
    max_classes: int = 4,
    rng: np.random.Generator | int | None = 0,
) -> SpeciesModel:
    """Classes of intensities (N,) with 1σ errors (N,), pooled over as many frames as one likes.

    Each class is Gaussian with an intrinsic spread; a measurement scatters by both, sd² + err². The number
    of classes has the least ICL (BIC plus twice the entropy of the assignment: Biernacki et al., IEEE PAMI
    22 (2000) 719; on column intensities De Backer et al., Ultramicroscopy 134 (2013) 23), so one broad
    population is not cut in two, and neighbouring classes must differ by more than both scatter. rng: which of very many
    values are used. Raises InputError on lengths that differ.
    """
    value, error = _checked(intensity, intensity_err)
    if max_classes < 1:
        raise InputError(f"max_classes must be at least 1, got {max_classes}")
    generator = np.random.default_rng(rng)
    if len(value) > MOST_VALUES:
        pick = generator.choice(len(value), MOST_VALUES, replace=False)
        value, error = value[pick], error[pick]
    if not len(value):
        return SpeciesModel((1.0,), (0.0,), (1.0,))
    cells = _grouped(value, error)
    best, least, runs = None, np.inf, None
    for count in range(1, max_classes + 1):
        if len(value) < 10 * count and count > 1:
            break
        runs, model, score = _best_mixture(np.sort(value), cells, runs)
        if model is not None and score < least:
            best, least = model, score
    assert best is not None
    return best


def label_species(intensity: npt.ArrayLike, intensity_err: npt.ArrayLike, *, model: SpeciesModel) -> Species:
    """Most probable class of each intensity under `model`; the same model gives the same names in every frame."""
    value, error = _checked(intensity, intensity_err, finite_only=False)
    known = np.isfinite(value) & np.isfinite(error)
    log = _log_parts(np.where(known, value, 0.0), np.where(known, error, UNKNOWN), model)
    probability = np.exp(log - np.logaddexp.reduce(log, axis=1, keepdims=True))
    labels = np.array(model.names)[probability.argmax(1)]
    return Species(labels, probability, model)


def _checked(
    intensity: npt.ArrayLike, error: npt.ArrayLike, *, finite_only: bool = True
) -> tuple[Floats, Floats]:
    value, sigma = np.asarray(intensity, float), np.asarray(error, float)
    if value.ndim != 1 or value.shape != sigma.shape:
        raise InputError(f"intensity and its error must be (N,) each, got {value.shape} and {sigma.shape}")
    if not finite_only:
        return value, sigma
    use = np.isfinite(value) & np.isfinite(sigma) & (sigma >= 0)
    return value[use], sigma[use]


def _log_parts(value: Floats, error: Floats, model: SpeciesModel) -> Floats:
    """(N, K) log of share × density."""
    variance = np.square(model.sds)[None, :] + np.square(error)[:, None]
    gap = value[:, None] - np.array(model.means)
    return np.asarray(
        np.log(np.array(model.shares)) - 0.5 * (gap**2 / variance + np.log(2 * np.pi * variance))
    )


@dataclass(frozen=True)
class _Cells:
    """Values that hardly differ, and whose errors hardly do, as one: mean value, mean square error and number (M,).

    typical: median square error of all values.
    """

    value: Floats
    variance: Floats
    count: Floats
    typical: float


def _grouped(value: Floats, error: Floats) -> _Cells:
    """Cells a third of the sharpest class in width: the likelihood changes by less than a hundredth per column."""
    sharpest = max(float(np.quantile(error, 0.1)), LEAST_SPREAD * abs(float(np.median(value))))
    typical = float(np.median(error)) ** 2
    low, high = np.quantile(value, [0.01, 0.99])
    step = max(sharpest / 3, (high - low) / MOST_CELLS)
    if step <= 0:
        return _Cells(value, error**2, np.ones(len(value)), typical)
    place = np.clip(np.rint((value - low) / step), -1e9, 1e9).astype(np.int64)
    least = 1e-3 * max(np.sqrt(typical), step)
    sharp = np.rint(np.log(np.maximum(error, least)) / np.log(ERROR_STEP)).astype(np.int64)
    _, label, count = np.unique(place * 4096 + sharp, return_inverse=True, return_counts=True)
    mean = np.bincount(label, value) / count
    return _Cells(mean, np.bincount(label, error**2) / count, count.astype(float), typical)


@dataclass(frozen=True)
class _Runs:
    """R mixtures of K classes that are fitted side by side: shares, means, variances (R, K)."""

    shares: Floats
    means: Floats
    variances: Floats

    def only(self, rows: npt.NDArray[np.intp]) -> _Runs:
        return _Runs(self.shares[rows], self.means[rows], self.variances[rows])

    def model(self, row: int) -> SpeciesModel:
        order = np.argsort(self.means[row])
        parts = (self.shares[row], self.means[row], np.sqrt(self.variances[row]))
        shares, means, sds = (tuple(float(v) for v in part[order]) for part in parts)
        return SpeciesModel(shares, means, sds)


def _best_mixture(
    value: Floats, cells: _Cells, fewer: _Runs | None
) -> tuple[_Runs, SpeciesModel | None, float]:
    """The likeliest mixture of a class more than `fewer`, and the one with the least ICL whose classes are distinct."""
    runs = _starts(value, cells, fewer)
    runs, score = _maximise(runs, cells, steps=BRIEF)
    distinct = np.where(_distinct(runs, cells), score, np.inf)
    runs, score = _maximise(runs.only(np.unique([score.argmin(), distinct.argmin()])), cells, steps=STEPS)
    likeliest = runs.only(np.array([score.argmin()]))
    score = np.where(_distinct(runs, cells), score, np.inf)
    best = int(np.argmin(score))
    return likeliest, runs.model(best) if np.isfinite(score[best]) else None, float(score[best])


def _starts(value: Floats, cells: _Cells, fewer: _Runs | None) -> _Runs:
    """Where fits to sorted values begin: even shares, even steps, cuts at the widest gaps, and the mixture of a class
    less with one more class on either side of each of its own."""
    count = 1 if fewer is None else fewer.means.shape[1] + 1
    means = [np.quantile(value, (np.arange(count) + 0.5) / count)]
    if count > 1:
        means.append(np.quantile(value, 0.02) + np.ptp(value) * (np.arange(count) + 1) / (count + 1))
    variances = [np.full(count, (value.std() / count) ** 2)] * len(means)
    shares = [np.full(count, 1 / count)] * len(means)
    pieces = _cut(value, count)
    if len(pieces) == count > 1:
        means.append(np.array([piece.mean() for piece in pieces]))
        variances.append(np.array([piece.var() for piece in pieces]))
        shares.append(np.array([len(piece) / len(value) for piece in pieces]))
    if fewer is not None:
        scatter = np.sqrt(fewer.variances[0] + cells.typical)
        for place in np.concatenate([fewer.means[0] - ASIDE * scatter, fewer.means[0] + ASIDE * scatter]):
            means.append(np.append(fewer.means[0], place))
            variances.append(np.append(fewer.variances[0], cells.typical))
            shares.append(np.append(fewer.shares[0] * (1 - RARE), RARE))
    floor = LEAST_SPREAD * np.maximum(np.abs(np.array(means)), 1e-12)
    return _Runs(np.array(shares), np.array(means), np.maximum(np.array(variances), floor**2))


def _cut(value: Floats, count: int) -> list[Floats]:
    """Sorted values in `count` pieces of three or more, cut at the widest gaps; fewer where there are no more such.

    This start finds rare classes that stand apart, which the others miss.
    """
    cuts = [0, len(value)]
    for place in 1 + np.argsort(-np.diff(value), kind="stable")[:GAPS]:
        if len(cuts) > count:
            break
        if all(abs(place - cut) >= 3 for cut in cuts):
            cuts.append(int(place))
    cuts.sort()
    return [value[first:last] for first, last in pairwise(cuts)]


def _distinct(runs: _Runs, cells: _Cells) -> npt.NDArray[np.bool_]:
    """(R,) no class is empty, and neighbouring classes differ by more than twice what a typical member scatters."""
    number = cells.count.sum()
    order = np.argsort(runs.means, axis=1)
    means, variances = (np.take_along_axis(v, order, axis=1) for v in (runs.means, runs.variances))
    scatter = np.sqrt(variances + cells.typical)
    filled = runs.shares.min(1) >= min(LEAST_SHARE, 3 / number)
    return np.asarray(filled & (np.diff(means, axis=1) > scatter[:, 1:] + scatter[:, :-1]).all(1))


def _maximise(runs: _Runs, cells: _Cells, *, steps: int) -> tuple[_Runs, Floats]:
    """Expectation-maximisation with known errors, and the ICL (R,): the latent intensity is integrated out."""
    shares, means, variances = (part.copy() for part in (runs.shares, runs.means, runs.variances))
    number = cells.count.sum()
    told = np.empty((len(means), 2))  # log-likelihood and entropy
    for r in range(len(means)):
        _climb(
            (shares[r], means[r], variances[r]), (cells.value, cells.variance, cells.count, steps), told[r]
        )
    likelihood, entropy = told[:, 0] - 0.5 * np.log(2 * np.pi) * number, told[:, 1]
    freedom = (3 * means.shape[1] - 1) * np.log(number)
    return _Runs(shares, means, variances), -2 * likelihood + freedom + 2 * entropy


@compiled
def _climb(mixture, given, told):
    """Steps of one mixture, in place, until the likelihood hardly grows; its likelihood and the classes' entropy."""
    shares, means, variances = mixture
    value, variance, count, steps = given
    classes, cells = len(means), len(value)
    part, sums = np.empty(classes), np.empty((3, classes))  # of weights, of moves, of squares
    before, number = -1e300, count.sum()
    for step in range(steps + 1):
        sums[:] = 0
        likelihood, entropy = 0.0, 0.0
        for c in range(cells):
            top = -1e300
            for k in range(classes):
                spread, gap = variances[k] + variance[c], value[c] - means[k]
                part[k] = np.log(shares[k]) - 0.5 * (gap * gap / spread + np.log(spread))
                top = max(top, part[k])
            total = 0.0
            for k in range(classes):
                part[k] = np.exp(part[k] - top)
                total += part[k]
            likelihood += count[c] * (np.log(total) + top)
            for k in range(classes):
                share = part[k] / total
                entropy -= count[c] * share * np.log(max(share, 1e-300))
                spread, gap = variances[k] + variance[c], value[c] - means[k]
                trust = variances[k] / (spread + 1e-300)
                move = trust * gap
                weight = share * count[c]
                sums[0, k] += weight
                sums[1, k] += weight * move
                sums[2, k] += weight * (move * move + trust * variance[c])
        if step == steps or likelihood - before < TOLERANCE * number:
            break
        before = likelihood
        for k in range(classes):
            weight = max(sums[0, k], 1e-9)
            shift = sums[1, k] / weight
            shares[k] = weight
            means[k] += shift
            floor = LEAST_SPREAD * max(abs(means[k]), 1e-12)
            variances[k] = max(sums[2, k] / weight - shift * shift, floor * floor)
        shares /= shares.sum()
    told[0], told[1] = likelihood, entropy
