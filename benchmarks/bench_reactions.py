"""How often the 95 % intervals of the rates hold the truth, over kinetics simulated again and again.

    python benchmarks/bench_reactions.py [--replicates 200] [--draws 200]

Each replicate: 14 dopants in four states over 160 frames at 2 s with two pauses, simulated jump by jump; in each frame the brightness of the three
neighbours, full or half, with a scatter of 0.115 of the full one, and 1 % of them missed. The rates are those of `fit_hidden` from these
brightnesses alone; beside it what complete observation would give (jumps over time in the state). And 12 vacancies that hop, with 2 % of
the points missed. Writes measured/reactions.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (after the thread count)
import pandas as pd  # noqa: E402
from scipy.stats import binomtest, gamma  # noqa: E402

from atomreel.kinetics.hidden import fit_hidden  # noqa: E402
from atomreel.kinetics.hopping import fit_hops  # noqa: E402
from atomreel.pipeline.progress import progress  # noqa: E402

MEASURED = Path(__file__).parent / "measured" / "reactions.json"
RATES = {
    "catch": (0.008, 0.02),
    "release": (0.02, 0.05),
    "turn": (0.006, 0.015),
}  # drawn evenly between [1/s]
PAIRS = {"catch": (0, 1), "release": (1, 0), "turn": (1, 2)}
NAMES = ("0", "1", "2", "3")
TIED = np.array([[0, 1, 1, 1], [2, 0, 3, 3], [2, 3, 0, 3], [2, 3, 3, 0]])
SCATTER, HALF, MISSED = 0.115, 0.5, 0.01
HOP, HOP_RATE = 16.0, 0.042
STEPS = HOP * np.array([[np.sin(t), np.cos(t)] for t in np.arange(6) * np.pi / 3])


def clock() -> np.ndarray:
    gap = np.full(159, 2.0)
    gap[[60, 120]] = 10.0, 8.0
    return np.r_[0.0, np.cumsum(gap)]


def generator(rates: dict[str, float]) -> np.ndarray:
    q = np.array([0, *rates.values()])[TIED]
    np.fill_diagonal(q, 0)
    return q


def chain(
    q: np.ndarray, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States at `times`, jumps (4, 4) and time spent (4,)."""
    state, now, seen = 0, 0.0, []
    jumps, spent = np.zeros((4, 4)), np.zeros(4)
    while len(seen) < len(times):
        leave = now + rng.exponential(1 / q[state].sum())
        seen += [state] * int(np.searchsorted(times, leave) - len(seen))
        end = min(leave, times[-1])
        spent[state] += end - now
        now = leave
        if leave < times[-1]:
            after = int(rng.choice(4, p=q[state] / q[state].sum()))
            jumps[state, after] += 1
            state = after
    return np.array(seen[: len(times)]), jumps, spent


def look(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 4) log likelihood of the states from the brightness of three neighbours."""
    less = states[:, None] == np.arange(1, 4)
    value = np.where(less, HALF, 1.0) + SCATTER * rng.standard_normal(less.shape)
    gain = 0.5 * ((value - 1) ** 2 - (value - HALF) ** 2) / SCATTER**2
    gain[rng.random(gain.shape) < MISSED] = 0.0
    return np.concatenate([np.zeros((len(states), 1)), gain], axis=1)


def one(seed: int, draws: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng([seed, 17])
    rates = {name: float(rng.uniform(*ends)) for name, ends in RATES.items()}
    q, times = generator(rates), clock()
    runs = [chain(q, times, rng) for _ in range(14)]
    states = np.concatenate([r[0] for r in runs])
    jumps, spent = sum(r[1] for r in runs), sum(r[2] for r in runs)
    rows = pd.DataFrame({"track": np.repeat(np.arange(14), 160), "frame": np.tile(np.arange(160), 14)})
    likelihood = look(states, rng)
    tied, free = (
        fit_hidden(rows, likelihood, states=NAMES, groups=g, times=times, draws=draws, burn=60, rng=seed)
        for g in (TIED, None)
    )
    out = {}
    for name, (i, j) in PAIRS.items():
        kind = TIED[i, j] == TIED
        count, time = jumps[kind].sum(), (spent[:, None] * kind).sum()
        low, high = gamma.ppf([0.025, 0.975], count + 0.5, scale=1 / time)
        out[name] = {
            "inside": bool(tied.rates.low[i, j] <= rates[name] <= tied.rates.high[i, j]),
            "width": float((tied.rates.high[i, j] - tied.rates.low[i, j]) / (high - low)),
            "bias": float(tied.rates.q[i, j] / rates[name] - 1),
        }
    off = ~np.eye(4, dtype=bool)
    low, high = (
        gamma.ppf(tail, jumps + 0.5, scale=1 / np.maximum(spent, 1e-9)[:, None]) for tail in (0.025, 0.975)
    )
    out["each of 12"] = {
        "inside": float(((free.rates.low <= q) & (free.rates.high >= q))[off].mean()),
        "width": float(np.median(((free.rates.high - free.rates.low) / (high - low))[off])),
        "bias": float(np.median((free.rates.q / np.where(off, q, 1))[off]) - 1),
    }
    out["hops"] = walkers(times, rng)
    return out


def walkers(times: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    rows, hops = [], 0
    for track in range(12):
        place, leave = np.zeros(2), rng.exponential(1 / HOP_RATE)
        for frame, t in enumerate(times):
            while leave < t:
                place, leave = place + STEPS[rng.integers(6)], leave + rng.exponential(1 / HOP_RATE)
                hops += 1
            if rng.random() > 0.02:
                rows.append((track, frame, *place))
    found = fit_hops(pd.DataFrame(rows, columns=["track", "frame", "y", "x"]), hop=HOP, times=times).rate
    low, high = gamma.ppf([0.025, 0.975], hops + 0.5, scale=1 / (12 * times[-1]))
    return {
        "inside": bool(found.low <= HOP_RATE <= found.high),
        "width": float((found.high - found.low) / (high - low)),
        "bias": found.value / HOP_RATE - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    chosen = parser.parse_args()
    every = []
    with progress("kinetics", chosen.replicates) as advance:
        for seed in range(chosen.replicates):
            every.append(one(seed, chosen.draws))
            advance(1)
    result: dict[str, object] = {"replicates": chosen.replicates, "draws": chosen.draws}
    for name in every[0]:
        inside = np.array([row[name]["inside"] for row in every], dtype=float)
        whole = inside * (12 if name == "each of 12" else 1)
        of = len(inside) * (12 if name == "each of 12" else 1)
        result[name] = {
            "covered": float(inside.mean()),
            "p": float(binomtest(round(float(whole.sum())), of, 0.95).pvalue),
            "width_over_complete": float(np.median([row[name]["width"] for row in every])),
            "bias": float(np.median([row[name]["bias"] for row in every])),
        }
        print(name, result[name], flush=True)
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
