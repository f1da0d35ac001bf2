"""Intensity classes of columns: a Gaussian mixture that knows the measurement errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

Floats = npt.NDArray[np.float64]
LEAST_SPREAD = 0.01  # of the intensity: no class is sharper than this, whatever the fit says
LEAST_SHARE = 0.01
UNKNOWN = 1e100  # error of a value that is not finite: its class is then anybody's guess
MOST_VALUES = 4000  # more say nothing new about four classes


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
        return cls(*(tuple(float(v) for v in values[key]) for key in ("shares", "means", "sds")))


@dataclass(frozen=True)
class Species:
    """labels: (N,) I1 (dimmest) … In. probability: (N, K), rows sum to 1. model: the classes."""

    labels: npt.NDArray[np.str_]
    probability: Floats
    model: SpeciesModel


def assign_species(
    intensity: npt.ArrayLike,
    intensity_err: npt.ArrayLike,
    *,
    max_classes: int = 4,
    rng: np.random.Generator | int | None = 0,
) -> Species:
    """Fit classes to the intensities of one image and label them: `fit_species`, then `label_species`."""
    model = fit_species(intensity, intensity_err, max_classes=max_classes, rng=rng)
    return label_species(intensity, intensity_err, model=model)


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
    population is not cut in two. rng: restarts of the fit. Raises InputError on lengths that differ.
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
    best, least = None, np.inf
    for count in range(1, max_classes + 1):
        if len(value) < 10 * count and count > 1:
            break
        model, score = _best_mixture(value, error, count, generator)
        if model is not None and score < least and (count == 1 or _apart(model, error)):
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


def _best_mixture(
    value: Floats, error: Floats, count: int, rng: np.random.Generator
) -> tuple[SpeciesModel | None, float]:
    best, least = None, np.inf
    starts = [np.quantile(value, (np.arange(count) + 0.5) / count)]
    starts.append(np.quantile(value, 0.02) + np.ptp(value) * (np.arange(count) + 1) / (count + 1))
    starts += [np.sort(rng.choice(value, count)) for _ in range(0 if count == 1 else 3)]
    for start in starts:
        model = _maximise(value, error, start)
        log = _log_parts(value, error, model)
        total = np.logaddexp.reduce(log, axis=1)
        share = np.exp(log - total[:, None])
        entropy = -float((share * np.log(np.maximum(share, 1e-300))).sum())
        score = -2 * float(total.sum()) + (3 * count - 1) * np.log(len(value)) + 2 * entropy
        if score < least and min(model.shares) >= min(LEAST_SHARE, 3 / len(value)):
            best, least = model, score
    return best, least


def _maximise(value: Floats, error: Floats, means: Floats, *, steps: int = 200) -> SpeciesModel:
    """Expectation-maximisation with known errors: the latent intensity of each column is integrated out."""
    count = len(means)
    floor = LEAST_SPREAD * np.maximum(np.abs(means), 1e-12)
    spread = max(float(value.std()) / count, float(floor.max()))
    model = SpeciesModel((1 / count,) * count, tuple(means), (spread,) * count)
    before = -np.inf
    for _ in range(steps):
        log = _log_parts(value, error, model)
        total = np.logaddexp.reduce(log, axis=1)
        now = float(total.sum())
        if now - before < 1e-5 * len(value):
            break
        before = now
        share = np.exp(log - total[:, None])
        weight = np.maximum(share.sum(0), 1e-9)
        sd2 = np.square(model.sds)
        trust = sd2 / (sd2 + error[:, None] ** 2 + 1e-300)
        latent = np.array(model.means) + trust * (value[:, None] - np.array(model.means))
        mean = (share * latent).sum(0) / weight
        new_sd2 = (share * ((latent - mean) ** 2 + trust * error[:, None] ** 2)).sum(0) / weight
        sd = np.maximum(np.sqrt(new_sd2), LEAST_SPREAD * np.maximum(np.abs(mean), 1e-12))
        model = SpeciesModel(tuple(weight / weight.sum()), tuple(mean), tuple(sd))
    order = np.argsort(model.means)
    return SpeciesModel(*(tuple(float(v[k]) for k in order) for v in (model.shares, model.means, model.sds)))


def _apart(model: SpeciesModel, error: Floats) -> bool:
    """Neighbouring classes must differ by more than twice what a typical member scatters."""
    scatter = np.sqrt(np.square(model.sds) + np.median(error) ** 2)
    gaps = np.diff(model.means)
    return bool((gaps > scatter[1:] + scatter[:-1]).all())
