"""Atoms per column in HAADF-STEM by statistics: scattering cross-sections and a Gaussian mixture with one common width.

S. Van Aert et al., Phys. Rev. B 87 (2013) 064107 (cross-sections, mixture, ICL); A. De Backer et al.,
Ultramicroscopy 134 (2013) 23 (how reliable it is); H. E et al., Ultramicroscopy 133 (2013) 109 (integration over cells).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.interpret.species import SpeciesModel, label_species

Floats = npt.NDArray[np.float64]
Spacing = Literal["equal", "free"]
STEPS = 300
CONVERGED = 1e-5  # change of the log-likelihood per column at which the fit stops
NARROWEST = 1e-3  # of the range of the sections: no component is sharper
LEAST_MEMBERS = 1.0  # a free component that explains fewer columns than this is none


@dataclass(frozen=True)
class Sections:
    """section, error: (N,) scattering cross-sections and their 1σ errors [Å²]. pixels: (N,) pixels integrated over."""

    section: Floats
    error: Floats
    pixels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """shares, means (rising): (K,). sd: the width that all components share. log_likelihood, icl, bic: of the fit."""

    shares: Floats
    means: Floats
    sd: float
    log_likelihood: float
    icl: float
    bic: float

    @property
    def species(self) -> SpeciesModel:
        """The same as classes with equal intrinsic spread."""
        shares = np.maximum(self.shares, 1e-12)
        return SpeciesModel(tuple(shares / shares.sum()), tuple(self.means), (self.sd,) * len(self.means))


@dataclass(frozen=True)
class Counted:
    """counts: (N,) most probable number of atoms. count_p: (N,) its probability. probability: (N, K), column k stands
    for `first` + k atoms, rows sum to 1. mixture: the one with the least ICL. tried: every number of components that
    was fitted. unit: cross-section per atom [Å²]. offset_misfit: first → rms distance of the means from
    unit · atoms, in units of one atom; two that are alike mean that the data do not decide."""

    counts: npt.NDArray[np.int64]
    count_p: Floats
    probability: Floats
    first: int
    mixture: Mixture
    tried: Mapping[int, Mixture]
    unit: float
    offset_misfit: Mapping[int, float]


def cross_sections(
    image: npt.ArrayLike,
    positions: npt.ArrayLike,
    *,
    pixel: float,
    radius: float | None = None,
    background: float = 0.0,
    variance: npt.ArrayLike = 0.0,
) -> Sections:
    """Intensity integrated over each column's Voronoi cell × pixel area: the scattering cross-section [Å²].

    image: (Y, X) as a share of the incident beam. positions: (N, 2) (y, x) [px]. pixel: [Å]. radius: [px] beyond which
    a pixel belongs to no column, by default 0.7 of the median nearest distance. background: of the support, the same
    unit as the image. variance: of a pixel's value, one number or (Y, X). Raises InputError.
    """
    data, at = np.asarray(image, float), np.asarray(positions, float).reshape(-1, 2)
    if data.ndim != 2 or not pixel > 0:
        raise InputError(f"expected an image (Y, X) and pixel > 0 Å, got {data.shape} and {pixel}")
    if not len(at):
        return Sections(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
    tree = cKDTree(at)
    if radius is None:
        radius = 0.7 * float(np.median(tree.query(at, k=2)[0][:, 1])) if len(at) > 1 else min(data.shape) / 2
    grid = np.indices(data.shape).reshape(2, -1).T
    owner = tree.query(grid, distance_upper_bound=radius)[1]
    value = data.ravel() - background
    noise = np.broadcast_to(np.asarray(variance, float), data.shape).ravel()
    n = len(at) + 1  # the last one: pixels of nobody
    total, var = (np.bincount(owner, w, minlength=n)[:-1] for w in (value, noise))
    return Sections(
        np.asarray(total * pixel**2, dtype=float),
        np.asarray(np.sqrt(var) * pixel**2, dtype=float),
        np.bincount(owner, minlength=n)[:-1].astype(np.int64),
    )


def count_atoms(
    section: npt.ArrayLike,
    error: npt.ArrayLike | None = None,
    *,
    spacing: Spacing = "equal",
    max_components: int = 20,
    unit: float | None = None,
) -> Counted:
    """Numbers of atoms from cross-sections (N,) [Å²] with 1σ errors (N,), as many classes as the least ICL says.

    spacing: of the means, "equal" (thin or incoherent: each atom adds the same) or "free" (channelling bends the curve).
    unit: cross-section of one atom [Å²], from a simulation; decides how many atoms the dimmest class has. Without it the
    means must lie on a line through the origin, as they do for incoherent scattering, and the offset with the least
    misfit is taken. A class that no column belongs to is possible with equal spacing only.

    ICL = −2 log L + p log N + 2 · entropy of the assignment (Biernacki et al., IEEE PAMI 22 (2000) 719);
    p = K + 2 parameters with equal spacing, 2K with free. Raises InputError.
    """
    value = np.asarray(section, float)
    sigma = np.zeros_like(value) if error is None else np.asarray(error, float)
    if value.ndim != 1 or value.shape != sigma.shape or not (np.isfinite(value).all() and (sigma >= 0).all()):
        raise InputError("sections and their errors must be (N,) each, finite, errors at least 0")
    if len(value) < 3 or max_components < 1:
        raise InputError(
            f"counting needs at least 3 columns and 1 component, got {len(value)} and {max_components}"
        )
    if spacing not in ("equal", "free") or (unit is not None and not unit > 0):
        raise InputError(f"spacing is 'equal' or 'free' and unit > 0, got {spacing!r} and {unit}")
    tried: dict[int, Mixture] = {}
    for count in range(1, min(max_components, len(value) // 2) + 1):
        if (fitted := fit_mixture(value, sigma, count, spacing=spacing)) is not None:
            tried[count] = fitted
    best = min(tried.values(), key=lambda m: m.icl)
    misfit = offset_misfits(best, unit=unit)
    first = min(misfit, key=lambda k: misfit[k])
    probability = label_species(value, sigma, model=best.species).probability
    top = probability.argmax(1)
    each = unit or _slope(best, first)
    return Counted(first + top, probability.max(1), probability, first, best, tried, each, misfit)


def fit_mixture(value: Floats, error: Floats, count: int, *, spacing: Spacing = "equal") -> Mixture | None:
    """The likeliest mixture of `count` components of one width; None where a free component stays empty.

    Expectation–maximisation from several starts; the known error of every column is integrated out.
    """
    best = None
    for start in _starts(value, count):
        trial = _climb(value, error, start, equal=spacing == "equal")
        if best is None or trial.log_likelihood > best.log_likelihood:
            best = trial
    assert best is not None
    empty = float(best.shares.min()) * len(value) < LEAST_MEMBERS
    # The outermost components must be inhabited, or any number of empty ones could be added outside.
    ends = min(best.shares[0], best.shares[-1]) * len(value) < LEAST_MEMBERS
    return None if (empty and spacing == "free") or (ends and count > 1) else best


def offset_misfits(mixture: Mixture, *, unit: float | None = None) -> dict[int, float]:
    """First number of atoms → rms distance of the means from unit · atoms, in atoms, weighted by the shares."""
    most = 40 if unit is None else max(1, int(np.ceil(mixture.means[0] / unit)) + 1)
    if unit is None and len(mixture.means) == 1:
        return {1: 0.0}
    misfit = {}
    for first in range(1, most + 1):
        each = unit or _slope(mixture, first)
        gap = mixture.means / each - (first + np.arange(len(mixture.means)))
        # With a given unit the curve may bend away from it with thickness: only the dimmest class is compared.
        misfit[first] = abs(float(gap[0])) if unit else float(np.sqrt((mixture.shares * gap**2).sum()))
    return misfit


def _slope(mixture: Mixture, first: int) -> float:
    """Cross-section per atom of the line through the origin."""
    atoms = first + np.arange(len(mixture.means))
    return float((mixture.shares * atoms * mixture.means).sum() / (mixture.shares * atoms**2).sum())


def _starts(value: Floats, count: int) -> list[Floats]:
    """First means: evenly over several ranges, and at quantiles."""
    if count == 1:
        return [np.array([value.mean()])]
    starts = [np.quantile(value, (np.arange(count) + 0.5) / count)]
    for low, high in ((0.0, 1.0), (0.01, 0.99), (0.05, 0.95)):
        a, b = np.quantile(value, [low, high])
        inset = 0.25 * (b - a) / count
        starts += [np.linspace(a, b, count), np.linspace(a + inset, b - inset, count)]
    return starts


def _climb(value: Floats, error: Floats, means: Floats, *, equal: bool) -> Mixture:
    count, n = len(means), len(value)
    atoms = np.arange(count, dtype=float)
    least = max(NARROWEST * float(np.ptp(value)), 1e-12)
    sd = max(
        0.3 * float(np.ptp(means)) / max(count - 1, 1), 0.5 * float(value.std()) if count == 1 else 0.0, least
    )
    if equal and count > 1:
        means = means[0] + atoms * float(np.ptp(means)) / (count - 1)
    shares = np.full(count, 1 / count)
    before = -np.inf
    for _ in range(STEPS):
        log = _logs(value, error, shares, means, sd)
        total = np.logaddexp.reduce(log, axis=1)
        now = float(total.sum())
        if now - before < CONVERGED * n:
            break
        before = now
        share = np.exp(log - total[:, None])
        weight = np.maximum(share.sum(0), 1e-12)
        trust = (sd**2 / (sd**2 + error**2))[:, None]
        latent = means + trust * (value[:, None] - means)
        means = _line(share, latent, atoms) if equal and count > 1 else (share * latent).sum(0) / weight
        spread = share * ((latent - means) ** 2 + trust * error[:, None] ** 2)
        sd, shares = max(float(np.sqrt(spread.sum() / n)), least), weight / n
    log = _logs(value, error, shares, means, sd)
    total = np.logaddexp.reduce(log, axis=1)
    share = np.exp(log - total[:, None])
    entropy = -float((share * np.log(np.maximum(share, 1e-300))).sum())
    parameters = count - 1 + (2 if equal and count > 1 else count) + 1
    bic = -2 * float(total.sum()) + parameters * float(np.log(n))
    order = np.argsort(means)
    return Mixture(shares[order], means[order], sd, float(total.sum()), bic + 2 * entropy, bic)


def _logs(value: Floats, error: Floats, shares: Floats, means: Floats, sd: float) -> Floats:
    """(N, K) log of share × density."""
    variance = (sd**2 + error**2)[:, None]
    log = np.log(np.maximum(shares, 1e-300))
    return np.asarray(log - 0.5 * ((value[:, None] - means) ** 2 / variance + np.log(2 * np.pi * variance)))


def _line(share: Floats, latent: Floats, atoms: Floats) -> Floats:
    """(K,) means on the least-squares line through all latent values, which lie at `atoms` with weights `share`."""
    weight, mass = share.sum(), share.sum(0)
    centre = (mass * atoms).sum() / weight
    middle = (share * latent).sum() / weight
    slope = (share * latent * (atoms - centre)).sum() / max(
        float((mass * (atoms - centre) ** 2).sum()), 1e-12
    )
    return np.asarray(middle + slope * (atoms - centre))
