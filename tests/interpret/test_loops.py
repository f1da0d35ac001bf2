"""The compiled loops by themselves; what they sum is tested through `peaks`, `background` and `normal`."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.interpret import loops


def test_inverses_of_blocks(rng):
    root = rng.standard_normal((50, 3, 3)) * [1.0, 30.0, 1000.0]
    blocks = root @ root.transpose(0, 2, 1) + np.eye(3)
    found = np.empty_like(blocks)
    loops.inverses(blocks, found)
    assert found @ blocks == pytest.approx(np.tile(np.eye(3), (50, 1, 1)), abs=1e-6)


@pytest.mark.parametrize("shape", [(0.2, 0.3, 0.0, 0.0), (0.2, 0.3, 0.05, -0.3), (0.1, 0.4, -0.1, 0.5)])
def test_a_window_is_the_formula(shape):
    """g and −2·dg/dq on every pixel, also outside the skirt, for round, tilted, tailed and flat peaks."""
    yy, xx, yx, skirt = shape
    offset = np.array([[0.3, -0.45], [-0.2, 0.1]], np.float32)
    value, slope = np.empty((2, 2, 15, 15), np.float32)
    loops.fill(offset, tuple(np.float32(v) for v in shape), (value, slope))
    y, x = np.mgrid[-7:8, -7:8]
    for k in range(2):
        dy, dx = y + float(offset[k, 0]), x + float(offset[k, 1])
        q = yy * dy**2 + xx * dx**2 + 2 * yx * dy * dx
        left = np.maximum(1 - q / loops.REACH2, 0)
        gauss = (1 - skirt) * np.exp(-q / 2)
        assert value[k] == pytest.approx(gauss + skirt * left**3, abs=1e-5)
        assert slope[k] == pytest.approx(gauss + 6 / loops.REACH2 * skirt * left**2, abs=1e-5)
