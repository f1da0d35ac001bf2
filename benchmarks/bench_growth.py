"""Growing holes with known truth: do the intervals of ρ, A₀ and dA/dt cover, and how wide are they?

    python benchmarks/bench_growth.py series [--replicates 400] [--steady 100]
    python benchmarks/bench_growth.py movies FOLDER [--movies 8]
    python benchmarks/bench_growth.py yardstick FOLDER --truth TRUTH

series: a triangular lattice in numbers alone. Holes lose edge atoms, each missing atom at rate ρ (or at a steady rate for
all of them), over vacancies that open and heal; frames with pauses; empty sites are grouped and misread as the finder does.
The complete data are every loss with its time: Gamma(losses + ½, ∫ atoms missing dt). movies: the same made into noisy
images and measured by `atomreel run` with the recipe of the yardstick. yardstick: what `yardstick.py holes` left in FOLDER against
the TRUTH of that set, frame by frame (the scorer tells the rest). Each writes its part of measured/growth.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from scipy import ndimage, stats

from atomreel.kinetics.growth import fit_growth
from atomreel.kinetics.intervals import series_mean
from atomreel.pipeline.holes import fit_holes, persistence
from atomreel.simulate import detector
from atomreel.simulate.stem import Probe, render_stem

HERE = Path(__file__).parent
OUT = HERE / "measured" / "growth.json"
RHO, START, SHARE, LIFE = 0.0155, 7, 0.01, 6.0  # 1/s; atoms of each hole; of vacancies; s
SPEED = 2.2  # atoms a second where growth is steady
FLIP = 1e-3  # sites misread in a frame, as on the yardstick's images
PLAIN = 50  # replicates fitted with independent errors too
HEX = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]])  # neighbours on the index grid of a triangular lattice
CELL, PIXEL, PEAK = 10.6, 0.3, 5.85  # px, Å, counts at a W column
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """times: (T,) [s]. hole, vacant: (T, N, N). losses: number, exposure: ∫ atoms missing dt [s]."""

    times: Array
    hole: npt.NDArray[np.bool_]
    vacant: npt.NDArray[np.bool_]
    losses: int
    exposure: float


def frame_times(rng: np.random.Generator, frames: int, interval: float) -> Array:
    """Two pauses; the recording lasts as long whatever they are."""
    steps = np.full(frames, 1.0)
    steps[0] = 0
    steps[rng.choice(np.arange(2, frames), 2, replace=False)] += rng.integers(3, 9, 2)
    return np.cumsum(steps) * interval * (frames - 1) / steps.sum()


def simulate(
    rng: np.random.Generator, size: int, *, holes: int, frames: int, interval: float, steady: bool = False
) -> History:
    times = frame_times(rng, frames, interval)
    hole = np.zeros((size, size), dtype=bool)
    spots = {1: [(0.5, 0.5)], 2: [(0.35, 0.35), (0.68, 0.65)]}[holes]
    for y, x in spots:
        one = np.zeros_like(hole)
        one[int(y * size), int(x * size)] = True
        while one.sum() < START:
            _lose(one, rng)
        hole |= one
    vacant = ~hole & (rng.random(hole.shape) < SHARE)
    shown, open_sites = [], []
    losses, exposure = 0, 0.0
    previous = times[0]
    for now in times:
        clock = previous
        while True:
            count = int(hole.sum())
            wait = rng.exponential(1 / (SPEED if steady else RHO * count))
            if clock + wait >= now:
                exposure += count * (now - clock)
                break
            clock, exposure, losses = clock + wait, exposure + count * wait, losses + 1
            _lose(hole, rng)
        keep = SHARE + (1 - SHARE) * np.exp(-(now - previous) / LIFE)  # a two-state chain, exactly
        enter = SHARE * (1 - np.exp(-(now - previous) / LIFE))
        vacant = ~hole & (rng.random(hole.shape) < np.where(vacant, keep, enter))
        previous = now
        shown.append(hole.copy())
        open_sites.append(vacant.copy())
    return History(times, np.array(shown), np.array(open_sites), losses, exposure)


def _lose(hole: Bools, rng: np.random.Generator) -> None:
    edge = np.argwhere(ndimage.binary_dilation(hole, HEX) & ~hole)
    y, x = edge[rng.integers(len(edge))]
    hole[y, x] = True


def count(history: History, rng: np.random.Generator) -> tuple[Array, Array, float]:
    """(T,) sites counted as holes, groups of four or more, and the error that vacancies at rims bring; for how long those last."""
    found, errors, vacancies = [], [], []
    for hole, vacant in zip(history.hole, history.vacant, strict=True):
        empty = (hole | vacant) ^ (rng.random(hole.shape) < FLIP)
        group, _ = ndimage.label(empty, HEX)
        sizes = np.bincount(group.ravel())
        sizes[0] = 0
        large = sizes[group] >= 4
        rim = ndimage.binary_dilation(large, HEX) & ~large
        chance = float((empty & ~large)[~rim & ~large].mean())
        found.append(large.sum() - rim.sum() * chance)
        errors.append(np.sqrt(rim.sum() * chance * (1 - chance)))
        vacancies.append((empty & ~large).sum())
    lasting = persistence(series_mean(vacancies), len(vacancies), float(np.median(np.diff(history.times))))
    return np.array(found, dtype=float), np.array(errors), lasting


def complete(losses: int, exposure: float) -> tuple[float, float]:
    low, high = stats.gamma.ppf([0.025, 0.975], losses + 0.5, scale=1 / exposure)
    return float(low), float(high)


def coverage(hits: list[bool]) -> dict[str, float]:
    n, k = len(hits), int(sum(hits))
    return {"covered": k / n, "of": n, "p_binomial": float(stats.binomtest(k, n, 0.95).pvalue)}


def series(replicates: int, steady: int) -> dict[str, Any]:
    hits: dict[str, list[bool]] = {k: [] for k in ("rho", "A0", "speed_start", "speed_end", "complete")}
    relative: dict[str, list[float]] = {k: [] for k in ("A0", "speed_start", "speed_end")}
    widths, shapes, plain = [], [], []
    for k in range(replicates):
        rng = np.random.default_rng([2026, k])
        history = simulate(rng, 64, holes=2, frames=90, interval=2.5)
        found, errors, lasting = count(history, rng)
        fit = fit_holes(history.times, found, np.maximum(errors, 0.3), unit=1.0, error_time=lasting)
        low, high = complete(history.losses, history.exposure)
        atoms = history.hole.sum(axis=(1, 2))
        truth = {
            "rho": RHO,
            "A0": atoms[0],
            "speed_start": RHO * atoms[0],
            "speed_end": RHO * atoms[-1],
        }
        for name, value in truth.items():
            estimate = fit.estimates()[name]
            hits[name].append(bool(estimate.low <= value <= estimate.high))
            if name in relative:
                relative[name].append((estimate.high - estimate.low) / value)
        hits["complete"].append(low <= RHO <= high)
        widths.append((fit.rho.high - fit.rho.low) / (high - low))
        shapes.append(fit.shape)
        if k < PLAIN:
            naive = fit_growth(history.times, found, area_err=np.maximum(errors, 0.3), scale_err=True)
            plain.append(bool(naive.rho.low <= RHO <= naive.rho.high))
        print(f"\r{k + 1}/{replicates}", end="", file=sys.stderr)
    chances, said = [], []
    for k in range(steady):
        rng = np.random.default_rng([2027, k])
        history = simulate(rng, 64, holes=2, frames=90, interval=2.5, steady=True)
        found, errors, lasting = count(history, rng)
        fit = fit_holes(history.times, found, np.maximum(errors, 0.3), unit=1.0, error_time=lasting)
        chances.append(fit.p_line)
        said.append(fit.shape)
    wrong = int(sum(p < 0.05 for p in chances))
    return {
        "replicates": replicates,
        "coverage": {name: coverage(found) for name, found in hits.items()},
        "least_squares_rho": coverage(plain),
        "width_over_complete": {
            "median": float(np.median(widths)),
            "q95": float(np.quantile(widths, 0.95)),
        },
        "width_over_truth": {name: float(np.median(w)) for name, w in relative.items()},
        "exponential_called_exponential": shapes.count("exponential") / replicates,
        "steady": {
            "replicates": steady,
            "called_exponential": said.count("exponential") / steady,
            "p_below_0.05": wrong / steady,
            "p_binomial": float(stats.binomtest(wrong, steady, 0.05).pvalue),
        },
    }


def picture(hole: Bools, vacant: Bools, rng: np.random.Generator, *, field: int) -> npt.NDArray[np.uint16]:
    """Counts (field, field) of 1H-WS2: W of the index grid, S₂ over every second triangle of W."""
    size = len(hole)
    v, u = np.mgrid[:size, :size]
    turn = np.deg2rad(17.0)
    a = CELL * np.array([np.sin(turn), np.cos(turn)])
    b = CELL * np.array([np.sin(turn + np.pi / 3), np.cos(turn + np.pi / 3)])
    centre = (field - 1) / 2 - (size // 2) * (a + b)
    metal = centre + v[..., None] * b + u[..., None] * a
    corners = np.stack([hole, np.roll(hole, -1, 0), np.roll(hole, -1, 1)])
    sulphur = (metal + (a + b) / 3)[corners.sum(0) < 2]
    standing = metal[~(hole | vacant)]
    where = np.concatenate([standing, sulphur])
    weights = np.concatenate([np.ones(len(standing)), np.full(len(sulphur), 0.22)])
    image = render_stem(where, weights, (field, field), probe=Probe(1.05, tail=0.2), pixel=PIXEL)
    image = detector.jitter_lines(image, *detector.line_jitter(field, rng, y=0.1, x=0.15))
    return detector.add_counts(PEAK * (np.maximum(image, 0) + 0.04), rng).astype(np.uint16)


def frame_errors(found: Array, true: Array, site: float) -> dict[str, Any]:
    """Shares of the field in holes, found and true, and of one site."""
    large = true > 0.01
    off = found - true
    return {
        "frames_above_1_percent": int(large.sum()),
        "within_5_percent_or_one_site": float((np.abs(off) <= np.maximum(0.05 * true, site))[large].mean()),
        "error_sites": {
            "median": float(np.median(off / site)),
            "rms": float(np.sqrt(np.mean((off / site) ** 2))),
            "largest": float(np.abs(off / site).max()),
        },
    }


def yardstick(found: Path, truth: Path) -> dict[str, Any]:
    table = pd.read_csv(found / "holes.csv").merge(pd.read_parquet(truth / "holes_truth.parquet"), on="frame")
    about = json.loads((truth / "kinetics_truth.json").read_text(encoding="utf-8"))
    site = about["site_area_nm2"] / about["field_nm2"]
    columns = (table[name].to_numpy() for name in ("area_fraction", "area_voids"))
    by_light = frame_errors(table.hole_fraction_intensity.to_numpy(), table.area_voids.to_numpy(), site)
    return {"columns": frame_errors(*columns, site), "brightness": by_light}


def movie(number: int, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng([2020, number])
    field, frames = 192, 24
    history = simulate(rng, 44, holes=1, frames=frames, interval=5.5)
    folder.mkdir(parents=True, exist_ok=True)
    stack = np.stack(
        [picture(h, v, rng, field=field) for h, v in zip(history.hole, history.vacant, strict=True)]
    )
    tifffile.imwrite(
        folder / "movie.tif",
        stack,
        imagej=True,
        resolution=(10 / PIXEL,) * 2,
        metadata={"unit": "nm", "axes": "TYX"},
    )
    pd.DataFrame({"frame": np.arange(frames), "time_s": history.times}).to_csv(
        folder / "times.csv", index=False
    )
    command = [sys.executable, str(HERE / "yardstick.py"), "holes", str(folder), str(folder / "out")]
    subprocess.run(command, check=True)
    found = pd.read_csv(folder / "out" / "holes.csv").area_fraction.to_numpy()
    rates = json.loads((folder / "out" / "run" / "rates.json").read_text(encoding="utf-8"))
    site = CELL**2 * np.sqrt(0.75) / field**2
    true = history.hole.sum(axis=(1, 2)) * site
    low, high = complete(history.losses, history.exposure)
    rho = rates["hole_rho"]
    return {
        **frame_errors(found, true, site),
        "rho": [rho[k] for k in ("value", "low", "high")],
        "rho_covered": bool(rho["low"] <= RHO <= rho["high"]),
        "A0_covered": bool(rates["hole_A0"]["low"] <= true[0] <= rates["hole_A0"]["high"]),
        "width_over_complete": (rho["high"] - rho["low"]) / (high - low),
        "delta_aic": rates["hole_exponential"]["value"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["series", "movies", "yardstick"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--steady", type=int, default=100)
    parser.add_argument("--movies", type=int, default=8)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    if chosen.what != "series" and chosen.folder is None:
        parser.error(f"{chosen.what} needs a FOLDER")
    if chosen.what == "yardstick" and chosen.truth is None:
        parser.error("the folder of the truth is needed: --truth")
    if chosen.what == "series":
        part: Any = series(chosen.replicates, chosen.steady)
    elif chosen.what == "yardstick":
        part = yardstick(chosen.folder, chosen.truth)
    else:
        part = [movie(k, chosen.folder / str(k)) for k in range(chosen.movies)]
    known = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {}
    text = json.dumps(known | {chosen.what: part}, indent=1)
    chosen.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
