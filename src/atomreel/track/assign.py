"""Cheapest one-to-one choice among many candidate pairs, and how sure each chosen pair is.

The problem falls into connected components. In most of them every row's best column is its own (or every column's best row),
and then no choice can be better, so that those are done all at once; only the rest goes to a solver.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_DENSE = 250_000  # entries: above this a component is solved as a sparse problem


def assign(i: Ints, j: Ints, cost: Floats, *, alone: float) -> tuple[Ints, Floats]:
    """Cheapest one-to-one choice among pairs (i, j) when staying alone costs `alone` per possible pair.

    i, j: (N,) row and column numbers ≥ 0, without much room between them; no pair twice. cost: (N,).
    Returns the chosen pairs' numbers, in order, and each one's probability against its rivals: all pairs that share an end
    with it, and no pair. Steps are taken as Gaussian with the width that the chosen pairs themselves have.
    """
    worth = np.flatnonzero(cost <= alone)
    if not len(worth):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    pairs = np.sort(worth[_choose(i[worth], j[worth], alone - cost[worth])])
    width = np.clip(float(np.median(cost[pairs])) / np.log(2), 0.02, alone)
    weight = np.exp(-cost / width)
    rivals = np.bincount(i, weight)[i] + np.bincount(j, weight)[j] - weight + np.exp(-alone / width)
    return pairs, np.asarray((weight / np.maximum(rivals, 1e-300))[pairs])


def _choose(i: Ints, j: Ints, gain: Floats) -> Ints:
    """Pairs of the one-to-one set with the largest sum of `gain` (≥ 0)."""
    rows, columns = int(i.max()) + 1, int(j.max()) + 1
    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j + rows)), shape=(rows + columns,) * 2)
    count, label = connected_components(graph, directed=False)
    part = label[i].astype(np.int64)
    by_row, free = _own_best(i, j, gain, part, count)
    by_column, free_too = _own_best(j, i, gain, part, count)
    taken = [by_row[free[part[by_row]]], by_column[(free_too & ~free)[part[by_column]]]]
    rest = np.flatnonzero(~(free | free_too)[part])
    if len(rest):
        taken.append(rest[_solve_parts(i[rest], j[rest], gain[rest], part[rest])])
    return np.concatenate(taken)


def _own_best(i: Ints, j: Ints, gain: Floats, part: Ints, count: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Best pair of each row, and whether in a component no two rows want one column: then no choice gains more."""
    order = np.lexsort((-gain, i))
    head = np.ones(len(order), dtype=bool)
    head[1:] = i[order[1:]] != i[order[:-1]]
    best = order[head]
    wanted = np.bincount(j[best])[j[best]]
    free = np.ones(count, dtype=bool)
    free[part[best[wanted > 1]]] = False
    return best, free


def _solve_parts(i: Ints, j: Ints, gain: Floats, part: Ints) -> Ints:
    """The same choice, component by component with a solver."""
    order = np.argsort(part, kind="stable")
    cuts = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
    row, column = _rank(i, part), _rank(j, part)
    taken: list[Ints] = []
    for start, stop in pairwise(cuts):
        own = order[start:stop]
        r, c = row[own], column[own]
        shape = int(r.max()) + 1, int(c.max()) + 1
        solve = _dense if shape[0] * shape[1] <= _DENSE else _sparse
        taken.append(own[solve(r, c, gain[own], shape)])
    return np.concatenate(taken)


def _rank(i: Ints, part: Ints) -> Ints:
    """Number of each row within its component, from 0."""
    rows, first, where = np.unique(i, return_index=True, return_inverse=True)
    own = part[first]
    order = np.argsort(own, kind="stable")
    starts = np.flatnonzero(np.diff(own[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(rows)))
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    return rank[where]


def _dense(i: Ints, j: Ints, gain: Floats, shape: tuple[int, int]) -> Ints:
    matrix, number = np.zeros(shape), np.full(shape, -1)
    matrix[i, j], number[i, j] = gain, np.arange(len(i))
    taken = number[linear_sum_assignment(matrix, maximize=True)]
    return taken[taken >= 0]


def _sparse(i: Ints, j: Ints, gain: Floats, shape: tuple[int, int]) -> Ints:
    """Each row may also take a column of its own, which stands for staying alone."""
    own = np.arange(shape[0])
    values = np.concatenate([-gain, np.zeros(shape[0])]) - gain.max() - 1  # the solver takes no zeros
    ends = np.concatenate([i, own]), np.concatenate([j, shape[1] + own])
    graph = coo_array((values, ends), shape=(shape[0], shape[1] + shape[0])).tocsr()
    number = coo_array((np.arange(1, len(i) + 1), (i, j)), shape=graph.shape).tocsr()
    taken = np.asarray(number[min_weight_full_bipartite_matching(graph)]).ravel()
    return taken[taken > 0] - 1
