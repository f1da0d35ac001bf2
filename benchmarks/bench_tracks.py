"""Tracks and transitions of defects: atomreel and AtomAI on the same tables, against the simulation's truth.

    python benchmarks/bench_tracks.py [--atomai PYTHON] [--movies 12]

Movies of `simulate_ws2_movie`: 14 dopants that catch and release a sulphur vacancy, 10 vacancies, 120 frames with two pauses,
40 px of drift; the field is the middle 170 px, so that defects enter and leave. The table that both get is the truth
seen as a detector would: 0.5 px of error, 3 % overlooked, 1 point in 50 invented, 3 % of dopants read as the other kind. The true
drift is taken off for both, and both may step 19 px (a hop is 15.8 px). Writes measured/tracks_peer.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import expm
from scipy.optimize import linear_sum_assignment

from atomreel.kinetics.hidden import fit_hidden
from atomreel.simulate.movie import SimulatedMovie, simulate_ws2_movie
from atomreel.track.link import link

HERE = Path(__file__).parent
MEASURED = HERE / "measured" / "tracks_peer.json"
KINDS = ("V_S", "Mo_W", "Mo_W+V_S")
FIELD, ERROR, MISSED, INVENTED, MISREAD, RMAX = (43.0, 213.0), 0.5, 0.03, 0.02, 0.03, 19.0


def observe(movie: SimulatedMovie, rng: np.random.Generator) -> pd.DataFrame:
    """frame, y, x (without drift), kind (as read), name (true track, −1 invented), true (kind)."""
    table = movie.defects.merge(movie.table[["frame", "dy", "dx"]], on="frame")
    inside = table[["y", "x"]].ge(FIELD[0]).all(axis=1) & table[["y", "x"]].le(FIELD[1]).all(axis=1)
    table = table[inside & (rng.random(len(table)) > MISSED)]
    wrong = (rng.random(len(table)) < MISREAD) & (table["kind"] != "V_S")
    other = table["kind"].map({"Mo_W": "Mo_W+V_S", "Mo_W+V_S": "Mo_W"})
    seen = table.assign(true=table["kind"], kind=table["kind"].where(~wrong, other), name=table["track"])
    count = int(INVENTED * len(seen))
    false = pd.DataFrame({"frame": rng.integers(0, len(movie.times), count), "name": -1, "true": "none"})
    false = false.assign(
        y=rng.uniform(*FIELD, count), x=rng.uniform(*FIELD, count), kind=rng.choice(KINDS, count)
    )
    false = false.merge(movie.table[["frame", "dy", "dx"]], on="frame")
    seen = pd.concat([seen, false], ignore_index=True).sort_values("frame", kind="stable", ignore_index=True)
    off = rng.normal(0, ERROR, (len(seen), 2))
    seen = seen.assign(y=seen["y"] - seen["dy"] + off[:, 0], x=seen["x"] - seen["dx"] + off[:, 1])
    return seen[["frame", "y", "x", "kind", "name", "true"]]


def score(claims: pd.DataFrame, seen: pd.DataFrame) -> dict[str, float]:
    """claims: row (of `seen`) and track, a row as often as it is claimed. IDF1 after Ristani et al., ECCV workshops 2016."""
    true = seen["name"] >= 0
    names, tracks = sorted(seen.loc[true, "name"].unique()), sorted(claims["track"].unique())
    both = claims.assign(name=seen["name"].to_numpy()[claims["row"]])
    table = (
        pd.crosstab(both["name"], both["track"]).reindex(index=names, columns=tracks, fill_value=0).to_numpy()
    )
    right = table[linear_sum_assignment(table, maximize=True)].sum()
    starts = seen[true].groupby("name")["frame"].min()
    late = seen.index[true & seen["name"].isin(starts[starts > 0].index)]
    held = set(claims["row"])
    return {
        "idf1": 2 * right / (true.sum() + len(claims)),
        "points_claimed_twice": float((claims["row"].value_counts() > 1).sum() / len(seen)),
        "late_points": len(late),
        "late_points_in_no_track": float(sum(row not in held for row in late) / max(len(late), 1)),
    }


def rates(tracks: pd.DataFrame, movie: SimulatedMovie, seed: int) -> dict[str, Any]:
    """Catch and release [1/s] of dopants by the hidden Markov model, with 95 % intervals."""
    span = tracks.groupby("track")
    dopant = (tracks["kind"] != "V_S").groupby(tracks["track"]).transform("mean") > 0.5
    rows = tracks[dopant & (span["frame"].transform("size") >= 3) & (tracks["kind"] != "V_S")]
    read = (rows["kind"] == "Mo_W+V_S").to_numpy()
    log = np.log(np.where(np.stack([~read, read], axis=1), 1 - MISREAD, MISREAD))
    fit = fit_hidden(rows, log, states=KINDS[1:], times=movie.times, draws=400, burn=100, rng=seed).rates
    out = {}
    for name, (i, j) in {"catch": (0, 1), "release": (1, 0)}.items():
        true = float(movie.rates[name]["value"])
        ends = float(fit.low[i, j]), float(fit.high[i, j])
        out[name] = {"found": float(fit.q[i, j]), "ends": ends, "covered": ends[0] <= true <= ends[1]}
    return out


def compare(movies: list[SimulatedMovie], tables: list[pd.DataFrame], python: str | None) -> dict[str, Any]:
    ours: list[dict[str, Any]] = []
    for k, (movie, seen) in enumerate(zip(movies, tables, strict=True)):
        tracks = link(seen, max_step=RMAX, memory=3, times=movie.times)
        claims = pd.DataFrame({"row": np.arange(len(seen)), "track": tracks["track"]})
        long = claims[claims.groupby("track")["row"].transform("size") >= 3]
        ours.append({"tracks": score(long, seen), "rates": rates(tracks, movie, k)})
    truth = {name: float(movies[0].rates[name]["value"]) for name in ("catch", "release")}
    q = np.array([[-truth["catch"], truth["catch"]], [truth["release"], -truth["release"]]])
    usual = float(np.median(np.diff(movies[0].times)))
    p = expm(q * usual)
    result: dict[str, Any] = {"movies": len(movies), "points": sum(map(len, tables))}
    result["truth"] = {**truth, "p_catch_per_frame": p[0, 1], "p_release_per_frame": p[1, 0]}
    result["atomreel"] = _mean([one["tracks"] for one in ours]) | {
        name: {
            "median": float(np.median([one["rates"][name]["found"] for one in ours])),
            "rms_relative": float(
                np.sqrt(np.mean([(one["rates"][name]["found"] / truth[name] - 1) ** 2 for one in ours]))
            ),
            "covered": sum(one["rates"][name]["covered"] for one in ours),
        }
        for name in truth
    }
    if python:
        result["AtomAI"] = by_atomai(tables, python, p)
        exact = [t.assign(kind=t["true"].where(t["name"] >= 0, t["kind"])) for t in tables]
        result["AtomAI, every kind read right"] = by_atomai(exact, python, p)
    return result


def by_atomai(tables: list[pd.DataFrame], python: str, p: np.ndarray) -> dict[str, Any]:
    work = []
    for seen in tables:
        number = seen["kind"].map({kind: k + 1 for k, kind in enumerate(KINDS)})
        rows = np.column_stack([seen[["y", "x"]], number])
        work.append([rows[seen["frame"] == k].tolist() for k in range(int(seen["frame"].max()) + 1)])
    with tempfile.TemporaryDirectory() as home:
        jobs, out = Path(home) / "jobs.json", Path(home) / "out.json"
        jobs.write_text(json.dumps({"classes": len(KINDS), "movies": work}))
        subprocess.run([python, HERE / "peers" / "atomai_tracks.py", jobs, out, str(RMAX)], check=True)
        found = json.loads(out.read_text())
    scores, matrices = [], []
    for seen, one in zip(tables, found["movies"], strict=True):
        place = {
            (f, round(y, 6), round(x, 6)): k
            for k, (f, y, x) in enumerate(seen[["frame", "y", "x"]].to_numpy())
        }
        claims = [
            (place[k, round(y, 6), round(x, 6)], track)
            for track, points in enumerate(one["tracks"])
            for k, y, x in points
        ]
        scores.append(score(pd.DataFrame(claims, columns=["row", "track"]), seen))
        matrices.append(np.array(one["matrix"], dtype=float))
    result: dict[str, Any] = {"version": found["version"], **_mean(scores)}
    for name, (i, j) in {"catch": (1, 2), "release": (2, 1)}.items():
        values = np.array([m[i, j] for m in matrices])
        true = p[i - 1, j - 1]
        result[f"p_{name}_per_frame"] = {
            "median": float(np.nanmedian(values)),
            "over_truth": float(np.nanmedian(values) / true),
            "rms_relative": float(np.sqrt(np.nanmean((values / true - 1) ** 2))),
            "undefined": int(np.isnan(values).sum()),
        }
    return result


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atomai", metavar="PYTHON")
    parser.add_argument("--movies", type=int, default=12)
    args = parser.parse_args()
    movies = [
        simulate_ws2_movie(100 + k, frames=120, dopants=14, vacancies=10, drift=40.0)
        for k in range(args.movies)
    ]
    tables = [observe(movie, np.random.default_rng([9, k])) for k, movie in enumerate(movies)]
    result = compare(movies, tables, args.atomai)
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
