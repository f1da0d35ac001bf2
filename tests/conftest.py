"""Fixtures shared by all tests: where the outside images are, and fixed randomness."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("ATOMREEL_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261120)


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of real images; skips where it is absent."""
    folder = SHARED / "real"
    if not folder.is_dir():
        pytest.skip(f"no outside images at {folder} (set ATOMREEL_DATA)")
    return folder


@pytest.fixture(scope="session")
def yardstick() -> Path:
    """Folder of simulated test sets with truth; skips where it is absent."""
    folder = SHARED / "yardstick"
    if not folder.is_dir():
        pytest.skip(f"no yardstick sets at {folder} (set ATOMREEL_DATA)")
    return folder
