"""Map the symmetry of a simulated frame: a square lattice beside a hexagonal one.

Run: python examples/symmetry.py
"""

from __future__ import annotations

import numpy as np

from atomreel.predict.symmetry import CLASSES, classify_image, map_symmetry
from atomreel.simulate.bravais import random_window


def main() -> None:
    rng = np.random.default_rng(5)
    halves = [random_window(rng, name=name, size=256).image for name in ("square", "hexagonal")]
    frame = np.hstack([half / half.mean() for half in halves])

    field = map_symmetry(frame, window=128, step=64, passes=50, rng=0)
    names = np.array(CLASSES)[np.argmax([field.maps[f"p_{name}"] for name in CLASSES], axis=0)]
    for y, row in zip(field.positions()[0], names, strict=True):
        print(f"y = {y:5.1f} px: {' '.join(f'{name:>11}' for name in row)}")

    mean, std = classify_image(frame[:, 256:], passes=50, rng=0)
    print(
        "right half:", ", ".join(f"{n} {p:.2f} ± {s:.2f}" for n, p, s in zip(CLASSES, mean, std, strict=True))
    )


if __name__ == "__main__":
    main()
