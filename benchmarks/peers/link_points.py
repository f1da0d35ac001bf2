"""Points linked by trackpy or laptrack; run in an environment of its own.

    python link_points.py trackpy|laptrack POINTS.parquet OUT.parquet SETTINGS

Both are given what atomreel is given: the longest step and the number of frames that a point may be missing for.
trackpy 0.7: search_range = max_step, memory, numba's subnetwork solver where there is one, KD-tree neighbours.
laptrack 0.17: squared distances, cut-offs max_step² between frames and over gaps, no splits, no merges.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import pandas as pd


def by_trackpy(points: pd.DataFrame, settings: dict) -> pd.Series:
    import trackpy

    trackpy.quiet()
    linked = trackpy.link(points, settings["max_step"], memory=settings["memory"], pos_columns=["y", "x"])
    return linked["particle"].reindex(points.index)


def by_laptrack(points: pd.DataFrame, settings: dict) -> pd.Series:
    from laptrack import LapTrack

    reach = settings["max_step"] ** 2
    tracker = LapTrack(cutoff=reach, gap_closing_cutoff=reach, gap_closing_max_frame_count=settings["memory"])
    linked, *_ = tracker.predict_dataframe(
        points.assign(row=points.index), ["y", "x"], frame_col="frame", only_coordinate_cols=False
    )
    return linked.set_index("row")["track_id"].reindex(points.index)


def peak_MiB() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main(name: str, file: str, out: str, settings: str) -> None:
    table = pd.read_parquet(file)
    points = table[["frame", "y", "x"]].reset_index(drop=True)
    linker = {"trackpy": by_trackpy, "laptrack": by_laptrack}[name]
    linker(points[(points["frame"] < 3) & (points["y"] < 100)], json.loads(settings))  # imports, compiles
    start, cpu = time.perf_counter(), time.process_time()
    track = linker(points, json.loads(settings))
    figures = {"rows": len(table), "wall_s": round(time.perf_counter() - start, 1)}
    figures |= {"cpu_s": round(time.process_time() - cpu, 1), "peak_MiB": round(peak_MiB(), 1)}
    table[["frame", "name"]].assign(track=track.to_numpy(int)).to_parquet(out)
    print(json.dumps(figures | {"version": importlib.metadata.version(name)}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
