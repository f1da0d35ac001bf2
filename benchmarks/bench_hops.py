"""Hop rate of S vacancies from the true tracks of many movies that are not drawn: is it the estimator, or what was found?

    python benchmarks/bench_hops.py [--movies 600] [--first 24]

The movies are those of `bench_full_movies.py` (60 frames, 256 px) from seed `first` on: rates drawn anew, a growing hole, dopants, two pauses. `fit_hops` sees
the true site of every vacancy in every frame, with the same rules at the field's border as `atomreel run`; the truth is the rate asked for
times the share of open neighbours. So every miss is the estimator's or the chance of the movie. Writes measured/hops.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (after the thread count)
from bench_full_movies import make, of_true_tracks  # noqa: E402
from scipy.stats import binomtest  # noqa: E402

from atomreel.pipeline.progress import progress  # noqa: E402

MEASURED = Path(__file__).parent / "measured" / "hops.json"
FRAMES, SIZE = 60, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--movies", type=int, default=600)
    parser.add_argument("--first", type=int, default=24)
    chosen = parser.parse_args()
    every = []
    with progress("movies", chosen.movies) as advance:
        for seed in range(chosen.first, chosen.first + chosen.movies):
            every.append(of_true_tracks(*make(seed, frames=FRAMES, size=SIZE, draw=False)))
            advance(1)
    every = [one for one in every if one]
    inside = sum(one["covered"] for one in every)
    ratio = np.array([one["found"] / one["true"] for one in every])
    result = {
        "movies": len(every),
        "covered": inside / len(every),
        "p": float(binomtest(inside, len(every), 0.95).pvalue),
        "too_low": sum(one["high"] < one["true"] for one in every),
        "too_high": sum(one["low"] > one["true"] for one in every),
        "mean_over_truth": float(ratio.mean()),
        "mean_over_truth_err": float(ratio.std() / np.sqrt(len(ratio))),
    }
    print(result)
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
