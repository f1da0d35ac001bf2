"""Whole numbers that fit a quadratic best, and how likely others are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
KEPT = 24


def choose(mean: Array, covariance: Array, options: Sequence[Array], *, kept: int = KEPT) -> Index:
    """(N,) which of its options each of N groups of unknowns takes so that (x − mean)ᵀ covariance⁻¹ (x − mean) is small.

    mean: (P,), covariance: (P, P). options: for each group (K, D) values of the next D unknowns. The surest group is
    rounded first and the rest conditioned on it (L. Babai, Combinatorica 6 (1986) 1), and so on; the `kept` best ways
    so far are followed.
    """
    where = _places(options)
    gaps = [_gap(mean[w], covariance[np.ix_(w, w)], o) for w, o in zip(where, options, strict=True)]
    mu, cov, cost = mean[None].copy(), covariance.copy(), np.zeros(1)
    chosen = np.zeros((1, len(options)), dtype=np.int64)
    for g in np.argsort(gaps)[::-1].tolist():
        w, option = where[g], options[g]
        inverse = np.linalg.inv(cov[np.ix_(w, w)] + 1e-9 * np.eye(len(w)))
        off = option[None] - mu[:, None, w]  # (B, K, D)
        each = cost[:, None] + np.einsum("bki,ij,bkj->bk", off, inverse, off)
        best = np.argsort(each, axis=None, kind="stable")[:kept]
        way, value = np.unravel_index(best, each.shape)
        gain = cov[:, w] @ inverse
        mu = mu[way] + off[way, value] @ gain.T
        cov = cov - gain @ cov[w]
        cost, chosen = each[way, value], chosen[way]
        chosen[:, g] = value
    return np.asarray(chosen[int(cost.argmin())])


def shares(
    mean: Array,
    covariance: Array,
    options: Sequence[Array],
    *,
    first: Index,
    rng: np.random.Generator,
    sweeps: int = 150,
) -> list[Array]:
    """Probability (K,) of every option of each group, p ∝ exp(−½ (x − mean)ᵀ covariance⁻¹ (x − mean)), by Gibbs sampling
    from `first` on; each visit counts with its conditional probabilities."""
    where, precision = _places(options), np.linalg.inv(covariance)
    x = np.concatenate([o[c] for o, c in zip(options, first, strict=True)])
    total = [np.zeros(len(o)) for o in options]
    for sweep in range(sweeps):
        for g, w in enumerate(where):
            cost = _conditional(precision, x - mean, w, options[g] - mean[w])
            p = np.exp(-0.5 * (cost - cost.min()))
            p /= p.sum()
            x[w] = options[g][min(int(np.searchsorted(np.cumsum(p), rng.random())), len(p) - 1)]
            if sweep >= sweeps // 10:
                total[g] += p
    return [t / t.sum() for t in total]


def _places(options: Sequence[Array]) -> list[Index]:
    ends = np.cumsum([o.shape[1] for o in options])
    return [np.arange(end - o.shape[1], end) for end, o in zip(ends, options, strict=True)]


def _costs(off: Array, precision: npt.NDArray[np.floating]) -> Array:
    return np.asarray(np.einsum("ki,ij,kj->k", off, precision, off))


def _conditional(precision: npt.NDArray[np.floating], off: Array, w: Index, candidates: Array) -> Array:
    """Cost of each candidate (K, D) for the unknowns `w`, less what is common, all others at `off`."""
    own = precision[np.ix_(w, w)]
    pull = precision[w] @ off - own @ off[w]
    return _costs(candidates, own) + 2 * candidates @ pull


def _gap(mean: Array, covariance: Array, options: Array) -> float:
    cost = np.sort(_costs(options - mean, np.linalg.inv(covariance)))
    return float(cost[1] - cost[0]) if len(cost) > 1 else np.inf
