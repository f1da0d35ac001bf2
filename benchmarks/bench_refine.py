"""Milliseconds per stage from a 512² frame to its table of columns with errors.

    python benchmarks/bench_refine.py [--threads 1 2] [--images FRAME.tif …] [--repeat 7]

Wall time, best of several, in a process of its own for each number of threads; at the end two processes of one thread at
once, as `atomreel run` shares the frames of a long movie: the mean wall time of a frame in both, halved. Stages: the survey, which a movie needs
once; the network with its maxima; the joint fit; the species; the rest of `find_columns`. `frame` is what a frame of a
movie costs, all but the survey; `cpu` the processor time of that. Without --images: simulated lattices.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 512
LATTICES = ((14.5, 2.3), (10.1, 2.0), (14.5, 4.6))  # spacing and σ of the peaks [px]
STAGES = ("survey", "network", "fit", "species", "rest", "frame", "cpu")
MEASURED = Path(__file__).parent / "measured" / "refine.json"


def lattice(spacing: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """A hexagonal lattice of Gaussians, 30 counts high on 5."""
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
    return rng.poisson(5 + 30 * gy.T @ gx).astype(np.float32)


def frames(files: list[Path]) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name, image and contrast: a lattice of wide peaks may as well be one of dark holes, so that it is told."""
    if not files:
        rng = np.random.default_rng(0)
        for spacing, sigma in LATTICES:
            yield f"{spacing} px, σ {sigma}", lattice(spacing, sigma, rng), "bright"
    for file in files:
        import tifffile

        image = np.load(file) if file.suffix == ".npy" else tifffile.imread(file)
        yield file.stem, np.squeeze(image), "auto"


def best(work: Callable[[], Any], repeat: int) -> tuple[float, float, Any]:
    """Least wall and processor time in ms, and what `work` gives."""
    spent, result = [], work()
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        spent.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    least = np.array(spent).min(0)
    return float(least[0]), float(least[1]), result


def stages(image: np.ndarray, contrast: str, repeat: int) -> tuple[int, dict[str, float]]:
    """Columns found, and milliseconds of each stage."""
    from atomreel.interpret.refine import refine_columns
    from atomreel.interpret.sublattices import find_species, label_by_place, measured
    from atomreel.predict.columns import find_columns, survey_columns

    spent: dict[str, float] = {}
    spent["survey"], _, survey = best(lambda: survey_columns(image, contrast=contrast), repeat)
    spent["network"], _, plain = best(lambda: find_columns(image, survey=survey, refine=False), repeat)
    start = plain.table[["y", "x"]].to_numpy()
    spent["fit"], _, refined = best(lambda: refine_columns(image, start, bright=survey.bright), repeat)
    table = measured(refined.table)
    spent["species"], _, _ = best(lambda: label_by_place(table, find_species([table])), repeat)
    spent["frame"], spent["cpu"], found = best(lambda: find_columns(image, survey=survey), repeat)
    spent["rest"] = spent["frame"] - spent["network"] - spent["fit"] - spent["species"]
    return len(found.table), spent


def shared(files: list[Path], repeat: int) -> None:
    """Print the mean wall time [ms] of a frame of each image, while another process does the same."""
    import torch

    from atomreel.predict.columns import find_columns, survey_columns

    torch.set_num_threads(1)
    images = [
        (name, image, survey_columns(image, contrast=contrast)) for name, image, contrast in frames(files)
    ]
    for _, image, survey in images:
        find_columns(image, survey=survey)
    sys.stdin.readline()  # both are ready
    for name, image, survey in images:
        start = time.perf_counter()
        for _ in range(repeat):
            find_columns(image, survey=survey)
        print(json.dumps([name, 1e3 * (time.perf_counter() - start) / repeat]), flush=True)
        sys.stdin.readline()  # and have both done this one


def two_at_once(command: list[str]) -> dict[str, float]:
    """Milliseconds per frame of each image with two processes of one thread."""
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pipe = subprocess.PIPE
    pair = [subprocess.Popen(command, env=alone, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    spent: dict[str, float] = {}
    while all(child.poll() is None for child in pair):
        for child in pair:
            print(file=child.stdin, flush=True)
        lines = [child.stdout.readline() for child in pair if child.stdout]
        if not all(lines):
            break
        both = [json.loads(line) for line in lines]
        spent[both[0][0]] = float(np.mean([ms for _, ms in both])) / 2
    for child in pair:
        child.communicate()
    return spent


def measure(files: list[Path], repeat: int) -> None:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for name, image, contrast in frames(files):
        count, spent = stages(image, contrast, repeat)
        values = " ".join(f"{spent[stage]:8.1f}" for stage in STAGES)
        print(f"{os.environ['OMP_NUM_THREADS']:>7s} {count:8d} {values}  {name}", flush=True)
        told = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        told.setdefault(os.environ["OMP_NUM_THREADS"], {})[name] = {"columns": count, **spent}
        MEASURED.write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here or chosen.shared:
        (measure if chosen.here else shared)(chosen.images, chosen.repeat)
        return
    print("threads  columns " + " ".join(f"{stage:>8s}" for stage in STAGES), flush=True)
    same = [sys.executable, __file__, "--repeat", str(chosen.repeat)]
    same += ["--images", *map(str, chosen.images)] if chosen.images else []
    for count in chosen.threads:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        subprocess.run([*same, "--here"], check=True, env=os.environ | dict.fromkeys(names, str(count)))
    told = json.loads(MEASURED.read_text())
    for name, spent in two_at_once([*same, "--shared"]).items():
        print(f"two processes of one thread: {spent:.1f} ms per frame  {name}", flush=True)
        told.setdefault("two processes", {})[name] = spent
    MEASURED.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
