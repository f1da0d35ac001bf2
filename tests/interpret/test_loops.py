"""The compiled loops by themselves; what they sum is tested through `peaks`, `background` and `normal`."""

from __future__ import annotations

import os
import subprocess
import sys

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


@pytest.mark.slow
def test_kept_machine_code_gives_the_same_bytes_as_new(tmp_path):
    """A run that was killed goes on with code that its first process made."""
    code = """
import hashlib, numpy as np
from atomreel.interpret.refine import refine_columns
rng = np.random.default_rng(0)
at = 9.0 * np.stack(np.mgrid[1:8, 1:8], -1).reshape(-1, 2) + rng.normal(0, 0.3, (49, 2))
pixel = np.arange(72)
down, over = (np.exp(-((pixel - c[:, None]) ** 2) / 8) for c in at.T)
found = refine_columns(rng.poisson(5 + 30 * down.T @ over).astype(np.float32), at)
print(hashlib.md5(found.table.to_numpy(float).tobytes() + found.model.tobytes()).hexdigest())
"""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    made, kept = (
        subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    )
    assert made == kept
    assert list(tmp_path.rglob("*.nbi"))
