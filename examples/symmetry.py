"""Map the symmetry of a simulated frame, a square lattice beside a hexagonal one, and cut it into grains.

Run: python examples/symmetry.py [FIGURE.png]
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

from atomreel.core.field import Field
from atomreel.interpret.grains import Grains, find_grains
from atomreel.predict.sheared import within_shear
from atomreel.predict.symmetry import CLASSES, classify_image, map_symmetry
from atomreel.simulate.bravais import random_window


def draw(frame: np.ndarray, field: Field, found: Grains, path: str) -> None:
    """The frame with its grains, and the maps in which the boundary stands out."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained", dpi=90)
    axes = figure.subplots(2, 2)
    axes[0, 0].imshow(frame, cmap="gray")
    owner, step = found.area.maps["grain"], found.area.step[0]
    axes[0, 0].imshow(
        np.ma.masked_equal(owner, 0), cmap="cool", alpha=0.35,
        extent=(-0.5, owner.shape[1] * step - 0.5, owner.shape[0] * step - 0.5, -0.5),
    )  # fmt: skip
    axes[0, 0].set(title="frame and grains", xlim=(0, frame.shape[1]), ylim=(frame.shape[0], 0))
    maps = {
        "entropy (nats)": field.maps["entropy"],
        "mutual information (nats)": field.maps["mutual_information"],
        "change of the lattice (°)": found.change,
    }
    for ax, (title, values) in zip(axes.flat[1:], maps.items(), strict=True):
        shown = ax.imshow(values, cmap="magma", vmin=0)
        figure.colorbar(shown, ax=ax, shrink=0.8)
        ax.set_title(title)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.savefig(path)


def main(figure: str | None = None) -> None:
    rng = np.random.default_rng(5)
    # lattices of which windows of 128 px hold six cells or more
    halves = []
    for name in ("square", "hexagonal"):
        while (window := random_window(rng, name=name, size=256)).a > 20 or window.counts < 5:
            pass
        halves.append(window.image)
    frame = np.hstack([half / half.mean() for half in halves])

    # a quarter window, made a little shorter so that the last windows end at the border
    field = map_symmetry(frame, window=128, step=32, flush=True, passes=50, rng=0)
    names = np.array(CLASSES)[np.argmax([field.maps[f"p_{name}"] for name in CLASSES], axis=0)]
    for y, row in zip(field.positions()[0], names, strict=True):
        print(f"y = {y:5.1f} px: {' '.join(f'{name:>11}' for name in row)}")

    for name in ("entropy", "mutual_information"):  # nats; largest where a window holds both lattices
        print(f"{name} by column:", " ".join(f"{value:.3f}" for value in field.maps[name].mean(0)))
    sheared = np.array(CLASSES)[within_shear(field, bound=0.02).astype(int)]
    print("within 2 % shear, top row:", " ".join(sheared[0]))

    found = find_grains(frame, field, window=128)
    print("labels of the windows, 0 at the boundary:", *found.labels, sep="\n")
    for grain in found.table.itertuples():
        print(
            f"grain {grain.grain}: {grain.symmetry} (p {grain.p:.2f}), a {grain.a_px:.2f} ± {grain.a_px_err:.2f} px, "
            f"direction {grain.angle_deg:.1f} ± {grain.angle_deg_err:.1f}°, area {grain.area_px2:.0f} ± {grain.area_px2_err:.0f} px²"
        )

    if figure is not None:
        draw(frame, field, found, figure)
    mean, std = classify_image(frame[:, 256:], passes=50, rng=0)
    print(
        "right half:", ", ".join(f"{n} {p:.2f} ± {s:.2f}" for n, p, s in zip(CLASSES, mean, std, strict=True))
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
