"""Name the point defects of a simulated WS2 layer in crops of it, and show where the network saw them.

Run: python examples/windows.py
"""

from __future__ import annotations

import numpy as np

from atomreel.core.material import load_material
from atomreel.predict.windows import activation_maps, classify_windows, crops_at, paste_maps
from atomreel.simulate.detector import add_counts
from atomreel.simulate.stem import Probe, render_stem, z_contrast
from atomreel.simulate.structures import apply_defect, crystal

PIXEL, SIDE, COUNTS = 0.11, 420, 400.0  # Å, px, counts at a tungsten column
PLACES = {"Mo_W": (12.0, 12.0), "V_S": (12.0, 33.0), "V_W": (33.0, 12.0), "W_S": (33.0, 33.0)}  # Å


def main() -> None:
    rng = np.random.default_rng(3)
    material = load_material("ws2")
    layer = crystal(material.project(), (0, 0, SIDE * PIXEL, SIDE * PIXEL), angle=17.0)
    at = []
    for kind, place in PLACES.items():
        site = "W" if kind.endswith("_W") else "S2"
        fits = np.flatnonzero(layer.labels == site)
        index = fits[[np.argmin(np.linalg.norm(layer.positions[fits] - place, axis=1))]]
        at.append(layer.positions[index[0]])
        layer = apply_defect(layer, index, material.defect(kind))
    weights = np.array([z_contrast(kind.atoms) for kind in layer.kinds])[layer.kind]
    probe = Probe(1.0, tail=0.15)
    clean = render_stem(
        layer.positions / PIXEL, weights / weights.max(), (SIDE, SIDE), probe=probe, pixel=PIXEL
    )
    image = add_counts(COUNTS * (clean + 0.05), rng)

    yx = np.vstack([np.array(at) / PIXEL, [(SIDE / 2, SIDE / 2), (-4 / PIXEL, 20.0)]])
    lattice_px = 3.153 / PIXEL
    crops = crops_at(image, yx, lattice_px=lattice_px)
    table = classify_windows(crops)
    maps = activation_maps(crops)
    whole = paste_maps(image.shape, yx, maps, lattice_px=lattice_px)
    for name, (_, answer), one, centre in zip(
        [*PLACES, "pristine", "half of it outside"], table.iterrows(), maps, yx, strict=True
    ):
        top = np.unravel_index(np.argmax(one), one.shape)
        off = np.linalg.norm(np.array(top) - 31.5) * 3.153 / 16
        print(
            f"{name:19} called {answer['kind']:9} p = {answer['score']:.3f}, brightest {off:.1f} Å from {centre.round()}"
        )
    print(
        f"map of the whole frame {whole.shape}, largest at {np.unravel_index(np.argmax(whole), whole.shape)}"
    )


if __name__ == "__main__":
    main()
