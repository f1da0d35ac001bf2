"""Time of a symmetry map: python benchmarks/bench_symmetry.py [--threads 2] [--rounds 12]

A frame of 512² with windows of 128 px every 16 px (625 windows), without dropout and with 100 passes, in turn with a fixed
reference (fast Fourier transforms of 64 frames of 256², one thread), so that a busy machine shows in both. Wall and processor time,
the least and the median of the rounds. Writes measured/symmetry.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from atomreel.predict.symmetry import map_symmetry

HERE = Path(__file__).parent


def frame() -> npt.NDArray[np.float32]:
    """A hexagonal crystal of 14 px, 6 counts per atom."""
    rng = np.random.default_rng(0)
    t = np.deg2rad([20.0, 80.0])
    index = np.stack(np.meshgrid(np.arange(-60, 61), np.arange(-60, 61)), -1).reshape(-1, 2)
    at = index @ (14 * np.stack([-np.sin(t), np.cos(t)], 1)) + 256
    at = at + 0.4 * rng.standard_normal(at.shape)
    at = at[((at > -15) & (at < 527)).all(1)]
    down, over = (np.exp(-((np.arange(512) - c[:, None]) ** 2) / (2 * 2.5**2)) for c in at.T)
    return rng.poisson(6 * (down.T @ over + 0.2)).astype(np.float32)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    image, fixed = frame(), np.random.default_rng(1).standard_normal((64, 256, 256))
    tasks: dict[str, Callable[[], object]] = {
        "deterministic": lambda: map_symmetry(image),
        "100 passes": lambda: map_symmetry(image, passes=100, rng=0),
        "reference": lambda: np.fft.rfft2(fixed),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for number in range(chosen.rounds + 1):
        for name, task in tasks.items():
            found = timed(task)
            if number:  # the first round fills caches
                times[name].append(found)
    result = {
        name: {
            "wall_s": min(w for w, _ in some),
            "wall_median_s": float(np.median([w for w, _ in some])),
            "cpu_s": min(c for _, c in some),
            "cpu_median_s": float(np.median([c for _, c in some])),
        }
        for name, some in times.items()
    }
    windows = int(map_symmetry(image).maps["p_square"].size)
    found = {"threads": chosen.threads, "rounds": chosen.rounds, "windows": windows, **result}
    (HERE / "measured" / "symmetry.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
