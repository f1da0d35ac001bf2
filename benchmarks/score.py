"""`make yardstick`: run every public yardstick set that is at hand and print what its scorer says.

ATOMREEL_DATA names the folder that holds `yardstick/` (data); the scorers lie in `../yardstick` of it.
Scores go to benchmarks/measured/SET.json, from which docs/results.md is made.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ATOMREEL_DATA", ROOT.parent / "shared" / "data")).resolve()
SCORERS = DATA.parent / "yardstick"
OUT = ROOT / "out" / "yardstick"
MEASURED = ROOT / "benchmarks" / "measured"
BASELINE = (
    ROOT / "out" / "bravais-2018"
)  # scored too where `atomreel train bravais-2018 -o out/bravais-2018` made it

# set → what it is given, and for each of its outputs: scorer, truth, output, name of the figures
RUNS = {
    "columns": (
        "Y1_columns/images",
        [("score_columns.py", "Y1_columns/truth.parquet", "found.parquet", "columns")],
    ),
    "bravais": (
        "Y2_bravais",
        [
            ("score_bravais.py", "Y2_bravais/lattices_truth.parquet", "probs.csv", "bravais"),
            ("score_bravais.py", "Y2_bravais/transition_truth.parquet", "probs_transition.csv", "transition"),
        ],
    ),
    "heights": (
        "Y4_heights",
        [("score_heights.py", "Y4_heights/truth.parquet", "found.parquet", "heights")],
    ),
    "defects": (
        "Y3_movies/defects",
        [
            ("score_movie.py defects", "Y3_movies/defects", ".", "movie_defects"),
            ("score_movie.py defects", "Y3_movies/defects", "frames", "movie_defects_frames"),
        ],
    ),
    "holes": ("Y3_movies/holes", [("score_movie.py holes", "Y3_movies/holes", ".", "movie_holes")]),
}


def score(scorer: str, truth: Path, found: Path, name: str) -> None:
    script, *what = scorer.split()
    command = [
        sys.executable,
        str(SCORERS / script),
        *what,
        str(truth),
        str(found),
        "--json",
        str(MEASURED / f"{name}.json"),
    ]
    subprocess.run(command, check=True)


def main() -> None:
    sets = DATA / "yardstick"
    if not sets.is_dir():
        sys.exit(f"no yardstick sets at {sets}; set ATOMREEL_DATA to the folder that holds them")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (source, scored) in RUNS.items():
        start = time.perf_counter()
        command = [sys.executable, ROOT / "benchmarks" / "yardstick.py", name, sets / source, OUT / name]
        subprocess.run(command, check=True)
        print(f"\n{name}: {time.perf_counter() - start:.0f} s")
        for scorer, truth, found, what in scored:
            score(scorer, sets / truth, OUT / name / found, what)
    if (BASELINE / "card.toml").is_file():
        out, truth = OUT / "bravais-2018", sets / "Y2_bravais" / "lattices_truth.parquet"
        command = [sys.executable, ROOT / "benchmarks" / "yardstick.py", "bravais", sets / "Y2_bravais", out]
        subprocess.run([*command, "--model", BASELINE], check=True)
        score("score_bravais.py", truth, out / "probs.csv", "bravais_2018_yardstick")


if __name__ == "__main__":
    main()
