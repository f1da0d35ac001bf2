"""Maxima, blobs and watershed segments of the same maps: python benchmarks/bench_decoders.py [--images 100]

Fresh images as in bench_precision.py, under seeds of their own; the network is told spacing and contrast, so that
nothing but the decoder differs, and positions are those before the joint fit. Each decoder's settings and least score
are the best of a small sweep, by pooled F1, on every other image; what is reported is measured on the rest. Writes
measured/decoders.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from bench_precision import image, mates
from scipy.special import expit

from atomreel.interpret.blobs import find_blobs
from atomreel.interpret.segments import find_segments
from atomreel.nets.columns import ColumnFinder
from atomreel.predict.backend import choose_backend
from atomreel.predict.model import load_model
from atomreel.predict.survey import TARGET
from atomreel.predict.tiles import map_tiles
from atomreel.prepare.scale import from_zoomed
from atomreel.tasks.columns import SIGMA, find_peaks
from atomreel.tasks.scores import calibrated

MEASURED = Path(__file__).parent / "measured" / "decoders.json"
SEED = 20_261_122
FAINTEST = 0.01  # height of a blob
DRAWS = 1000  # of images, for the errors
Array = npt.NDArray[np.float64]
Decoder = Callable[[npt.NDArray[np.float32]], tuple[Array, npt.NDArray[np.int_]]]


def maxima(logits: npt.NDArray[np.float32]) -> tuple[Array, npt.NDArray[np.int_]]:
    position, _, pixel = find_peaks(logits)
    return position, pixel


def blobs(logits: npt.NDArray[np.float32], *, radius: float) -> tuple[Array, npt.NDArray[np.int_]]:
    found = find_blobs(expit(logits), radius * SIGMA, threshold=FAINTEST)
    return found.position, found.pixel


def segments(
    logits: npt.NDArray[np.float32], *, epsilon: float, reach: float
) -> tuple[Array, npt.NDArray[np.int_]]:
    column = expit(logits.astype(float))
    maps = np.stack([1 - column, column])
    found = find_segments(maps, t=0.0, epsilon=epsilon, reach=reach * SIGMA)
    return found.position, found.pixel


LEAST = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # scores
SWEEP: dict[str, dict[str, Decoder]] = {
    "peaks": {"": maxima},
    "log": {f"radius {r:g} σ": partial(blobs, radius=r) for r in (0.8, 1.0, 1.25)},
    "watershed": {
        f"ε {e:g}, reach {r:g} σ": partial(segments, epsilon=e, reach=r)
        for e in (0.95, 0.995)
        for r in (2, 4)
    },
}


def one(number: int) -> dict[str, dict[str, list[tuple[float, ...]]]]:
    """For every decoder and setting, at each least score: right, false, true, and the sum of squared errors over both
    axes [nearest distances²]."""
    net, card = load_model("columns")
    network = choose_backend(cast(ColumnFinder, net).columns, "auto").network
    made = image(number, seed=SEED)
    zoom = TARGET / made.nn_px
    (tile,) = map_tiles(made.image, network, zoom=zoom, sign=1.0 if made.bright else -1.0, tile=4096)
    out: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for name, settings in SWEEP.items():
        for setting, decode in settings.items():
            at, pixel = decode(tile.values)
            score = calibrated(at, tile.values[pixel[:, 0], pixel[:, 1]], card.calibration)
            place = from_zoomed(at, zoom)
            counts = []
            for least in LEAST:
                found = place[score >= least]
                pairs, seen, false = mates(made, found)
                off = (found[pairs[:, 1]] - made.columns[pairs[:, 0]])[seen[pairs[:, 0]]] / made.nn_px
                counts.append((len(off), int(false.sum()), int(seen.sum()), float((off**2).sum())))
            out.setdefault(name, {})[setting] = counts
    return out


def f1(table: Array) -> Array:
    """Of counts (…, 4) that are summed over images."""
    return np.asarray(2 * table[..., 0] / np.maximum(table[..., :3].sum(-1), 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--out", type=Path, default=MEASURED)
    chosen = parser.parse_args()
    rows = []
    for number in range(chosen.images):
        rows.append(one(number))
        print(number, end=" ", flush=True)
    result: dict[str, Any] = {"images": len(rows[1::2]), "decoders": {}}
    kept: dict[str, Array] = {}
    for name, settings in SWEEP.items():
        counts = {s: np.array([r[name][s] for r in rows], float) for s in settings}  # images, scores, 4
        swept = {s: f1(c[::2].sum(0)) for s, c in counts.items()}
        best = max(swept, key=lambda s: float(swept[s].max()))
        at = int(swept[best].argmax())
        kept[name] = counts[best][1::2, at]
        right, false, true, square = kept[name].sum(0)
        result["decoders"][name] = {
            "setting": best,
            "least_score": float(LEAST[at]),
            "f1": round(float(f1(kept[name].sum(0))), 4),
            "precision": round(float(right / (right + false)), 4),
            "recall": round(float(right / true), 4),
            "rms_error": round(float(np.sqrt(square / (2 * right))), 4),
        }
    draws = np.random.default_rng(0).integers(len(rows[1::2]), size=(DRAWS, len(rows[1::2])))
    for name in SWEEP:
        more = f1(kept[name][draws].sum(1)) - f1(kept["peaks"][draws].sum(1))
        result["decoders"][name]["f1_more_than_peaks_err"] = round(float(more.std()), 4)
    chosen.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
