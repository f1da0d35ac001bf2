"""Means over the nearest of many points, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atomreel.interpret.chunks import in_halves
from atomreel.interpret.loops import compiled

Array = npt.NDArray[np.float64]
PER_CELL = 4.0  # points in a cell of the grid in which they are looked up


def mean_of_nearest(place: Array, position: Array, value: Array, *, count: int) -> Array:
    """(K,) mean of `value` (N,) over the `count` points of `position` (N, 2) that are nearest to each place (K, 2).

    Over all where there are no more. N is at least 1. Points as far as the last of them share its place.
    """
    low, extent = position.min(0), np.ptp(position, axis=0)
    side = max(float(np.sqrt((extent.prod() + 1e-9) * PER_CELL / len(position))), float(extent.max()) / 2000)
    rows, cols = (int(n) for n in extent // side + 1)
    y, x = ((position - low) // side).astype(np.intp).T
    key = y * cols + x
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange(rows * cols + 1))
    points = starts, np.ascontiguousarray((position - low)[order] / side), value[order].astype(float)
    out, at = np.empty(len(place)), np.ascontiguousarray((place - low) / side)
    in_halves(
        lambda part: _means(at[part], (points, rows, cols), min(count, len(position)), out[part]), len(at)
    )
    return out


@compiled
def _means(place, given, count, out):
    """Squares of cells about a place, wider and wider until nothing outside can be among the nearest. Unit: a cell."""
    (starts, position, value), rows, cols = given
    first = int(np.sqrt(count / (np.pi * PER_CELL)) + 0.5)  # cells within which `count` are expected
    square, held = np.empty(len(position)), np.empty(len(position))
    for p in range(len(place)):
        y, x = place[p, 0], place[p, 1]
        row, col = min(max(int(np.floor(y)), 0), rows - 1), min(max(int(np.floor(x)), 0), cols - 1)
        found, reach = 0, first
        while True:
            for r in range(max(row - reach, 0), min(row + reach, rows - 1) + 1):
                # once a square is searched, of its inner lines only the two ends are new in the next
                step = 1 if reach == first or abs(r - row) == reach else 2 * reach
                for c in range(col - reach, col + reach + 1, step):
                    if 0 <= c < cols:
                        for k in range(starts[r * cols + c], starts[r * cols + c + 1]):
                            square[found] = (position[k, 0] - y) ** 2 + (position[k, 1] - x) ** 2
                            held[found] = value[k]
                            found += 1
            if found >= count:
                inside, within = _nearest(square[:found], held[:found], count)
                edge = min(y - row + reach, row + reach + 1 - y, x - col + reach, col + reach + 1 - x)
                if found == len(position) or (edge > 0 and within <= edge * edge):
                    out[p] = inside / count
                    break
            reach += 1


@compiled
def _nearest(square, held, count):
    """Sum of what the `count` of the least squares hold, and a square that none of them is above."""
    low, few, high, many = -1.0, 0, square.max(), len(square)
    for turn in range(60):
        if many == count:
            break
        share = (count - few) / (many - few) if turn % 3 else 0.5
        middle = low + (high - low) * share
        number = 0
        for k in range(len(square)):
            number += square[k] <= middle
        if number >= count:
            high, many = middle, number
        else:
            low, few = middle, number
    surely, perhaps = 0.0, 0.0
    for k in range(len(square)):
        surely += held[k] if square[k] <= low else 0.0
        perhaps += held[k] if low < square[k] <= high else 0.0
    return surely + perhaps * (count - few) / (many - few), high
