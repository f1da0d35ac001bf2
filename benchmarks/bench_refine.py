"""Time of refine_columns on 512² frames: python benchmarks/bench_refine.py. CPU seconds of one thread, best of five."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import time  # noqa: E402

import numpy as np  # noqa: E402

from atomreel.interpret.refine import refine_columns  # noqa: E402  (after the thread count)

SIZE = 512


def frame(spacing: float, sigma: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A hexagonal lattice of Gaussians, 30 counts high on 5, and its positions."""
    rows = np.arange(0, SIZE, spacing * np.sqrt(3) / 2)
    points = np.concatenate(
        [
            np.stack([np.full(n := int(SIZE / spacing), y), (np.arange(n) + 0.5 * (k % 2)) * spacing], 1)
            for k, y in enumerate(rows)
        ]
    )
    points = points + rng.normal(0, 0.02 * spacing, points.shape)
    pixel = np.arange(SIZE)
    gy = np.exp(-((pixel - points[:, :1]) ** 2) / (2 * sigma**2))
    gx = np.exp(-((pixel - points[:, 1:]) ** 2) / (2 * sigma**2))
    return rng.poisson(5 + 30 * gy.T @ gx), points


def main() -> None:
    rng = np.random.default_rng(0)
    print("columns  sigma px  learn ms  held shape ms")
    for spacing, sigma in ((14.5, 2.3), (10.1, 2.0), (14.5, 4.6)):
        image, points = frame(spacing, sigma, rng)
        start = points + rng.normal(0, 0.08 * spacing, points.shape)
        shape = refine_columns(image, start).shape
        times = []
        for given in (None, shape):
            spent = []
            for _ in range(5):
                before = time.process_time()
                refine_columns(image, start, shape=given)
                spent.append(time.process_time() - before)
            times.append(1000 * min(spent))
        print(f"{len(points):7d}  {sigma:8.1f}  {times[0]:8.0f}  {times[1]:13.0f}")


if __name__ == "__main__":
    main()
