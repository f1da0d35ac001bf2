"""Fixtures shared by all tests: where the outside images are, and fixed randomness."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch, so that small networks do not wait for busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def call(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """(exit code, standard output, standard error) of an `atomreel` command, in this process."""
    from atomreel import cli

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atomreel", *map(str, argv)])
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            try:
                cli.main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, re.sub(r"\x1b\[[0-9;]*m", "", err)

    return run


def _lattice_image(size: int, *, spacing: float, kind: str = "hexagonal", seed: int = 3) -> np.ndarray:
    """(Y, X) float64 counts: columns of σ = 0.2 spacings, hexagonal, or honeycomb with that bond length."""
    y, x = np.mgrid[:size, :size]
    cell = spacing * (np.sqrt(3) if kind == "honeycomb" else 1.0)
    mean = np.full((size, size), 2.0)
    motif = ((0.0, 0.0), (spacing, 0.0)) if kind == "honeycomb" else ((0.0, 0.0),)
    for i in range(-2, int(size / cell * 1.2) + 4):
        for j in range(-2, int(size / cell) + 3):
            for dy, dx in motif:
                cy, cx = 4 + 0.8660254 * cell * i + dy, 3 + cell * (j + 0.5 * (i % 2)) + dx
                mean += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (0.2 * spacing) ** 2))
    return np.random.default_rng(seed).poisson(mean).astype(float)


@pytest.fixture(scope="session")
def lattice_image() -> Callable[..., np.ndarray]:
    """Makes images of columns: (size, *, spacing [px], kind="hexagonal" or "honeycomb", seed)."""
    return _lattice_image


@pytest.fixture(scope="session")
def lattice() -> np.ndarray:
    """(80, 80) counts: a hexagonal lattice of bright columns, 9 px apart."""
    return _lattice_image(80, spacing=9.0)
