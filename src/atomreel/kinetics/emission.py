"""What a classifier's answer says of the state behind it, for `hidden.fit_hidden`: so that a mistake is no reaction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

Floats = npt.NDArray[np.float64]
HALF = 0.5  # added to every count of a test: what was not seen in it can still happen
ROUNDS = 500  # of expectation–maximisation at most
LEAST = 1e-6  # probabilities are taken to be no smaller: no classifier is calibrated beyond that


def likelihood_of_labels(
    labels: Sequence[str] | npt.ArrayLike, confusion: npt.ArrayLike, *, names: Sequence[str]
) -> Floats:
    """(N, n) log likelihood of the state names[j] where a classifier said labels[i].

    confusion: (n, n) counts of a test on images that training never saw, true state by row, answer by column, both in the order
    of `names`. Rows are made shares after half a count is added to each place. The shares hold for states as the test drew them
    within each row, and for errors that are new in every frame; how often a state occurs does not matter.
    Raises InputError for a label that is no name, and for a matrix of another shape, with negative counts or an empty row.
    """
    known = list(names)
    counts = np.asarray(confusion, dtype=float)
    if counts.shape != (len(known), len(known)) or not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(
            f"confusion: expected {len(known)} × {len(known)} counts of 0 or more, got shape {counts.shape}"
        )
    if (counts.sum(axis=1) == 0).any():
        never = [known[i] for i in np.flatnonzero(counts.sum(axis=1) == 0)]
        raise InputError(f"confusion: the test held no {', '.join(never)}; how they are named is not known")
    said = np.asarray(labels, dtype=object)
    strange = sorted({str(label) for label in said} - set(known))
    if strange:
        raise InputError(f"labels {', '.join(strange)} are none of {', '.join(known)}")
    share = (counts + HALF) / (counts + HALF).sum(axis=1, keepdims=True)
    column = np.array([known.index(label) for label in said], dtype=np.int64)
    return np.asarray(np.log(share[:, column]).T)


def likelihood_of_scores(probabilities: npt.ArrayLike, *, prior: npt.ArrayLike | None = None) -> Floats:
    """(N, n) log likelihood of every state from a calibrated classifier's probabilities: p(state | image) / p(state).

    probabilities: (N, n), rows sum to 1 or less (the rest being "none of these"). prior: (n,) how often each state was among the
    images that the classifier was calibrated on; by default equally often. A classifier that is surer than it is right makes its
    mistakes into reactions: check its calibration. Raises InputError for other shapes or numbers that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=float)
    if (
        p.ndim != 2
        or p.shape[1] < 2
        or not np.isfinite(p).all()
        or (p < 0).any()
        or (p.sum(axis=1) > 1 + 1e-4).any()
    ):
        raise InputError(
            f"probabilities: expected (N, n) with rows that sum to 1 at most, got shape {p.shape}"
        )
    before = np.full(p.shape[1], 1.0) if prior is None else np.asarray(prior, dtype=float)
    if before.shape != p.shape[1:] or not (np.isfinite(before) & (before > 0)).all():
        raise InputError(f"prior: expected {p.shape[1]} shares above 0, got {before}")
    return np.asarray(np.log(np.maximum(p, LEAST)) - np.log(before / before.sum()))


def class_shares(
    log_likelihood: npt.ArrayLike, *, weight: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """(n,) how often each class occurs among things that a classifier saw, and (N, n) probabilities of each thing with these shares.

    log_likelihood: (N, n), of `likelihood_of_scores` or `likelihood_of_labels`. weight: (N,) by which things count, 0 to 1. Expectation–
    maximisation to the most likely shares (M. Saerens, P. Latinne and C. Decaestecker, Neural Computation 14 (2002) 21), with half a
    thing of every class seen before: a class that the test showed as often as any may be rare here, and what is then called so is
    mostly another one. Raises InputError for other shapes, and where nothing counts.
    """
    log = np.asarray(log_likelihood, dtype=float)
    counts = np.ones(len(log)) if weight is None else np.asarray(weight, dtype=float)
    if log.ndim != 2 or not log.shape[1] or counts.shape != log.shape[:1] or not np.isfinite(log).all():
        raise InputError(
            f"log_likelihood: expected finite numbers (N, n) and N weights, got {log.shape} and {counts.shape}"
        )
    if not (np.isfinite(counts) & (counts >= 0)).all() or not counts.sum() > 0:
        raise InputError("weights: expected finite numbers of 0 or more, one of them above 0")
    like = np.exp(log - log.max(axis=1, keepdims=True))
    share = np.full(log.shape[1], 1 / log.shape[1])
    for _ in range(ROUNDS):
        each = like * share
        each /= each.sum(axis=1, keepdims=True)
        before = share
        share = counts @ each + HALF
        share /= share.sum()
        if np.abs(share - before).max() < 1e-6:
            break
    return share, np.asarray(each)
