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


def score(scorer: str, truth: Path, found: Path, name: str) -> None:
    command = [
        sys.executable,
        str(SCORERS / scorer),
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
    runs = {
        "columns": (sets / "Y1_columns" / "images", OUT / "columns"),
        "bravais": (sets / "Y2_bravais", OUT / "bravais"),
    }
    for name, (source, out) in runs.items():
        start = time.perf_counter()
        subprocess.run([sys.executable, ROOT / "benchmarks" / "yardstick.py", name, source, out], check=True)
        print(f"\n{name}: {time.perf_counter() - start:.0f} s")
        if name == "columns":
            score("score_columns.py", sets / "Y1_columns" / "truth.parquet", out / "found.parquet", name)
        else:
            truth = sets / "Y2_bravais"
            score("score_bravais.py", truth / "lattices_truth.parquet", out / "probs.csv", name)
            score(
                "score_bravais.py",
                truth / "transition_truth.parquet",
                out / "probs_transition.csv",
                "transition",
            )


if __name__ == "__main__":
    main()
