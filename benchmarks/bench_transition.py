"""The frame of a symmetry transition: python benchmarks/bench_transition.py [--set ../shared/data/yardstick] [--movies 40]

The yardstick's transition.tif through `atomreel transition` with the defaults, against its truth; and fresh movies (hexagonal, then
sheared along a random axis: a jump, a ramp or a square root; 0.8 to 40 counts) for how often the 95 % interval holds
the true passage of 2 % shear (s: x′ = x + s·y). Writes measured/transition_frame.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from atomreel.kinetics.transition import find_crossing
from atomreel.pipeline.transition import SHARED, follow_shear
from atomreel.predict.symmetry import read_image

HERE = Path(__file__).parent
LEVEL = 0.02
FRAMES, SIZE = 24, 128
Array = npt.NDArray[np.float64]


def yardstick(folder: Path) -> dict[str, Any]:
    """Shear per frame and the passage of 2 %, through the public command."""
    truth = pd.read_parquet(folder / "Y2_bravais" / "transition_truth.parquet")
    with tempfile.TemporaryDirectory() as out:
        movie = folder / "Y2_bravais" / "transition.tif"
        command = [sys.executable, "-m", "atomreel", "transition", str(movie), "-o", out]
        subprocess.run(command, check=True, capture_output=True)
        table = pd.read_csv(Path(out) / "shear.csv")
        found = json.loads((Path(out) / "transition.json").read_text(encoding="utf-8"))
    true = 2 * np.sinh(truth.distance_from_start.to_numpy() / 2)  # the simple shear of the same size
    pulls = (table["shear"].to_numpy() - true) / table["shear_err"].to_numpy()
    k = int(np.argmax(true > LEVEL))
    passage = k - 1 + (LEVEL - true[k - 1]) / (true[k] - true[k - 1])
    return {
        "frames": len(table),
        "rms_shear_error": float(np.sqrt(np.mean((table["shear"] - true) ** 2))),
        "median_claimed_error": float(table["shear_err"].median()),
        "pulls_rms": float(np.sqrt(np.mean(pulls**2))),
        "within_2_sigma": float(np.mean(np.abs(pulls) < 2)),
        "true_frame": float(passage),
        **{key: found[key] for key in ("frame", "low", "high", "probability")},
        "sentence": found["sentence"],
    }


def curve(kind: str, at: float) -> Array:
    """(FRAMES,) shear that passes LEVEL at frame `at`."""
    t = np.arange(FRAMES)
    if kind == "jump":
        return np.where(t > at, 0.05, 0.0)
    if kind == "ramp":
        return np.asarray(np.maximum(0, 0.007 * (t - at) + LEVEL))
    return np.asarray(LEVEL * np.sqrt(np.maximum(t + 2, 0) / (at + 2)))


def movie(kind: str, at: float, *, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], float]:
    """(FRAMES, SIZE, SIZE) counts and counts per atom. The same atoms, off their sites by 3 % of a, in every frame."""
    a, turn, axis = rng.uniform(7, 15), rng.uniform(0, np.pi), rng.uniform(0, np.pi)
    counts = float(np.exp(rng.uniform(np.log(0.8), np.log(40))))
    t = np.array([turn, turn + np.pi / 3])
    index = np.stack(np.meshgrid(np.arange(-26, 27), np.arange(-26, 27)), -1).reshape(-1, 2)
    still = index @ (a * np.stack([-np.sin(t), np.cos(t)], 1))
    still = still + rng.uniform(-a, a, 2) + 0.03 * a * rng.standard_normal(still.shape)
    c, s = np.cos(axis), np.sin(axis)
    axes = np.array([[c, -s], [s, c]])
    frames, grid = [], np.arange(SIZE)
    for shear in curve(kind, at):
        points = still @ axes @ np.array([[1.0, shear], [0.0, 1.0]]) @ axes.T + SIZE / 2
        down, over = (np.exp(-((grid - p[:, None]) ** 2) / (2 * (0.18 * a) ** 2)) for p in points.T)
        frames.append(rng.poisson(counts * (down.T @ over + 0.2)).astype(np.float32))
    return np.stack(frames), counts


def fresh(number: int) -> dict[str, Any]:
    rows = []
    for n in range(number):
        rng = np.random.default_rng([2026, n])
        kind, at = ("jump", "ramp", "root")[n % 3], float(rng.uniform(6, FRAMES - 7))
        frames, counts = movie(kind, at, rng=rng)
        seen = [read_image(frame) for frame in frames]
        table = follow_shear([one.lattice if one.name != "noise" else None for one in seen], range(FRAMES))
        found = find_crossing(table["shear"], table["shear_err"], level=LEVEL, shared=SHARED)
        true = curve(kind, at)
        pulls = ((table["shear"] - true) / table["shear_err"]).to_numpy()
        rows.append(
            {
                "kind": kind,
                "counts": counts,
                "inside": bool(found.low <= at <= found.high),
                "width": found.high - found.low,
                "error": abs(found.t - at),
                "pulls_rms": float(np.sqrt(np.nanmean(pulls**2))),
            }
        )
    table = pd.DataFrame(rows)

    def summary(part: pd.DataFrame) -> dict[str, float]:
        return {
            "movies": len(part),
            "interval_holds": float(part.inside.mean()),
            "median_width_frames": float(part.width.median()),
            "median_error_frames": float(part.error.median()),
            "within_two_frames": float((part.error <= 2).mean()),
            "pulls_rms": float(np.sqrt((part.pulls_rms**2).mean())),
        }

    kinds = {kind: summary(part) for kind, part in table.groupby("kind")}
    doses = {
        name: summary(part)
        for name, part in table.groupby(np.where(table.counts < 2, "below 2 counts", "from 2 counts"))
    }
    return {"all": summary(table), **kinds, **doses}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=HERE.parents[1] / "shared" / "data" / "yardstick")
    parser.add_argument("--movies", type=int, default=40)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = {"yardstick": yardstick(chosen.set), "fresh": fresh(chosen.movies)}
    target = HERE / "measured" / "transition_frame.json"
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
