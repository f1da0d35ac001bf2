"""Peak memory of `atomreel run` on 50 and on 5,000 frames of 128².

    python benchmarks/bench_memory.py [FRAMES] [KEY=VALUE…]

Recipe keys make it quicker, such as columns.refine=false; they are recorded with the result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

MEASURED = Path(__file__).parent / "measured" / "memory.json"


def write_lattice_movie(path: Path, frames: int) -> None:
    """A square lattice of Gaussian columns under Poisson noise, frame by frame."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:128, :128]
    mean = 1 + 40 * np.exp(4 * (np.cos(2 * np.pi * y / 12) + np.cos(2 * np.pi * x / 12) - 2))
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for _ in range(frames):
            file.write(rng.poisson(mean).astype(np.uint16), contiguous=True)


def peak_MiB(movie: Path, run: Path, *, settings: list[str]) -> tuple[float, float]:
    """Peak resident memory of the run and its seconds. One process per call, so that peaks do not mix."""
    code = (
        "import resource, sys; from atomreel.cli import main; sys.argv = ['atomreel', 'run', *sys.argv[1:]];"
        "\ntry: main()\nexcept SystemExit as stop:\n  assert not stop.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, movie, "-o", run, *(a for s in settings for a in ("--set", s))],
        stdout=subprocess.PIPE,  # what it says of errors is shown
        check=True,
        text=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.split()[-1]) * unit / 2**20, time.perf_counter() - start


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    settings = sys.argv[2:]
    result: dict[str, Any] = {"settings": settings}
    with tempfile.TemporaryDirectory() as home:
        for count in (50, frames):
            movie = Path(home) / f"{count}.tif"
            write_lattice_movie(movie, count)
            result[str(count)] = dict(
                zip(
                    ("peak_MiB", "seconds"),
                    peak_MiB(movie, Path(home) / f"r{count}", settings=settings),
                    strict=True,
                )
            )
    result["more_MiB"] = result[str(frames)]["peak_MiB"] - result["50"]["peak_MiB"]
    print(json.dumps(result, indent=1))
    if frames == 5000:
        MEASURED.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
