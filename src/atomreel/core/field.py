"""Field: named maps on a regular grid tied to the pixels of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError


@dataclass(frozen=True)
class Field:
    """maps: name → (Gy, Gx). origin: (y, x) [px] of grid point (0, 0). step: (dy, dx) [px]."""

    maps: Mapping[str, npt.NDArray[Any]]
    origin: tuple[float, float]
    step: tuple[float, float]

    def __post_init__(self) -> None:
        shapes = {np.shape(values) for values in self.maps.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise InputError(f"a field's maps must all have one two-dimensional shape, got {sorted(shapes)}")

    @property
    def shape(self) -> tuple[int, int]:
        gy, gx = np.shape(next(iter(self.maps.values())))
        return int(gy), int(gx)

    def positions(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(Gy,) and (Gx,) pixel coordinates of the grid lines."""
        gy, gx = self.shape
        return self.origin[0] + self.step[0] * np.arange(gy, dtype=float), self.origin[1] + self.step[
            1
        ] * np.arange(gx, dtype=float)
