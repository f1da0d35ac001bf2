"""Classes of defects, kinds of trajectories and the checks on kinetics, against known truth.

    python benchmarks/bench_trajectories.py [--movies 10] [--tracks 1000] [--replicates 400]

classes: crops of simulated WS2 movies (24 frames, every second with W vacancies) at the true places, sorted without labels; ARI against the true kinds, a Mo and
a Mo with a vacancy being one kind. sub-classes: nearest atoms of 400 dopants with a scatter of 0.115 of their brightness; ARI against the true states, beside that
of someone who knows brightness, scatter and prior. kinds of trajectories: tracks drawn evenly from what `Criteria` says. Chapman–Kolmogorov: movies of 12 tracks ×
60 frames, 3 % missed, dwells exponential (false alarms at 5 %) or Gamma of shape 4. survival: 25 processes seen through a window, coverage at three times.
Writes measured/trajectories.json.
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
from scipy.stats import binomtest  # noqa: E402
from scipy.stats import gamma as gamma_law  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402

from atomreel.interpret.crops import classify, cut_crops  # noqa: E402
from atomreel.interpret.subclasses import inner_atoms, sub_classes  # noqa: E402
from atomreel.kinetics.checks import chapman_kolmogorov, survival  # noqa: E402
from atomreel.kinetics.trajectories import KINDS, SHORT, Criteria, classify_trajectories  # noqa: E402
from atomreel.pipeline.progress import progress  # noqa: E402
from atomreel.simulate.history import Rates  # noqa: E402
from atomreel.simulate.movie import simulate_ws2_movie  # noqa: E402

MEASURED = Path(__file__).parent / "measured" / "trajectories.json"
SCATTER, HALF, SHELL = 0.115, 0.5, 9.1
SIDES = np.deg2rad([-70.0, 50.0, 170.0])
ERROR = 0.4
LENGTHS = (10, 20, 40, 60)
NEXT = np.array([[0, 0.7, 0.3], [0.5, 0, 0.5], [0.8, 0.2, 0]])
MEAN = np.array([9.0, 5.0, 7.0])


def crops(movies: int) -> dict[str, Any]:
    found, numbers = [], []
    with progress("crops", movies) as advance:
        for seed in range(movies):
            metal = 3 if seed % 2 else 0
            movie = simulate_ws2_movie(100 + seed, frames=24, metal_vacancies=metal, rates=Rates(turn=0.02))
            table = movie.defects.reset_index(drop=True)
            cut = cut_crops(movie.frames, table, size=25)
            classes = classify(cut.images[:, 0])
            kind = table["kind"].iloc[cut.rows].str.replace("+V_S", "")
            found.append(adjusted_rand_score(kind, classes.label))
            criteria = classes.criteria
            best = criteria.loc[[criteria["icl"].idxmin(), criteria["bic"].idxmin()], "classes"]
            numbers.append([kind.nunique(), *best.tolist()])
            advance(1)
    table = np.array(numbers)
    return {
        "movies": movies,
        "ari": {"median": float(np.median(found)), "lowest": float(np.min(found))},
        "number_right_by_icl": float((table[:, 1] == table[:, 0]).mean()),
        "number_right_by_bic": float((table[:, 2] == table[:, 0]).mean()),
    }


def shells(replicates: int) -> dict[str, Any]:
    ours, best, right = [], [], []
    for seed in range(replicates):
        rng = np.random.default_rng([seed, 3])
        states = rng.integers(0, 4, 400)
        dopants, atoms, light = [], [], 1 + SCATTER * rng.standard_normal((400, 3))
        light -= HALF * (states[:, None] == np.arange(1, 4))
        for n in range(400):
            frame, middle = n // 40, 60 * np.array([n % 40 // 8, n % 8]) + rng.uniform(20, 40, 2)
            dopants.append((frame, *middle))
            atoms.append((frame, *middle, 3.0))
            for j, side in enumerate(SIDES):
                place = middle + SHELL * np.array([np.sin(side), np.cos(side)]) + rng.normal(0, 0.3, 2)
                atoms.append((frame, *place, light[n, j]))
        found = sub_classes(
            inner_atoms(
                pd.DataFrame(dopants, columns=["frame", "y", "x"]),
                pd.DataFrame(atoms, columns=["frame", "y", "x", "intensity"]),
            )
        )
        gain = ((light - 1) ** 2 - (light - HALF) ** 2) / (2 * SCATTER**2)
        known = np.concatenate([np.zeros((400, 1)), gain], axis=1).argmax(axis=1)
        ours.append(adjusted_rand_score(states, found.state))
        best.append(adjusted_rand_score(states, known))
        right.append((found.state == states).mean())
    return {
        "replicates": replicates,
        "ari": float(np.mean(ours)),
        "ari_known": float(np.mean(best)),
        "right": float(np.mean(right)),
    }


def presence(rng: np.random.Generator, length: int, rate: float, share: float) -> np.ndarray:
    state, now, seen = bool(rng.random() < share), 0.0, []
    while len(seen) < length:
        now += rng.exponential(1 / (rate * ((1 - share) if state else share)))
        seen += [state] * (int(np.ceil(min(now, length))) - len(seen))
        state = not state
    return np.array(seen[:length])


def track(rng: np.random.Generator, number: int) -> tuple[str, pd.DataFrame]:
    rule, kind, length = Criteria(), KINDS[rng.integers(3)], int(rng.choice(LENGTHS))

    def drawn(ends: tuple[float, float]) -> float:
        return float(np.exp(rng.uniform(*np.log(ends))))

    rate, share, there = drawn(rule.switch), rng.uniform(0.2, 0.8), np.zeros(length, dtype=bool)
    while not (there[0] and there[-1]):
        there = presence(rng, length, rate, share) if kind == "flickering" else np.ones(length, dtype=bool)
        there = there ^ (rng.random(length) < rule.misread)
    where = 100 + ERROR * drawn(rule.scatter) * rng.standard_normal((length, 2))
    if kind == "diffusing":
        where += np.cumsum(ERROR * np.sqrt(drawn(rule.move)) * rng.standard_normal((length, 2)), axis=0)
    rows = pd.DataFrame({"track": number, "frame": range(length), "y": where[:, 0], "x": where[:, 1]})
    return kind, rows.assign(y_err=ERROR, x_err=ERROR)[there]


def trajectories(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    made = [track(rng, n) for n in range(count)]
    found = classify_trajectories(pd.concat([rows for _, rows in made]), judged=range(max(LENGTHS)))
    true = np.array([kind for kind, _ in made])
    told = found["kind"].to_numpy() != SHORT
    out: dict[str, Any] = {
        "tracks": count,
        "right_of_told": float((found["kind"].to_numpy() == true)[told].mean()),
    }
    for length in LENGTHS:
        own = found["frames"].to_numpy() == length
        out[f"told_of_{length}_frames"] = float(told[own].mean())
    out["confusion"] = {
        kind: {str(k): int(v) for k, v in found["kind"][true == kind].value_counts().items()}
        for kind in KINDS
    }
    p = found[["p_weak", "p_diffusing", "p_flickering"]].to_numpy()
    yes = np.stack([true == kind for kind in KINDS], axis=1)
    bins = np.minimum((p * 10).astype(int), 9)
    gaps = [
        abs(p[bins == b].mean() - yes[bins == b].mean()) * (bins == b).mean()
        for b in range(10)
        if (bins == b).any()
    ]
    return {**out, "calibration_error": float(np.sum(gaps))}


def movie(rng: np.random.Generator, shape: float) -> pd.DataFrame:
    parts = []
    for number in range(12):
        state, now, seen = int(rng.integers(3)), -60.0, []
        while len(seen) < 60:
            now += rng.gamma(shape, MEAN[state] / shape)
            seen += [state] * (int(np.searchsorted(np.arange(60), now)) - len(seen))
            state = int(rng.choice(3, p=NEXT[state]))
        rows = pd.DataFrame({"track": number, "frame": range(60), "state": seen[:60]})
        parts.append(rows[rng.random(60) > 0.03])
    return pd.concat(parts, ignore_index=True)


def memory(replicates: int) -> dict[str, Any]:
    out: dict[str, Any] = {"replicates": replicates}
    for name, shape, count in (("false_alarms", 1.0, replicates), ("caught", 4.0, replicates // 4)):
        hits = 0
        with progress(name, count) as advance:
            for seed in range(count):
                rng = np.random.default_rng([seed, 5])
                hits += chapman_kolmogorov(movie(rng, shape), replicates=99, rng=seed).p <= 0.05
                advance(1)
        out[name] = hits / count
    out["p"] = float(binomtest(round(out["false_alarms"] * replicates), replicates, 0.05).pvalue)
    return out


def dwells(replicates: int) -> dict[str, Any]:
    mean, window, at = 10.0, 60.0, np.array([4.0, 10.0, 16.0])
    out: dict[str, Any] = {"replicates": replicates}
    for shape in (1.0, 3.0):
        true = gamma_law.sf(at, shape, scale=mean / shape)
        inside, careless = np.zeros(3), np.zeros(3)
        for seed in range(replicates):
            rng, rows = np.random.default_rng([seed, 7]), []
            for _ in range(25):
                now = -200.0
                while now < window:
                    length = rng.gamma(shape, mean / shape)
                    if now + length > 0:
                        rows.append((min(now + length, window) - max(now, 0), now + length < window, now > 0))
                    now += length + rng.exponential(10.0)
            table = pd.DataFrame(rows, columns=["duration", "ended", "start_seen"])
            for hits, own in ((inside, table), (careless, table.assign(start_seen=True))):
                found = survival(own)
                k = np.searchsorted(found.time, at, side="right") - 1
                hits += (found.low[k] <= true) & (true <= found.high[k])
        out[f"shape_{shape:g}"] = {
            "covered": (inside / replicates).tolist(),
            "p": float(min(binomtest(int(h), replicates, 0.95).pvalue for h in inside)),
            "covered_with_those_going_on": (careless / replicates).tolist(),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--movies", type=int, default=10)
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=400)
    chosen = parser.parse_args()
    parts = (
        ("classes", crops, chosen.movies),
        ("sub_classes", shells, 10),
        ("trajectories", trajectories, chosen.tracks),
        ("chapman_kolmogorov", memory, chosen.replicates),
        ("survival", dwells, chosen.replicates),
    )
    result = {}
    for part, measure, count in parts:
        result[part] = measure(count)
        print(part, result[part], flush=True)
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
