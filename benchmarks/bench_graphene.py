"""Bond lengths of pristine graphene from simulated HRTEM images, beside the Cramér–Rao bound of those very images.

    python benchmarks/bench_graphene.py [--images 3] [--decoder peaks]

80 kV, fixed optics, ideal camera, 0.12 Å pixels, 10³ and 10⁴ e⁻/Å². The bound is made from noise-free images: every
atom within BOUND_REACH of the middle is shifted along y and x, Fisher's matrix of Poisson counts is inverted with all of
them free, and the bonds of the inner ones are read from its inverse. Writes benchmarks/measured/graphene.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (after the thread count)
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from atomreel.interpret.refine import refine_columns  # noqa: E402
from atomreel.predict.columns import find_columns  # noqa: E402
from atomreel.simulate.hrtem import Optics, best_defocus, image_waves, phase_object  # noqa: E402

HERE = Path(__file__).parent
BOND, PIXEL, VOLTAGE = 1.42, 0.12, 80.0  # Å, Å, kV
SIZE, PAD = 224, 32  # px
CS = -10.0  # µm
OPTICS = Optics(
    voltage=VOLTAGE,
    defocus=best_defocus(1 / 2.13, voltage=VOLTAGE, cs=CS, bright=True),
    cs=CS,
    focal_spread=20.0,
    deflection=0.1,
)
ANGLE, DOSES = 11.0, (1e3, 1e4)  # of the lattice [°], e⁻/Å²
BOUND_REACH, BOUND_INNER = 7.0, 3.0  # Å
MARGIN = 3.0  # Å from the border within which no bond is counted
SHIFT = 0.02  # px


def atoms(origin: tuple[float, float]) -> np.ndarray:
    """(N, 2) positions [px] of graphene that fills the padded grid."""
    t = np.deg2rad(ANGLE + np.array([0.0, 60.0]))
    a, b = np.sqrt(3) * BOND / PIXEL * np.stack([-np.sin(t), np.cos(t)], axis=1)
    n = np.arange(-60, 61)
    cells = (n[:, None, None] * a + n[None, :, None] * b).reshape(-1, 2)
    every = np.concatenate([cells, cells + (a + b) / 3]) + SIZE / 2 + PAD + np.asarray(origin)
    side = SIZE + 2 * PAD
    return every[np.all((every >= 0) & (every < side), axis=1)]


def expected(where: np.ndarray) -> np.ndarray:
    """Noise-free image of the padded grid, vacuum = 1."""
    side = (SIZE + 2 * PAD,) * 2
    wave = phase_object({"C": where}, {"C": np.ones(len(where))}, side, pixel=PIXEL, voltage=VOLTAGE)
    return image_waves(torch.as_tensor(wave)[None], PIXEL, [OPTICS])[0].numpy().astype(float)


def bonds_of(where: np.ndarray) -> np.ndarray:
    """(B, 2) pairs of nearest neighbours."""
    return cKDTree(where).query_pairs(1.2 * BOND / PIXEL, output_type="ndarray")


def bound(where: np.ndarray) -> float:
    """Least standard deviation of a bond's length [Å] at one electron per Å², root mean square over the inner bonds."""
    middle = np.full(2, SIZE / 2 + PAD)
    distance = np.linalg.norm(where - middle, axis=1) * PIXEL
    free = np.flatnonzero(distance < BOUND_REACH)
    clean = expected(where)
    box = slice(PAD, PAD + SIZE)
    rows = []
    for atom in free:
        for axis in (0, 1):
            move = np.zeros_like(where)
            move[atom, axis] = SHIFT
            slope = (expected(where + move) - expected(where - move)) / (2 * SHIFT)
            rows.append((slope / np.sqrt(clean))[box, box].ravel())
    slopes = np.array(rows)
    covariance = np.linalg.inv(slopes @ slopes.T * PIXEL**2)
    number = {int(atom): k for k, atom in enumerate(free)}
    variances = []
    for i, j in bonds_of(where):
        if distance[i] < BOUND_INNER and distance[j] < BOUND_INNER:
            along = (where[j] - where[i]) / np.linalg.norm(where[j] - where[i])
            weight = np.zeros(len(covariance))
            weight[2 * number[int(i)] : 2 * number[int(i)] + 2] = -along
            weight[2 * number[int(j)] : 2 * number[int(j)] + 2] = along
            variances.append(weight @ covariance @ weight)
    return float(np.sqrt(np.mean(variances))) * PIXEL


