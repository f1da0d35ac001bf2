"""Time and peak memory of one very large, mostly empty frame: python benchmarks/bench_large.py [SIDE] (20000 px)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_memory import peak_MiB

LATTICE = 1500  # px, in the middle


def write_frame(path: Path, side: int) -> None:
    """uint8: a constant field with a square lattice under Poisson noise in its middle."""
    frame = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(side, side))
    y, x = np.mgrid[:LATTICE, :LATTICE]
    mean = 3 + 60 * np.exp(4 * (np.cos(2 * np.pi * y / 14) + np.cos(2 * np.pi * x / 14) - 2))
    frame[:] = 3
    middle = slice((side - LATTICE) // 2, (side + LATTICE) // 2)
    frame[middle, middle] = np.random.default_rng(0).poisson(mean).clip(0, 255)
    frame.flush()


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as home:
        write_frame(Path(home) / "large.npy", side)
        peak, seconds = peak_MiB(Path(home) / "large.npy", Path(home) / "run", settings=[])
    print(f"{side} × {side} px: {seconds:.0f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
