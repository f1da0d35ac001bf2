"""Whole movies with known truth through `atomreel run`: do the intervals cover, are defects, kinds and tracks right?

    python benchmarks/bench_full_movies.py FOLDER [--movies 60] [--frames 60] [--size 256]

Every movie: a seed of its own, rates drawn anew (RATES), 7 to 10 Mo dopants, 5 to 8 vacancies of S and in every third movie 3 of W, a growing
hole, drift, line jitter, two pauses; the one recipe of the yardstick set "defects". One line per movie in FOLDER/movies.jsonl, so that a
stopped run goes on from there; the movies themselves are thrown away. Hops that the simulator refuses (onto a site that is taken, in the hole, or
beside a dopant) never happen, so the true hop rate is what was asked for times the share of open neighbours, counted in every frame. The hole
leaves lone empty sites at its rim, which no table of true defects lists: what is found where truly nothing stands is not false, and of V_W the true
hop rate is that of all that was found as such, of which those at the rim never hop. Beside the rate of V_S stands what the same estimator makes of the
true tracks of the same movie: what it misses is the chance of the movie.
Writes measured/full_movies.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import binomtest, gamma

from atomreel.pipeline.hops import hops_within
from atomreel.simulate.folder import write_movie
from atomreel.simulate.history import Rates
from atomreel.simulate.movie import BOND, SimulatedMovie, simulate_ws2_movie
from atomreel.track.sites import Sites

HERE = Path(__file__).parent
OUT = HERE / "measured" / "full_movies.json"
RATES = {  # drawn evenly between, per second; two seconds from frame to frame
    "catch": (0.02, 0.05),
    "release": (0.02, 0.05),
    "turn": (0.01, 0.03),
    "vacancy_hop": (0.015, 0.04),
    "mo_hop": (0.0, 0.01),
    "growth": (0.0, 0.006),
}
HOP = np.sqrt(3) * BOND  # Å
KINDS = {"V_S": "S", "V_W": "W"}


def make(seed: int, *, frames: int, size: int, draw: bool = True) -> tuple[SimulatedMovie, Rates]:
    rng = np.random.default_rng([seed, 2026])
    rates = Rates(**{name: float(rng.uniform(*ends)) for name, ends in RATES.items()})
    movie = simulate_ws2_movie(
        rng,
        frames=frames,
        size=size,
        interval=2.0,
        dopants=int(rng.integers(7, 11)),
        vacancies=int(rng.integers(5, 9)),
        metal_vacancies=3 if seed % 3 == 2 else 0,
        rates=rates,
        draw=draw,
    )
    return movie, rates


def analyse(movie: SimulatedMovie, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """tracks.parquet and rates.json, by the command line."""
    write_movie(folder, movie)
    told = ["--set", f"input.times_csv={folder / 'times.csv'}", "-r", str(HERE / "recipes" / "defects.toml")]
    command = ["run", str(folder / "movie.tif"), *told, "-o", str(folder / "run")]
    subprocess.run([sys.executable, "-m", "atomreel", *command], check=True, capture_output=True)
    out = folder / "run" / "reactions"
    rates = json.loads((out / "rates.json").read_text(encoding="utf-8"))
    return pd.read_parquet(out / "tracks.parquet"), rates


def open_share(movie: SimulatedMovie, kind: str) -> float:
    """Share of the neighbouring sites to which vacancies of the kind could hop, over all of them and all frames."""
    near, taken = 1.15 * HOP / movie.pixel, {"V_S": ("S2",), "V_W": ("W",)}[kind]
    share: list[float] = []
    for frame, atoms in movie.atoms.groupby("frame"):
        own = movie.defects[(movie.defects["frame"] == frame) & (movie.defects["kind"] == kind)]
        where = own[["y", "x"]].to_numpy()
        size = movie.frames.shape[1]
        where = where[((where > near) & (where < size - 1 - near)).all(axis=1)]
        free = atoms[atoms["species"].isin(taken)][["y", "x"]].to_numpy()
        if kind == "V_S":
            mo = atoms[atoms["species"] == "Mo"][["y", "x"]].to_numpy()
            free = free[cKDTree(mo).query(free)[0] > 1.3 * BOND / movie.pixel]
        share += [n / 6 for n in cKDTree(free).query_ball_point(where, near, return_length=True)]
    return float(np.mean(share))


def real_share(movie: SimulatedMovie, kind: str, found: pd.DataFrame) -> float:
    """Of the points found as W vacancies, the share that are no sites of the hole."""
    if kind != "V_W":
        return 1.0
    real = []
    for frame, own in found[found["kind"] == kind].groupby("frame"):
        true = movie.defects[(movie.defects["frame"] == frame) & (movie.defects["kind"] == kind)]
        near = cKDTree(true[["y", "x"]]).query(own[["y", "x"]])[0] if len(true) else np.full(len(own), np.inf)
        real += (near < 0.4 * BOND / movie.pixel).tolist()
    return float(np.mean(real)) if real else 1.0


def truths(movie: SimulatedMovie, rates: Rates, found: pd.DataFrame) -> dict[str, float]:
    true = {
        "catch of Mo_W": rates.catch / 3,
        "release of Mo_W": rates.release,
        "turn of Mo_W": rates.turn / 2,
    }
    for kind in KINDS:
        if (movie.defects["kind"] == kind).any():
            hops = rates.vacancy_hop * open_share(movie, kind) * real_share(movie, kind, found)
            true[f"hops of {kind}"] = hops
            true[f"D of {kind} by hops"] = hops * HOP**2 / 4
            true[f"D of {kind} by displacement"] = hops * HOP**2 / 4
    return true


def complete(movie: SimulatedMovie, name: str) -> float | None:
    """Width of the interval of someone who sees every event, Gamma(count + ½, time at risk), over equal neighbours."""
    word = name.split()[0]
    if word not in movie.rates:
        return None
    one, of = movie.rates[word], {"catch": 3, "release": 1, "turn": 2}[word]
    low, high = gamma.ppf([0.025, 0.975], float(one["count"]) + 0.5, scale=1 / (of * float(one["dwell_s"])))
    return float(high - low)


def judge_rates(
    movie: SimulatedMovie, true_rates: dict[str, float], rates: Rates, found: dict[str, Any]
) -> dict[str, Any]:
    out = {}
    for name, true in true_rates.items():
        if name not in found:
            out[name] = {"true": true, "found": None}
            continue
        one = found[name]
        high = np.inf if one["high"] is None else one["high"]
        best = complete(movie, name)
        out[name] = {
            "true": true,
            "found": one["value"],
            "low": one["low"],
            "high": one["high"],
            "covered": bool(one["low"] <= true <= high),
            "width_over_complete": None if best is None else float((high - one["low"]) / best),
        }
    states = ("Mo_W", "Mo_W+V_S:1", "Mo_W+V_S:2", "Mo_W+V_S:3")
    inside = []
    for i, a in enumerate(states):
        for j, b in enumerate(states):
            if i != j and f"{a}→{b}" in found:
                true = rates.catch / 3 if i == 0 else rates.release if j == 0 else rates.turn / 2
                one = found[f"{a}→{b}"]
                inside.append(one["low"] <= true <= (np.inf if one["high"] is None else one["high"]))
    return {**out, "each of 12": {"covered": int(np.sum(inside)), "of": len(inside)}}


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


def judge_tracks(movie: SimulatedMovie, found: pd.DataFrame) -> dict[str, float]:
    """Points matched within 0.4 of the distance of columns, those within one distance of the border left out on both sides."""
    near = BOND / movie.pixel
    size = movie.frames.shape[1]
    counts = dict.fromkeys(("true", "found", "both", "kind", "state", "states"), 0)
    pairs: dict[tuple[int, int], int] = {}
    for frame in range(len(movie.times)):
        a, b = (t[t["frame"] == frame].reset_index(drop=True) for t in (movie.defects, found))
        where, seen = a[["y", "x"]].to_numpy(), b[["y", "x"]].to_numpy()
        inner = [((p > near) & (p < size - 1 - near)).all(axis=1) for p in (where, seen)]
        far = np.linalg.norm(where[:, None] - seen[None], axis=2)
        i, j = linear_sum_assignment(np.minimum(far, 0.4 * near))
        close = far[i, j] < 0.4 * near
        i, j = i[close], j[close]
        met = inner[0][i]
        atoms = movie.atoms[movie.atoms["frame"] == frame][["y", "x"]]
        lone = cKDTree(atoms).query(seen)[0] < 0.4 * near
        lone[j] = False
        counts["true"] += int(inner[0].sum())
        counts["both"] += int(met.sum())
        counts["found"] += int(met.sum() + (lone & inner[1]).sum())
        for p, q in zip(i[met], j[met], strict=True):
            same = a.at[p, "kind"] == b.at[q, "kind"]
            counts["kind"] += bool(same)
            if same and a.at[p, "kind"] == "Mo_W+V_S":  # counted the other way round: y up there, y down here
                counts["states"] += 1
                counts["state"] += bool(4 - a.at[p, "state"] == b.at[q, "state"])
            key = int(a.at[p, "track"]), int(b.at[q, "track"])
            pairs[key] = pairs.get(key, 0) + 1
    names = [sorted({key[k] for key in pairs}) for k in (0, 1)]
    table = np.zeros((len(names[0]), len(names[1])))
    for (p, q), n in pairs.items():
        table[names[0].index(p), names[1].index(q)] = n
    same = table[linear_sum_assignment(-table)].sum()
    total = counts["true"] + counts["found"]
    return {
        "f1": 2 * counts["both"] / total,
        "kinds": counts["kind"] / max(counts["both"], 1),
        "states": counts["state"] / max(counts["states"], 1),
        "idf1": float(2 * same / total),
    }


def one(seed: int, frames: int, size: int) -> dict[str, Any]:
    start = time.perf_counter()
    movie, rates = make(seed, frames=frames, size=size)
    with tempfile.TemporaryDirectory() as folder:
        tracks, found = analyse(movie, Path(folder))
    return {
        "seed": seed,
        "frames": frames,
        "size": size,
        "seconds": round(time.perf_counter() - start, 1),
        **judge_tracks(movie, tracks),
        "rates": judge_rates(movie, truths(movie, rates, tracks), rates, found),
        "from_true_tracks": of_true_tracks(movie, rates),
    }


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {"movies": len(lines), "frames": lines[0]["frames"], "size": lines[0]["size"]}
    result |= {"with_V_W": sum("hops of V_W" in line["rates"] for line in lines)}
    for name in ("f1", "kinds", "states", "idf1"):
        values = [line[name] for line in lines]
        result[name] = {"median": float(np.median(values)), "lowest": float(np.min(values))}
    covered: dict[str, Any] = {}
    for name in lines[0]["rates"] | lines[-1]["rates"] | {k: 0 for line in lines for k in line["rates"]}:
        own = [line["rates"][name] for line in lines if "covered" in line["rates"].get(name, {})]
        hits = sum(int(x["covered"]) for x in own)
        of = sum(int(x.get("of", 1)) for x in own)
        if not of:
            continue
        wide = [x["width_over_complete"] for x in own if x.get("width_over_complete") is not None]
        off = [x["found"] / x["true"] - 1 for x in own if x.get("found") is not None]
        covered[name] = {
            "covered": hits / of,
            "of": of,
            "p": float(binomtest(hits, of, 0.95).pvalue),
            **({"width_over_complete": float(np.median(wide))} if wide else {}),
            **({"bias": float(np.median(off))} if off else {}),
        }
    both = [
        (line["rates"]["hops of V_S"]["covered"], line["from_true_tracks"]["covered"])
        for line in lines
        if line.get("from_true_tracks") and line["rates"].get("hops of V_S", {}).get("found") is not None
    ]
    seen = [ours for ours, known in both if known]
    ratio = [
        line["rates"]["hops of V_S"]["found"] / line["from_true_tracks"]["found"]
        for line in lines
        if line.get("from_true_tracks") and line["rates"].get("hops of V_S", {}).get("found") is not None
    ]
    known = {
        "movies": len(both),
        "covered": sum(k for _, k in both),
        "covered_by_both": sum(seen),
        "rate_over_that_of_true_tracks": float(np.mean(ratio)) if ratio else None,
    }
    return {**result, "rates": covered, "hops_of_V_S_from_true_tracks": known}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--movies", type=int, default=60)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=256)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    file = chosen.folder / "movies.jsonl"
    lines = [json.loads(t) for t in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    done = {line["seed"] for line in lines}
    for seed in (s for s in range(chosen.movies) if s not in done):
        lines.append(one(seed, chosen.frames, chosen.size))
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(lines[-1], ensure_ascii=False) + "\n")
        print(seed, {k: lines[-1][k] for k in ("seconds", "f1", "kinds", "states", "idf1")}, flush=True)
    if lines:
        OUT.write_text(json.dumps(summary(lines), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
