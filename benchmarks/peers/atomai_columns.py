"""Columns by AtomAI's Segmentor, trained here on atomreel's simulated images; run in an environment of its own.

    python atomai_columns.py TRAIN.npz JOBS.json OUT.parquet MINUTES

It is told what atomreel is not: every image is rescaled so that the true spacing is that of its
training images, and inverted where columns are dark.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_register = torch.library.register_fake


def _tolerant(name, *rest, **more):
    """torchvision's only wheel expects another torch; AtomAI needs none of its compiled operators."""
    if not str(name).startswith("torchvision::"):
        return _register(name, *rest, **more)
    return lambda function: function


torch.library.register_fake = _tolerant

import atomai as aoi  # noqa: E402
from scipy.ndimage import zoom  # noqa: E402


def train(file: str, minutes: float):
    data = np.load(file)
    images, masks = data["images"].astype(np.float32), data["masks"].astype(np.float32)
    cut = len(images) * 9 // 10
    model = aoi.models.Segmentor(nb_classes=1)
    cycles, start = 0, time.perf_counter()
    model.fit(
        images[:cut],
        masks[:cut],
        images[cut:],
        masks[cut:],
        training_cycles=20,
        compute_accuracy=False,
        swa=False,
    )
    per_cycle = (time.perf_counter() - start) / 20
    cycles = max(1, int((minutes * 60 - per_cycle * 20) / per_cycle))
    print(f"{per_cycle:.2f} s per cycle, {cycles} cycles", flush=True)
    model.fit(
        images[:cut],
        masks[:cut],
        images[cut:],
        masks[cut:],
        training_cycles=cycles,
        compute_accuracy=False,
        swa=True,
    )
    return model


def predict(model, job: dict, nn_train: float) -> pd.DataFrame:
    image = np.load(job["array"]).astype(np.float32)
    image = image if job["bright"] else -image
    factor = nn_train / job["nn_px"]
    start = time.perf_counter()
    scaled = zoom(image, factor, order=1)
    scaled = (
        scaled - scaled.mean()
    ) / scaled.std()  # as its training images; its own 0…1 scaling would differ
    rows = []
    for threshold in THRESHOLDS:
        _, coordinates = model.predict(scaled, thresh=threshold, norm=False, verbose=False)
        found = np.asarray(coordinates[0], float).reshape(-1, 3)[:, :2]
        rows.append(
            pd.DataFrame({"y": found[:, 0] / factor, "x": found[:, 1] / factor, "strength": threshold})
        )
    return pd.concat(rows).assign(
        file=job["file"], peer="AtomAI", seconds=(time.perf_counter() - start) / len(THRESHOLDS)
    )


def main(train_file: str, jobs_file: str, out: str, minutes: str) -> None:
    warnings.simplefilter("ignore")
    model = train(train_file, float(minutes))
    nn_train = float(np.load(train_file)["nn_px"])
    jobs = json.loads(Path(jobs_file).read_text())
    pd.concat([predict(model, job, nn_train) for job in jobs]).to_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:5])
