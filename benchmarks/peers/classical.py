"""Columns by scikit-image's blob_log, trackpy and atomap: run in an environment of their own by `compare.py`.

    python classical.py JOBS.json OUT.parquet

Each method is told what atomreel is not: the true spacing and whether columns are bright. Every
candidate is kept with its strength, so that the threshold sweep is done once, by the caller.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter


def prepared(job: dict) -> np.ndarray:
    """Background removed at the scale of two spacings, brightness to zero mean and unit sd, columns bright."""
    image = np.load(job["array"]).astype(float)
    image = image if job["bright"] else -image
    flat = image - gaussian_filter(image, 2 * job["nn_px"])
    return (flat - flat.mean()) / flat.std()


def blob_log(image: np.ndarray, nn: float) -> np.ndarray:
    """(N, 3) y, x, strength. Scale range around nn/4, the best of a sweep of 0.15…0.4 nn."""
    from skimage.feature import blob_log as find

    blobs = find(image, min_sigma=0.2 * nn, max_sigma=0.32 * nn, num_sigma=3, threshold=1e-3, overlap=0.3)
    smooth = gaussian_filter(image, 0.25 * nn)
    at = np.rint(blobs[:, :2]).astype(int)
    return np.column_stack([blobs[:, :2], smooth[at[:, 0], at[:, 1]]])


def trackpy(image: np.ndarray, nn: float) -> np.ndarray:
    """Diameter = the odd number nearest 0.9 nn, separation 0.6 nn: the best of a sweep of 0.7…1.3 and 0.5…0.9."""
    import trackpy as tp

    diameter = max(3, int(0.9 * nn) // 2 * 2 + 1)
    scaled = (image - image.min()) / np.ptp(image) * 1000
    found = tp.locate(scaled, diameter, separation=0.6 * nn, minmass=0, percentile=20, preprocess=True)
    return found[["y", "x", "mass"]].to_numpy(float)


def atomap(image: np.ndarray, nn: float) -> np.ndarray:
    """Peaks at the true separation (0.55 nn), centre of mass, then 2-D Gaussians on the images it can afford."""
    import hyperspy.api as hs
    from atomap.atom_finding_refining import get_atom_positions

    signal = hs.signals.Signal2D(gaussian_filter(image, 0.15 * nn))
    separation = max(2, round(0.55 * nn))
    found = get_atom_positions(signal, separation=separation, threshold_rel=0.02, pca=False)
    found = np.asarray(found, float).reshape(-1, 2)
    smooth = gaussian_filter(image, 0.25 * nn)
    at = np.clip(np.rint(found[:, ::-1]).astype(int), 0, np.array(image.shape) - 1)
    return np.column_stack([found[:, 1], found[:, 0], smooth[at[:, 0], at[:, 1]]])


METHODS = {"blob_log": blob_log, "trackpy": trackpy, "atomap": atomap}


def main(jobs_file: str, out: str) -> None:
    warnings.simplefilter("ignore")
    rows = []
    for job in json.loads(Path(jobs_file).read_text()):
        image = prepared(job)
        for name, method in METHODS.items():
            start = time.perf_counter()
            found = method(image, job["nn_px"])
            seconds = time.perf_counter() - start
            rows.append(
                pd.DataFrame(found, columns=["y", "x", "strength"]).assign(
                    file=job["file"], peer=name, seconds=seconds
                )
            )
        print(job["file"], flush=True)
    pd.concat(rows).to_parquet(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
