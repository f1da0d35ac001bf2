"""Separation of the real Si [110] dumbbells in units of the lattice they sit on: python benchmarks/bench_si110.py RUN

RUN: the Run folder that `python benchmarks/real.py out/real si110-dumbbells` leaves. The dumbbell is a quarter of the period
along [001] long. Measured twice: from the fitted columns, and without any peak shape from the forbidden reflection 002, whose
amplitude about a dumbbell's middle is P(q)·cos(2πf) for ends a share f of the period apart. P is taken from 111 and 220, its
logarithm straight in q². Writes measured/si110.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel import find_dumbbells, open_movie

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ATOMREEL_DATA", HERE.parents[1] / "shared" / "data"))
FILE = DATA / "real" / "si110-dumbbells" / "Si110_5nmX25us_03_none_none.png"
LONG, SHORT = 5.431, 3.840  # Å, [001] and [1-10]
GUESS = np.array(
    [[13.1, 34.4], [-28.6, 23.2]]
)  # primitive vectors of the dumbbells' middles [px], read off the image
HALF, WIDTH = 80, 26.0  # px: patch about a dumbbell and its Gaussian window
GROUPS = 8  # of patches, for errors
Array = npt.NDArray[np.float64]


def lattice(middles: Array) -> tuple[Array, Array]:
    """[001] and [1-10] [px], and the covariance factor of the two; grown from the middle of the field."""
    start = middles[np.argmin(((middles - middles.mean(0)) ** 2).sum(1))]
    nearest = np.argsort(((middles - start) ** 2).sum(1))
    vectors, origin = GUESS, start
    for count in (9, 20, 40, 80, len(middles)):
        own = middles[nearest[:count]]
        index = np.c_[np.rint((own - origin) @ np.linalg.inv(vectors)), np.ones(count)]
        fit = np.linalg.lstsq(index, own, rcond=None)[0]
        vectors, origin = fit[:2], fit[2]
    spread = (own - index @ fit).std()
    cov = np.linalg.inv(index.T @ index)[:2, :2] * spread**2
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]])
    return turn @ vectors, turn @ cov @ turn.T


def amplitudes(image: Array, middles: Array, cell: Array) -> tuple[Array, Array]:
    """Real amplitudes (GROUPS, 4) of 111, -111, 002 and 220 about the middles, and their q [1/px]."""
    y, x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    window = np.exp(-(y**2 + x**2) / (2 * WIDTH**2))
    waves = np.linalg.inv(cell) @ np.array([[1, 1], [1, -1], [2, 0], [0, 2]], float).T
    nearest = np.rint(middles).astype(int)
    kept = ((nearest > HALF) & (nearest < np.array(image.shape) - HALF - 1)).all(1)
    out = []
    for q in waves.T:
        ripple = window * np.exp(-2j * np.pi * (y * q[0] + x * q[1]))
        values = []
        for middle, pixel in zip(middles[kept], nearest[kept], strict=True):
            patch = image[pixel[0] - HALF : pixel[0] + HALF + 1, pixel[1] - HALF : pixel[1] + HALF + 1]
            phase = np.exp(2j * np.pi * ((middle - pixel) @ q))
            values.append((((patch - patch.mean()) * ripple).sum() * phase).real / window.sum())
        out.append([np.mean(values[k::GROUPS]) for k in range(GROUPS)])
    return np.array(out).T, np.hypot(*waves)


def share_of_period(amplitude: Array, q: Array) -> float:
    """f from amplitudes of 111, -111, 002 and 220, f near a quarter."""
    first = 0.5 * (amplitude[0] + amplitude[1]) / np.cos(np.pi / 4)
    at = 0.5 * (q[0] ** 2 + q[1] ** 2)
    slope = np.log(first / amplitude[3]) / (q[3] ** 2 - at)
    return float(np.arccos(amplitude[2] / (first * np.exp(-slope * (q[2] ** 2 - at)))) / (2 * np.pi))


def main() -> None:
    atoms = pd.read_parquet(Path(sys.argv[1]) / "atoms.parquet")
    image = np.asarray(open_movie(FILE)[0].data, float)
    table = find_dumbbells(atoms).table
    middles, place = table[["y", "x"]].to_numpy(), atoms[["y", "x"]].to_numpy()
    cell, cov = lattice(middles)
    long, short = np.hypot(*cell.T)
    inner = ((middles > 30) & (middles < np.array(image.shape) - 32)).all(1)
    step = (place[table["second"]] - place[table["first"]])[inner]
    share = (step @ np.linalg.inv(cell))[:, 0]
    error = float(share.std(ddof=1) / np.sqrt(len(share)))
    groups, q = amplitudes(image, middles, cell)
    free = share_of_period(groups.mean(0), q)
    # leaving out one group at a time
    others = [share_of_period(np.delete(groups, k, 0).mean(0), q) for k in range(GROUPS)]
    free_err = float(np.std(others) * np.sqrt(GROUPS - 1))
    mean_pixel = float(np.sqrt(LONG * SHORT / abs(np.linalg.det(cell))))
    about = {
        "dumbbells": int(inner.sum()),
        "period_001_px": [float(long), float(np.sqrt(cov[0, 0]))],
        "period_110_px": [float(short), float(np.sqrt(cov[1, 1]))],
        "pixel_A": {"along_001": LONG / float(long), "along_110": SHORT / float(short), "mean": mean_pixel},
        "share_of_001": {"columns": [float(share.mean()), error], "reflection_002": [free, free_err]},
        "separation_A": {"columns": LONG * float(share.mean()), "reflection_002": LONG * free, "expected": LONG / 4},
        "amplitudes": dict(zip(("111", "-111", "002", "220"), groups.mean(0).tolist(), strict=True)),
    }  # fmt: skip
    (HERE / "measured" / "si110.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
