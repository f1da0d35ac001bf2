"""The yardstick's `columns` table for AtomAI, atomap, trackpy and blob_log, beside atomreel's: one command.

    python benchmarks/peers/compare.py INPUT_DIR TRUTH.parquet SCORER_DIR OUT_DIR [--minutes 20] [--envs DIR]

Makes one virtual environment per peer (kept in --envs), simulates AtomAI's training images with
atomreel, runs every peer with the true spacing and contrast told, sweeps each peer's threshold on
these very images, and scores its best single threshold and its best threshold per image. So the
peers' figures are upper bounds; atomreel is told nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

HERE = Path(__file__).parent
SPACING = 10.0  # px, of AtomAI's training images
ENVIRONMENTS = {
    "classical": [["atomap", "trackpy", "scikit-image", "pandas", "pyarrow"]],
    "atomai": [
        ["torch==2.13.0", "six"],
        ["--no-deps", "atomai==0.8.1", "torchvision", "progressbar2", "python-utils"],
        ["gpytorch", "matplotlib", "mendeleev", "networkx", "opencv-python-headless", "scikit-image"],
        ["scikit-learn", "pandas", "pyarrow"],
    ],
}


def environment(name: str, home: Path) -> Path:
    python = home / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home / name], check=True)
        for packages in ENVIRONMENTS[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


def make_jobs(source: Path, truth: pd.DataFrame, out: Path) -> list[dict[str, Any]]:
    """Arrays as .npy with the true spacing, and whether columns are brighter than their surroundings."""
    jobs = []
    for file in sorted(p for p in source.iterdir() if p.suffix in (".tif", ".npy")):
        rows = truth[truth.image == file.stem]
        data = np.load(file) if file.suffix == ".npy" else tifffile.imread(file)
        nn = float(rows.nn_px.iloc[0])
        flat = gaussian_filter(data.astype(float), 0.15 * nn) - gaussian_filter(data.astype(float), nn)
        bright = map_coordinates(flat, rows[["y", "x"]].to_numpy().T, order=1).mean() > 0
        array = out / f"{file.stem}.npy"
        np.save(array, data.astype(np.float32))
        jobs.append({"file": file.name, "array": str(array), "nn_px": nn, "bright": bool(bright)})
    return jobs


def make_training(out: Path, count: int) -> Path:
    """Simulated images of atomreel's own training distribution, 128², spacing 10 px, with discs of 0.25 nn as masks."""
    from scipy.ndimage import zoom

    from atomreel.simulate.sample import random_image

    rng = np.random.default_rng(20261120)
    images, masks = [], []
    yy, xx = np.mgrid[:128, :128]
    while len(images) < count:
        made = random_image(rng, size=(384, 384))
        factor = SPACING / made.nn_px
        if not len(made.columns) or 384 * factor < 128:
            continue
        image = zoom(made.image if made.bright else -made.image, factor, order=1)[:128, :128]
        mask = np.zeros((128, 128), bool)
        for y, x in made.columns * factor:
            if y < 132 and x < 132:
                mask |= (yy - y) ** 2 + (xx - x) ** 2 <= (0.25 * SPACING) ** 2
        images.append((image - image.mean()) / (image.std() + 1e-9))
        masks.append(mask)
    np.savez(out, images=np.array(images, np.float32), masks=np.array(masks), nn_px=SPACING)
    return out


def best(found: pd.DataFrame, truth: pd.DataFrame, score: Any) -> dict[str, Any]:
    """Best single threshold over the set and best per image, by F1. AtomAI's sweep is over whole predictions."""
    name = found.peer.iloc[0]
    at = (
        sorted(found.strength.unique())
        if name == "AtomAI"
        else found.strength.quantile(np.linspace(0, 0.95, 20))
    )

    def cut(table: pd.DataFrame, level: float) -> pd.DataFrame:
        return table[table.strength == level] if name == "AtomAI" else table[table.strength >= level]

    single = max((score.score(truth, cut(found, t))["overall"] for t in at), key=lambda r: r["f1"])
    chosen = []
    for image, rows in truth.groupby("image"):
        mine = found[found.image == image]
        chosen.append(max((cut(mine, t) for t in at), key=lambda f: score.score(rows, f)["overall"]["f1"]))
    oracle = score.score(truth, pd.concat(chosen))
    return {
        "one_threshold": single,
        "per_image_threshold": oracle["overall"],
        "family": {k: v["f1"] for k, v in oracle["family"].items()},
        "seconds_per_image": float(found.groupby("image").seconds.first().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("input", "truth", "scorer", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--envs", type=Path, default=Path("out/peers"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    truth = pd.read_parquet(given.truth)
    jobs = given.out / "jobs.json"
    jobs.write_text(json.dumps(make_jobs(given.input, truth, given.out)))
    tables = {name: (given.out / f"{name}.parquet").resolve() for name in ENVIRONMENTS}
    python = {name: environment(name, given.envs.resolve()) for name in ENVIRONMENTS}
    subprocess.run([python["classical"], HERE / "classical.py", jobs, tables["classical"]], check=True)
    training = make_training(given.out / "training.npz", given.images)
    command = [python["atomai"], (HERE / "atomai_columns.py").resolve(), training.resolve(), jobs.resolve()]
    settings = {**os.environ, "MPLBACKEND": "Agg"}
    subprocess.run([*command, tables["atomai"], str(given.minutes)], cwd=given.out, env=settings, check=True)
    sys.path.insert(0, str(given.scorer.resolve()))
    score = importlib.import_module("score_columns")
    found = pd.concat([pd.read_parquet(t) for t in tables.values()])
    found["image"] = [Path(f).stem for f in found.file]
    result = {name: best(rows, truth, score) for name, rows in found.groupby("peer")}
    (HERE.parent / "measured" / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v["one_threshold"]["f1"] for k, v in result.items()}, indent=1))


if __name__ == "__main__":
    main()
