"""Linking of 10⁴ points per frame over 10³ frames: wall time, peak memory, right links; peers beside it.

    python benchmarks/bench_link.py [--points 10000] [--frames 1000] [--peer NAME=PYTHON…] [--peer-frames 50]

Points start on a jittered hexagonal lattice 10 px apart, walk with a Gaussian step of 1 px per axis and frame, and are seen
with an error of 0.1 px. 1 % of them end in each frame and as many begin anywhere; 3 % are overlooked.
After some hundred frames the walk has made them a random (Poisson) cloud of the same density, which is harder.
A peer is measured by benchmarks/peers/link_points.py under its own interpreter, e.g. --peer trackpy=/envs/peers/bin/python.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

HERE = Path(__file__).parent
MEASURED = HERE / "measured" / "link.json"
SPACING, STEP, SEEN, ENDS, MISSED = 10.0, 1.0, 0.1, 0.01, 0.03
SETTINGS = {"max_step": 4.0, "memory": 2}
OURS = """
import json, resource, sys, time
from pathlib import Path
import pandas as pd
from atomreel.track.link import link
file, max_step, memory, out = sys.argv[1:]
def peak():
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
table = pd.read_parquet(file)
name = table.pop("name").to_numpy("int32")
if Path("/proc/self/clear_refs").exists():  # so that the peak is not that of reading the file
    Path("/proc/self/clear_refs").write_text("5")
before, start, cpu = peak(), time.perf_counter(), time.process_time()
tracks = link(table, max_step=float(max_step), memory=int(memory))
figures = {"rows": len(tracks), "wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
print(json.dumps(figures | {"before_MiB": before, "peak_MiB": peak()}))
tracks[["frame", "track"]].assign(name=name).to_parquet(out)
"""


def walk(points: int, frames: int, *, seed: int = 7) -> pd.DataFrame:
    """About `points` per frame. Table frame, y, x, y_err, x_err, kind, score and name (the truth), sorted by frame."""
    rng = np.random.default_rng(seed)
    points = round(points / (1 - MISSED))
    side = int(np.ceil(np.sqrt(points)))
    row, column = np.divmod(np.arange(points), side)
    where = np.stack([row * SPACING * np.sqrt(3) / 2, (column + 0.5 * (row % 2)) * SPACING], axis=1)
    field = where.max(axis=0) + SPACING
    where = where + rng.normal(0, 0.15 * SPACING, where.shape)
    name, named = np.arange(points), points
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for frame in range(frames):
        seen = rng.random(points) > MISSED
        shown = (where + rng.normal(0, SEEN, where.shape))[seen]
        parts.append(
            {"frame": np.full(len(shown), frame), "y": shown[:, 0], "x": shown[:, 1], "name": name[seen]}
        )
        where = np.abs(where + rng.normal(0, STEP, where.shape))
        where = field - np.abs(field - where)
        new = rng.random(points) < ENDS
        where[new] = rng.random((int(new.sum()), 2)) * field
        name = np.where(new, named + np.cumsum(new) - 1, name)
        named += int(new.sum())
    table = pd.DataFrame({key: np.concatenate([p[key] for p in parts]) for key in parts[0]})
    kinds = np.array(["V_S", "Mo_W", "V_W"])[table["name"].to_numpy() % 3]
    scores = rng.uniform(0.8, 1, len(table))
    return table.assign(y_err=SEEN, x_err=SEEN, kind=kinds, score=scores)


def right_links(tracks: pd.DataFrame) -> dict[str, float]:
    """Of the links between consecutive points of one track: the share within one true walk; and of the true ones, the share made."""

    def pairs(by: str) -> npt.NDArray[np.int64]:
        order = np.lexsort((tracks["frame"], tracks[by]))
        same = np.diff(tracks[by].to_numpy()[order]) == 0
        return order[:-1][same] * len(tracks) + order[1:][same]

    made, true = pairs("track"), pairs("name")
    both = len(np.intersect1d(made, true, assume_unique=True))
    return {"precision": round(both / len(made), 5), "recall": round(both / len(true), 5)}


def ours(table: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", OURS, table, str(SETTINGS["max_step"]), str(SETTINGS["memory"]), out]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    figures = {name: round(value, 2) for name, value in json.loads(done.stdout).items()}
    return figures | right_links(pd.read_parquet(out))


def peer(name: str, python: str, table: Path, out: Path) -> dict[str, Any]:
    command = [python, HERE / "peers" / "link_points.py", name, table, out, json.dumps(SETTINGS)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1]) | right_links(pd.read_parquet(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer-frames", type=int, default=50)
    args = parser.parse_args()
    result = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    result |= {"settings": SETTINGS, "processor": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory() as home:
        table, out = Path(home) / "points.parquet", Path(home) / "tracks.parquet"
        if args.frames:
            walk(args.points, args.frames).to_parquet(table)
            result[f"{args.points} x {args.frames}"] = {"atomreel": ours(table, out)}
        if args.peer:
            walk(args.points, args.peer_frames).to_parquet(table)
            one = result.setdefault(f"{args.points} x {args.peer_frames}", {})
            one["atomreel"] = ours(table, out)
            one |= {name: peer(name, path, table, out) for name, path in (p.split("=", 1) for p in args.peer)}
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
