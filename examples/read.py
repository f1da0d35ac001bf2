"""Open a microscope file lazily and see what it says about itself: python examples/read.py [FILE]."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from atomreel.read.movie import describe, open_movie

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:
    path = Path(tempfile.mkdtemp()) / "movie.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(5, (5, 64, 64)).astype(np.uint16))

movie = open_movie(path, pixel=0.12)
for name, value in describe(movie).items():
    if value not in (None, [], {}):
        print(f"{name:12} {value}")
for image in movie[:2]:
    print("mean of a frame:", round(float(image.data.mean()), 3))
