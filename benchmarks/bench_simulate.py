"""How many simulated images a second: `python benchmarks/bench_simulate.py [SECONDS]`, in one and in two processes.

The aim is 100 images/s of 256² STEM on two cores, so that training never waits for its images.
Writes measured/simulate.json: wall-clock rate of two processes, and images per second of processor time, which
other work on the machine disturbs less.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from atomreel.simulate.movie import simulate_ws2_movie
from atomreel.simulate.sample import MODALITIES, random_image

MEASURED = Path(__file__).parent / "measured" / "simulate.json"


def rate(job: tuple[str, float, int]) -> tuple[int, float, float]:
    """Images, wall time [s] and processor time [s] of one process that makes images of a kind for some seconds."""
    modality, seconds, seed = job
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    chosen = None if modality == "mixture" else modality
    for _ in range(3):
        random_image(rng, modality=chosen)
    wall, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        random_image(rng, modality=chosen)
        count += 1
    return count, time.perf_counter() - wall, time.process_time() - used


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    print(
        f"{'256² images':12} {'1 process /s':>14} {'per CPU s':>10} {'2 processes /s':>15} {'per CPU s':>10}"
    )
    measured: dict[str, dict[str, float]] = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for modality in (*MODALITIES, "mixture"):
            figures = []
            for jobs in (1, 2):
                done = list(pool.map(rate, [(modality, seconds, seed) for seed in range(jobs)]))
                figures += [
                    sum(n / wall for n, wall, _ in done),
                    sum(d[0] for d in done) / sum(d[2] for d in done),
                ]
            measured[modality] = {"images_per_s": figures[2], "per_cpu_s": figures[3]}
            print(
                f"{modality:12} {figures[0]:14.0f} {figures[1]:10.0f} {figures[2]:15.0f} {figures[3]:10.0f}"
            )
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    start = time.perf_counter()
    simulate_ws2_movie(0)
    print(f"WS2 movie of 60 frames: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
