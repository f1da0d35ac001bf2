"""Grains of simulated polycrystals: how many are found, and whether lattices, turns and areas lie within their errors.

Run: python benchmarks/bench_grains.py [FRAMES OF EACH KIND]
Frames are 28 shortest lattice vectors wide, of 3 to 60 counts per atom, of all five classes; windows follow the lattice.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "interpret"))

from polycrystals import SHAPES, disc, grow, nearest

from atomreel.interpret.grains import find_grains
from atomreel.predict.symmetry import map_symmetry

KINDS = ("two grains", "one grain", "island", "noise")


def one(kind: str, seed: int) -> tuple[int, list[float], list[float], list[float]]:
    """Grains found less those there; pulls of a and γ; pulls of areas; relative errors of areas."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    shape = list(SHAPES)[seed % 5]
    ratio, gamma = SHAPES[shape]
    a, first = rng.uniform(7.5, 12), rng.uniform(0, 180)
    side, window = int(28 * a), int(10 * a * ratio)
    middle = np.full(2, side / 2)
    turns: tuple[float, ...] = (first,)
    region = nearest([middle])
    if kind == "two grains":
        turns = (first, first + rng.uniform(5, 30) * rng.choice([-1, 1]))
        away = 50 * np.array([np.sin(seed), np.cos(seed)])
        middle = middle + rng.uniform(-0.1, 0.1, 2) * side
        region = nearest([middle - away, middle + away])
    if kind in ("island", "noise"):
        radius = 0.0 if kind == "noise" else side * rng.uniform(0.25, 0.35)
        region = disc((side / 2, side / 2), radius)
    counts = float(np.exp(rng.uniform(np.log(3), np.log(60))))
    made = grow(rng, turns=turns, region=region, shape=shape, a=a, size=side, counts=counts)
    field = map_symmetry(made.image, window=window, step=window / 4, flush=True)
    table = find_grains(made.image, field, window=window).table
    there = 0 if kind == "noise" else len(turns)
    if len(table) != there or not there:
        return len(table) - there, [], [], []
    which = region(table[["y", "x"]].to_numpy())
    cells = [*(table.a_px - a) / table.a_px_err, *(table.gamma_deg - gamma) / table.gamma_deg_err]
    off = (table.area_px2 - made.areas[which]).to_numpy()
    pulls = list(off / table.area_px2_err) if table.area_px2_err.all() else []
    return 0, [float(v) for v in cells], [float(v) for v in pulls], list(off / made.areas[which])


def main(count: int) -> None:
    for kind in KINDS:
        done = [one(kind, seed) for seed in range(count)]
        wrong = Counter(d[0] for d in done)
        cells, areas, relative = (np.array([v for d in done for v in d[k]]) for k in (1, 2, 3))
        words = f"{kind}: right number in {wrong[0]} of {count}, off by {dict(wrong)}"
        if len(cells):
            words += f"; lattice pulls rms {np.sqrt(np.mean(cells**2)):.2f}, {np.mean(np.abs(cells) < 1):.2f} below 1"
            words += f"; area rms {100 * np.sqrt(np.mean(relative**2)):.1f} %"
        if len(areas):
            words += f", pulls rms {np.sqrt(np.mean(areas**2)):.2f}, {np.mean(np.abs(areas) < 2):.2f} below 2"
        print(words, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
