"""Time and peak memory of one very large frame: python benchmarks/bench_large.py [SIDE] [LATTICE].

SIDE: of the frame (20000 px). LATTICE: side of the lattice in its middle (1500 px; SIDE fills the frame).
Adds what was measured to measured/large.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_memory import peak_MiB

MEASURED = Path(__file__).parent / "measured" / "large.json"


def write_frame(path: Path, side: int, lattice: int) -> None:
    """uint8: a constant field with a square lattice of 14 px under Poisson noise in its middle."""
    frame = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(side, side))
    rng, first = np.random.default_rng(0), (side - lattice) // 2
    x = np.arange(lattice)
    for y in range(side):
        frame[y] = 3
        if first <= y < first + lattice:
            mean = 3 + 60 * np.exp(4 * (np.cos(2 * np.pi * y / 14) + np.cos(2 * np.pi * x / 14) - 2))
            frame[y, first : first + lattice] = rng.poisson(mean).clip(0, 255)
    frame.flush()


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    lattice = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    with tempfile.TemporaryDirectory() as home:
        write_frame(Path(home) / "large.npy", side, lattice)
        peak, seconds = peak_MiB(Path(home) / "large.npy", Path(home) / "run", settings=[])
    print(f"{side} × {side} px, lattice {lattice} px: {seconds:.0f} s, peak {peak:.0f} MiB")
    known = json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}
    known[f"{side} {lattice}"] = {"side": side, "lattice": lattice, "seconds": seconds, "peak_MiB": peak}
    MEASURED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