def lengths(where: np.ndarray, table: pd.DataFrame) -> tuple[np.ndarray, int, int]:
    """Lengths [Å] of the true bonds as found; inner atoms missed, and found where there is none.

    From each length the mean excess is taken that errors across the bond make, σ⊥²/2d (S. O. Rice 1944).
    """
    found = table[["y", "x"]].to_numpy()
    inside = lambda p: np.all((p > MARGIN / PIXEL) & (p < SIZE - MARGIN / PIXEL), axis=1)  # noqa: E731
    gap, near = cKDTree(found).query(where, distance_upper_bound=0.5 / PIXEL)
    good = np.isfinite(gap)
    pairs = bonds_of(where)
    pairs = pairs[inside(where)[pairs].all(1) & good[pairs].all(1)]
    one, two = near[pairs].T
    gap_px = found[two] - found[one]
    long = np.linalg.norm(gap_px, axis=1)
    variance = (table[["y_err", "x_err"]].to_numpy() ** 2)[[one, two]].sum(0)
    across = (gap_px[:, ::-1] ** 2 * variance).sum(1) / long**2
    long = (long - across / (2 * long)) * PIXEL
    false = int((inside(found) & (cKDTree(where).query(found)[0] > 0.5 / PIXEL)).sum())
    return long, int((inside(where) & ~good).sum()), false


def measure(dose: float, images: int, decoder: str) -> dict[str, float]:
    parts, started, missed, false = [], [], 0, 0
    for seed in range(images):
        rng = np.random.default_rng(seed)
        every = atoms(tuple(rng.uniform(-5, 5, 2)))
        clean = expected(every)[PAD : PAD + SIZE, PAD : PAD + SIZE]
        image = rng.poisson(dose * PIXEL**2 * clean).astype(np.float32)
        where = every - PAD
        table = find_columns(image, contrast="bright", decoder=decoder).table
        long, out, extra = lengths(where, table)
        parts.append(long)
        missed, false = missed + out, false + extra
        seen = where[np.all((where > -0.5) & (where < SIZE - 0.5), axis=1)]
        begun = seen + rng.normal(0, 0.04 * BOND / PIXEL, seen.shape)
        fitted = refine_columns(image, begun, bright=True).table
        started.append(lengths(where, fitted)[0])
    every_bond = np.concatenate(parts)
    return {
        "images": images,
        "bonds": len(every_bond),
        "missed": missed,
        "false": false,
        "mean_A": float(every_bond.mean()),
        "mean_err_A": float(every_bond.std(ddof=1) / np.sqrt(len(every_bond))),
        "sd_A": float(every_bond.std(ddof=1)),
        "mean_fit_from_truth_A": float(np.concatenate(started).mean()),
        "sd_fit_from_truth_A": float(np.concatenate(started).std(ddof=1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--decoder", default="peaks")
    options = parser.parse_args()
    unit = bound(atoms((0.0, 0.0)))
    result = {}
    for dose in DOSES:
        row = measure(dose, options.images, options.decoder)
        row["bound_A"] = float(unit / np.sqrt(dose))
        row["sd_over_bound"] = row["sd_A"] / row["bound_A"]
        result[f"{dose:g}"] = row
        print(f"{dose:g} e/Å²: {row}", flush=True)
    file = HERE / "measured" / "graphene.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
