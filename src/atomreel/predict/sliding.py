"""Square windows that slide over a frame in steps of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from atomreel.core.errors import InputError


@dataclass(frozen=True)
class WindowGrid:
    """side: of every window [px]. tops, lefts: first row and column of the windows. step: (dy, dx) between them [px].

    A step need not be a whole number: windows then stand on the pixels nearest to their places, at most half a pixel off.
    """

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    step: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.tops), len(self.lefts)

    @property
    def origin(self) -> tuple[float, float]:
        """Centre (y, x) of the first window [px]."""
        return (self.side - 1) / 2, (self.side - 1) / 2

    def cut(self, frame: torch.Tensor, *, most: int) -> Iterator[torch.Tensor]:
        """The windows of a frame (Y, X), row by row, as (≤ most, side, side): only so many are held at once."""
        corners = [(top, left) for top in self.tops for left in self.lefts]
        for start in range(0, len(corners), most):
            some = corners[start : start + most]
            yield torch.stack([frame[y : y + self.side, x : x + self.side] for y, x in some])


def window_grid(
    shape: tuple[int, int], *, window: int, step: float | tuple[float, float], flush: bool = False
) -> WindowGrid:
    """The windows of `window` px, every `step` px from the first pixel on, that fit into a frame of `shape`.

    step: px, one number or (dy, dx), 1 or more. flush: the step is shortened, by as little as it takes, so that the last
    windows end at the border; without it up to a step of the frame stays uncovered there. A window larger than the
    frame is cut to its smaller side. Raises InputError.
    """
    steps = np.broadcast_to(np.asarray(step, dtype=float), (2,))
    if window < 2 or not (np.isfinite(steps).all() and (steps >= 1).all()):
        raise InputError(f"window ({window}) must be at least 2 px and step ({step}) at least 1 px")
    side = min(window, *shape)
    starts, taken = [], []
    for length, wanted in zip(shape, steps, strict=True):
        room = length - side
        count = int(np.ceil(room / wanted - 1e-9)) if flush else int(np.floor(room / wanted + 1e-9))
        own = room / count if flush and count else float(wanted)
        starts.append(tuple(int(np.floor(k * own + 0.5)) for k in range(count + 1)))
        taken.append(own)
    return WindowGrid(side, starts[0], starts[1], (taken[0], taken[1]))
