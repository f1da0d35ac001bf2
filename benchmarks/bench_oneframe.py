"""A detector that learns from one frame: python benchmarks/bench_oneframe.py OUT [--data ../shared/data/real] [--only simulated|real]

Simulated movies with known defects: the frame learned from is the first, the figures are of the others; beside it the Fourier
method alone on each of those frames. `calibration_error_by_chance`: what scores that are right would show with so few of them, mean and
95 %; `true_less_expected_over_its_error`: how many true ones there are among all candidates, less Σ score, in units of the error that counts.csv would state. Real images: what is found, and on si-graphene-walk how often the Si is. Each
result stays in OUT to be looked at. Writes measured/oneframe.json.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from scipy.optimize import linear_sum_assignment

from atomreel.core.errors import AtomreelError
from atomreel.core.material import load_material
from atomreel.core.recipe import load_recipe
from atomreel.interpret.reflections import find_reflections
from atomreel.interpret.sampling import residual_at, to_image
from atomreel.interpret.scenes import scene_of
from atomreel.pipeline.detect import detect_movie
from atomreel.pipeline.source import open_source
from atomreel.predict.detector import Calibration, expected_error
from atomreel.simulate.movie import simulate_ws2_movie
from atomreel.simulate.stem import Probe, render_stem, z_contrast
from atomreel.simulate.structures import crystal

HERE = Path(__file__).parent
FRAMES, SIZE = 8, 256
WITHIN_A = 1.0  # Å: farther is not the same defect
Array = npt.NDArray[np.float64]
REAL = {
    "wsse partial-16": "wsse-conversion/partial-16.tif",
    "wsse full-16": "wsse-conversion/full-16.tif",
    "wsse partial-18": "wsse-conversion/partial-18.tif",
    "mos2-se": "mos2-se-dm3/example_Se_implanted_MoS2.dm3",
}


def graphene(seed: int, *, peak: float) -> tuple[npt.NDArray[np.uint16], pd.DataFrame, float]:
    """Frames of graphene with two Si and one vacancy that are elsewhere in every frame, 0.15 Å/px; truth; px."""
    rng = np.random.default_rng(seed)
    pixel, span = 0.15, 200 * 0.15
    atoms = crystal(
        load_material("graphene").project(), (-4, -4, span + 4, span + 4), angle=rng.uniform(0, 60)
    )
    places = np.asarray(atoms.positions, float)
    rows, frames = [], []
    for frame in range(FRAMES):
        shift = rng.normal(0, 1.0, 2)
        seen = places / pixel + shift
        inner = np.flatnonzero(np.all((seen > 18) & (seen < 182), axis=1))
        chosen: list[int] = []
        for site in rng.permutation(inner):
            if all(np.hypot(*(seen[site] - seen[c])) > 35 for c in chosen):
                chosen.append(int(site))
            if len(chosen) == 3:
                break
        weight = np.ones(len(places))
        weight[chosen[:2]] = z_contrast(("Si",)) / z_contrast(("C",))
        weight[chosen[2]] = 0
        clean = render_stem(seen, weight, (200, 200), probe=Probe(fwhm=1.0), pixel=pixel)
        frames.append(rng.poisson(peak * (np.maximum(clean, 0) + 0.1)))
        for site, kind in zip(chosen, ("Si", "Si", "vacancy"), strict=True):
            rows.append({"frame": frame, "y": seen[site, 0], "x": seen[site, 1], "kind": kind})
    return np.stack(frames).astype(np.uint16), pd.DataFrame(rows), pixel


def matched(found: pd.DataFrame, true: pd.DataFrame, reach: float) -> npt.NDArray[np.int64]:
    """(N,) which true defect each found one is, −1 for none; one to one."""
    out = np.full(len(found), -1)
    if len(found) and len(true):
        gap = np.hypot(
            *(found[["y", "x"]].to_numpy(float)[:, None] - true[["y", "x"]].to_numpy(float)).transpose(
                2, 0, 1
            )
        )
        rows, columns = linear_sum_assignment(np.minimum(gap, 9 * reach))
        good = gap[rows, columns] < reach
        out[rows[good]] = columns[good]
    return out


def compare(found: pd.DataFrame, true: pd.DataFrame, *, reach: float) -> dict[str, Any]:
    """Counts of one frame: right, wrong, missed by kind of truth; a wrong sign is wrong and missed."""
    sign = np.where(true["kind"] == "Si", "brighter", "dimmer")
    which = matched(found, true, reach)
    right = which >= 0
    right[right] = found["kind"].to_numpy()[right] == sign[which[right]]
    hit = set(which[right].tolist())
    known = true["valid"].to_numpy()
    counted = [k for k in hit if known[k]]
    extra = [k for k in hit if not known[k]]  # found where nothing was asked for: neither right nor wrong
    return {
        "right": len(counted),
        "wrong": int((~right).sum()),
        "missed": int(known.sum()) - len(counted),
        "kinds": [(kind, k in hit) for k, kind in enumerate(true["kind"]) if known[k]],
        "extra": len(extra),
        "hits": right,
    }


def summed(parts: list[dict[str, Any]]) -> dict[str, Any]:
    right, wrong, missed = (sum(one[name] for one in parts) for name in ("right", "wrong", "missed"))
    pairs = pd.DataFrame([pair for one in parts for pair in one["kinds"]], columns=["kind", "found"])
    return {
        "f1": 2 * right / max(2 * right + wrong + missed, 1),
        "precision": right / max(right + wrong, 1),
        "recall": right / max(right + missed, 1),
        "recall_by_kind": {str(k): float(v) for k, v in pairs.groupby("kind")["found"].mean().items()},
        "true": right + missed,
    }


def calibration_error(p: Array, y: npt.NDArray[Any]) -> float:
    """Mean distance of scores and shares of true ones in five bins, by how many are in each."""
    bins = np.clip((p * 5).astype(int), 0, 4)
    return float(
        sum(abs(p[bins == b].mean() - y[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins))
    )


def simulated(
    name: str, frames: npt.NDArray[Any], true: pd.DataFrame, *, pixel: float, out: Path
) -> dict[str, Any]:
    """Learned from frame 0; figures of the others, beside the Fourier method on each."""
    out.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(out / "movie.tif", frames, photometric="minisblack")
    recipe = load_recipe(overrides=["defects.score=0.02"])
    made = detect_movie(open_source(out / "movie.tif", recipe.input), recipe, out=out, frame=0)
    factor = made.about["factor"]
    known = find_reflections(frames[0].astype(float))
    parts: dict[str, list[dict[str, Any]]] = {"network": [], "fourier": []}
    scores, hits = [], []
    for frame in range(1, len(frames)):
        residual = residual_at(frames[frame].astype(float), factor, known=known)
        spots = scene_of(residual).spots
        own = true[true["frame"] == frame].reset_index(drop=True)
        at = np.rint((own[["y", "x"]].to_numpy() + 0.5) / factor - 0.5).astype(int)
        inside = np.all((at >= 0) & (at < residual.valid.shape), axis=1)
        inside[inside] &= residual.valid[tuple(at[inside].T)]
        own["valid"] = inside
        spots = spots.assign(kind=np.where(spots["sign"] > 0, "brighter", "dimmer"))
        spots[["y", "x"]] = to_image(spots[["y", "x"]].to_numpy(float), factor)
        every = made.table[made.table["frame"] == frame]
        every_hits = compare(every, own, reach=WITHIN_A / pixel)["hits"]
        scores += list(every["score"])
        hits += list(every_hits)
        for way, found in (("network", every[every["score"] >= 0.5]), ("fourier", spots[spots["p"] >= 0.5])):
            parts[way].append(compare(found, own, reach=WITHIN_A / pixel))
    p, y = np.array(scores), np.array(hits, float)
    rng = np.random.default_rng(0)
    chance = [calibration_error(p, rng.random(len(p)) < p) for _ in range(300)]
    later = made.table[made.table["frame"] > 0]
    known = expected_error(Calibration(**made.about["calibration"]), later, np.ones(len(later)))
    spread = float(np.hypot(known, np.sqrt((p * (1 - p)).sum())))
    figures = {way: summed(rows) for way, rows in parts.items()}
    print(name, {way: round(one["f1"], 3) for way, one in figures.items()}, flush=True)
    return {
        **figures,
        "frames": len(frames) - 1,
        "calibration_error": calibration_error(p, y),
        "calibration_error_by_chance": [float(np.mean(chance)), float(np.quantile(chance, 0.95))],
        "true_less_expected_over_its_error": float((y.sum() - p.sum()) / spread),
        "scored": len(p),
        "seconds": made.about["training"]["seconds"],
        "labels": made.about["labels"],
    }


def walk(data: Path, out: Path) -> dict[str, Any]:
    """si-graphene-walk, learned from frame 0 alone; the Si counts as found within 0.5 Å."""
    recipe = load_recipe()
    folder = data / "si-graphene-walk"
    made = detect_movie(open_source(folder / "movie.tif", recipe.input), recipe, out=out, frame=0)
    labels = pd.read_csv(folder / "labels.csv")
    labels = labels[labels["species"] == "Si"]
    found = false = 0
    for frame in range(48):
        own = made.table[made.table["frame"] == frame]
        one = labels[labels["frame"] == frame][["y", "x"]].to_numpy(float)
        near = np.hypot(*(own[["y", "x"]].to_numpy(float) - one[0]).T) < 0.5 / 0.078125 if len(one) else []
        found += int(np.any(near))
        false += len(own) - int(np.any(near))
    return {
        "labelled": int(labels["frame"].nunique()),
        "found": found,
        "false_per_frame": false / 48,
        "refused": len(made.about["refused"]),
        "seconds": made.about["training"]["seconds"],
    }


def real(data: Path, out: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, path in REAL.items():
        recipe = load_recipe()
        try:
            made = detect_movie(
                open_source(data / path, recipe.input), recipe, out=out / name.replace(" ", "-")
            )
        except AtomreelError as error:
            results[name] = {"refused": str(error)}
            continue
        counts = made.table["kind"].value_counts()
        expected = made.counts.groupby("kind")[["expected", "expected_err"]].sum()
        results[name] = {
            "found": {str(k): int(v) for k, v in counts.items()},
            "expected": {str(k): [float(a), float(b)] for k, (a, b) in expected.iterrows()},
            "labels": made.about["labels"],
            "seconds": made.about["training"]["seconds"],
        }
        print(name, results[name], flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ATOMREEL_DATA", "../shared/data")) / "real"
    )
    parser.add_argument("--only", choices=("simulated", "walk", "real"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    target = HERE / "measured" / "oneframe.json"
    kept = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    if arguments.only in (None, "simulated"):
        made = kept.setdefault("simulated", {})
        for seed, peak in (
            (21, 60.0),
            (23, 25.0),
            (41, 60.0),
            (42, 25.0),
            (43, 25.0),
            (56, 25.0),
            (63, 25.0),
            (65, 60.0),
        ):
            movie = simulate_ws2_movie(seed, frames=FRAMES, size=SIZE, peak=peak)
            name = f"WS2, {peak:g} counts, movie {seed}"
            made[name] = simulated(
                name, movie.frames, movie.defects, pixel=movie.pixel, out=arguments.out / f"ws2-{seed}"
            )
        for seed, peak in ((31, 30.0), (44, 30.0), (48, 30.0)):
            frames, true, pixel = graphene(seed, peak=peak)
            name = f"graphene, {peak:g} counts, movie {seed}"
            made[name] = simulated(name, frames, true, pixel=pixel, out=arguments.out / f"graphene-{seed}")
    if arguments.only in (None, "real"):
        kept["real"] = real(arguments.data, arguments.out)
        target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if arguments.only in (None, "walk"):
        kept["walk"] = walk(arguments.data, arguments.out / "walk")
        print("walk", kept["walk"], flush=True)
    target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
