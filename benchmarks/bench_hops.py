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
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (after the thread count)
import pandas as pd  # noqa: E402
from bench_full_movies import HOP, make, open_share  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402
from scipy.stats import binomtest  # noqa: E402

from atomreel.pipeline.hops import hops_within  # noqa: E402
from atomreel.pipeline.progress import progress  # noqa: E402
from atomreel.simulate.history import Rates  # noqa: E402
from atomreel.simulate.movie import SimulatedMovie  # noqa: E402
from atomreel.track.sites import Sites  # noqa: E402

MEASURED = Path(__file__).parent / "measured" / "hops.json"
FRAMES, SIZE = 60, 256


def true_sites(movie: SimulatedMovie) -> Sites:
    """Every place where S ever stood, at rest, and how the frames moved."""
    drift = movie.table[["dy", "dx"]].to_numpy()
    sulphur = movie.atoms[movie.atoms["species"].isin(["S2", "S1"])]
    rest = np.unique(np.round(sulphur[["y", "x"]].to_numpy() - drift[sulphur["frame"]], 1), axis=0)
    twins = cKDTree(rest).query_pairs(1.0, output_type="ndarray")  # rounded up and down
    rest = np.delete(rest, twins.max(axis=1), axis=0)
    table = pd.DataFrame(rest, columns=["y", "x"])
    motion = pd.DataFrame({"frame": range(len(drift)), "dy": drift[:, 0], "dx": drift[:, 1], "turn_deg": 0.0})
    return Sites(table, sulphur, motion, np.ones((len(rest), len(drift))), HOP / movie.pixel, 0)


def of_true_tracks(movie: SimulatedMovie, rates: Rates) -> dict[str, Any]:
    """The hop rate from the true tracks, beside the truth."""
    sites = true_sites(movie)
    own = movie.defects[movie.defects["kind"] == "V_S"]
    drift = movie.table[["dy", "dx"]].to_numpy()
    site = cKDTree(sites.table).query(own[["y", "x"]].to_numpy() - drift[own["frame"]])[1]
    where = sites.table.to_numpy()[site]
    tracks = own.assign(site=site, site_y=where[:, 0], site_x=where[:, 1])
    found = hops_within(
        tracks,
        sites,
        np.arange(len(sites.table)),
        hop=HOP / movie.pixel,
        shape=movie.frames.shape[1:],
        times=movie.times,
        pixel=(movie.pixel, movie.pixel),
    )
    if found is None:
        return {}
    true, rate = rates.vacancy_hop * open_share(movie, "V_S"), found.rate
    covered = bool(rate.low <= true <= rate.high)
    return {"true": true, "found": rate.value, "low": rate.low, "high": rate.high, "covered": covered}


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
