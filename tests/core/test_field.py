"""Field: maps on one grid."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.field import Field


def test_positions_of_the_grid() -> None:
    field = Field({"a": np.zeros((2, 3))}, origin=(10.0, 20.0), step=(4.0, 8.0))
    y, x = field.positions()
    assert field.shape == (2, 3) and y.tolist() == [10, 14] and x.tolist() == [20, 28, 36]


def test_maps_must_agree() -> None:
    with pytest.raises(InputError, match="one two-dimensional shape"):
        Field({"a": np.zeros((2, 3)), "b": np.zeros((3, 2))}, origin=(0, 0), step=(1, 1))
