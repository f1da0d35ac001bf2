"""Learn defects from the first frame of a simulated WS2 movie, find them in all, and compare with the truth.

Run: python examples/detect.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.detect import describe_detected, detect_movie
from atomreel.pipeline.source import open_source
from atomreel.simulate.movie import simulate_ws2_movie


def main(folder: Path) -> None:
    movie = simulate_ws2_movie(1, frames=6, size=200, pixel=0.25, dopants=7, vacancies=5)
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "movie.tif", movie.frames, photometric="minisblack")
    recipe = load_recipe(overrides=["input.frame_time_s=1"])
    found = detect_movie(open_source(folder / "movie.tif", recipe.input), recipe, out=folder, frame=0)
    for line in describe_detected(found):
        print(line)
    for frame in range(len(movie.frames)):
        true = movie.defects[movie.defects["frame"] == frame]
        own = found.table[found.table["frame"] == frame][["y", "x"]].to_numpy(float)
        near = [len(own) > 0 and np.hypot(*(own - at).T).min() < 4 for at in true[["y", "x"]].to_numpy(float)]
        print(f"frame {frame}: {len(own)} found, {sum(near)} of {len(true)} true ones among them")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "detected"))
