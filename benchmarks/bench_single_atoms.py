"""Single Pt atoms on thick carbon (outside images pt-single-atoms) against hand-clicked labels.

    python benchmarks/bench_single_atoms.py [IMAGE…]

Told nothing: `find_columns(image)`. Told what a user sees: columns are bright, about SPACING px apart. Beside them scikit-image's
blob_log, whose width and threshold are chosen on these very images for the best pooled F1. Nothing else is tuned. Also how far the
labels sit from the nearest maximum of the smoothed image. Writes measured/single_atoms.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage.feature import blob_log

from atomreel import find_columns, open_movie

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ATOMREEL_DATA", HERE.parents[1] / "shared" / "data")) / "real" / "pt-single-atoms"
MEASURED = HERE / "measured" / "single_atoms.json"
TOLERANCE = 4.0  # px
SPACING = 14.0  # px: about twice the width of one atom, as one reads it off the screen
SIGMAS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0)  # of the blobs [px]
THRESHOLDS = tuple(np.geomspace(0.005, 0.2, 40))  # of blob_log, image scaled to 0…1
SMOOTH = 2.0  # px, for the maxima that labels are compared with
Array = npt.NDArray[np.float64]


def hits(labels: Array, found: Array) -> int:
    """One-to-one pairs within the tolerance."""
    if not len(labels) or not len(found):
        return 0
    gap = cdist(labels, found)
    i, j = linear_sum_assignment(np.where(gap <= TOLERANCE, gap, 1e3))
    return int((gap[i, j] <= TOLERANCE).sum())


def scores(counts: list[tuple[int, int, int]]) -> dict[str, float]:
    """Of (labels, found, hits) per image, pooled."""
    labels, found, hit = (int(n) for n in np.array(counts).sum(0))
    return {
        "labels": labels,
        "found": found,
        "f1": 2 * hit / (labels + found),
        "precision": hit / max(found, 1),
        "recall": hit / labels,
    }


def blobs(image: Array, sigma: float) -> tuple[Array, Array]:
    """Blobs of one width and the response of each, so that a threshold is a cut in a sorted list."""
    unit = (image - image.min()) / np.ptp(image)
    found = blob_log(
        unit,
        min_sigma=sigma,
        max_sigma=sigma,
        num_sigma=1,
        threshold=THRESHOLDS[0],
        overlap=0.5,
        exclude_border=False,
    )[:, :2]
    response = -(sigma**2) * ndimage.gaussian_laplace(unit, sigma)
    return found, response[tuple(found.astype(int).T)]


def label_limits(image: Array, labels: Array) -> dict[str, Any]:
    """How far labels are from maxima, how near each other, and how they stand out among the maxima that are not labelled."""
    smooth = ndimage.gaussian_filter(image, SMOOTH)
    local = smooth - ndimage.gaussian_filter(image, 5 * SMOOTH)
    maxima = np.argwhere(smooth == ndimage.maximum_filter(smooth, 7))
    gap, _ = cKDTree(maxima).query(labels)
    nearest = cKDTree(labels).query(labels, k=2)[0][:, 1]
    pixel = np.clip(np.rint(labels).astype(int), 0, np.array(image.shape) - 1)
    own = ndimage.maximum_filter(local, 7)[tuple(pixel.T)]
    others = maxima[cKDTree(labels).query(maxima)[0] > TOLERANCE]
    brighter = int((local[tuple(others.T)] > np.median(own)).sum())
    return {
        "distance_to_maximum": gap.tolist(),
        "nearest_label": float(nearest.min()),
        "unlabelled_maxima_brighter_than_median_label": brighter,
    }


def main() -> None:
    files = sorted(DATA.glob("*.tif"))
    if not files:
        sys.exit(f"no images at {DATA}; set ATOMREEL_DATA to the folder that holds real/pt-single-atoms")
    chosen = [f for f in files if not sys.argv[1:] or f.stem[:3] in sys.argv[1:]]
    images: dict[str, Any] = {}
    ways: dict[str, list[tuple[int, int, int]]] = {}
    for file in chosen:
        image = np.asarray(open_movie(file)[0].data, float)
        labels = pd.read_csv(file.with_suffix(".csv"))[["y", "x"]].to_numpy(float)
        row: dict[str, Any] = {"labels": len(labels), "limits": label_limits(image, labels)}
        for name, told in (("defaults", {}), ("told", {"contrast": "bright", "spacing": SPACING})):
            found = find_columns(image, **told)
            where = found.table[["y", "x"]].to_numpy()
            counts = (len(labels), len(where), hits(labels, where))
            ways.setdefault(name, []).append(counts)
            row[name] = {
                "spacing_px": found.survey.spacing_px,
                "bright": found.survey.bright,
                **scores([counts]),
            }
        for sigma in SIGMAS:
            where, response = blobs(image, sigma)
            for threshold in THRESHOLDS:
                kept = where[response >= threshold]
                ways.setdefault(f"log {sigma:g} {threshold:.4f}", []).append(
                    (len(labels), len(kept), hits(labels, kept))
                )
        images[file.stem[:3]] = row
        print(file.stem[:3], json.dumps({k: row[k] for k in ("labels", "defaults", "told")}), flush=True)
    pooled = {name: scores(counts) for name, counts in ways.items()}
    best = max((name for name in pooled if name.startswith("log")), key=lambda name: pooled[name]["f1"])
    for k, row in enumerate(images.values()):
        row["blob_log"] = scores([ways[best][k]])
    distance = np.concatenate([row["limits"].pop("distance_to_maximum") for row in images.values()])
    about = {
        "images": images,
        "pooled": {"defaults": pooled["defaults"], "told": pooled["told"], "blob_log": pooled[best] | {"chosen": best}},
        "labels": {"n": len(distance), "median_px_to_maximum": float(np.median(distance)), "within_tolerance_of_one": float(np.mean(distance <= TOLERANCE))},
    }  # fmt: skip
    if len(chosen) == len(files):
        MEASURED.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(about["pooled"] | {"labels": about["labels"]}, indent=1))


if __name__ == "__main__":
    main()
