"""Symmetry maps of real crystals whose class is known: python benchmarks/bench_real_maps.py [NAME…]

`atomreel symmetry FILE -o MAP.zarr` with the defaults, with windows of 128 px, or told the material. Needs the outside images
(ATOMREEL_DATA). Shares of the windows whose likeliest class is the known one, and that have it within 2 % shear, of all windows and of
those that lie in one grain; boundaries; the distortion that grains share. Writes measured/real_maps.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from atomreel.core.field import Field
from atomreel.predict.sheared import class_shears
from atomreel.simulate.bravais import CLASSES

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("ATOMREEL_DATA", ROOT.parent / "shared" / "data")) / "real"
MEASURED = Path(__file__).parent / "measured" / "real_maps.json"
GRAPHENE = {
    "graphene-stem-boundary 4 nm": "graphene-stem-boundary/G-GrainBoundary-4nm.npy",
    "graphene-stem-boundary 6 nm": "graphene-stem-boundary/G-GrainBoundary-6nm.npy",
    "graphene-hrtem-boundary": "graphene-hrtem-boundary/graphene_defect_raw.tif",
}
WSSE = ("full-14", "full-16", *(f"partial-{n}" for n in (12, 16, 18, 25, 27, 3, 8)))
SMALL = ("symmetry.window=128", "symmetry.step=24")


def runs() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Name → file, class of the crystal, settings."""
    found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for name, file in GRAPHENE.items():
        found[name] = (file, "hexagonal", ())
        found[f"{name}, windows of 128 px"] = (file, "hexagonal", SMALL)
    for what in WSSE:
        file = f"wsse-conversion/{what}.tif"
        found[f"wsse {what}"] = (file, "hexagonal", ())
        found[f"wsse {what}, told WS2"] = (file, "hexagonal", ("calibrate.material=ws2",))
    found["srtio3"] = ("srtio3/SrTiO3.jpg", "square", ())
    found["srtio3, told SrTiO3"] = ("srtio3/SrTiO3.jpg", "square", ("calibrate.material=srtio3",))
    return found


def measure(file: str, truth: str, sets: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "map.zarr"
        told = [part for one in sets for part in ("--set", one)]
        subprocess.run(
            [sys.executable, "-m", "atomreel", "symmetry", REAL / file, "-o", out, *told],
            check=True,
            capture_output=True,
        )
        group = zarr.open_group(out, mode="r")
        maps = {key: np.asarray(array[:], dtype=float)[0] for key, array in group.arrays()}
        del maps["grain_area"]  # on a finer grid
        grains = pd.read_parquet(out.with_suffix(".grains.parquet"))
        edges = pd.read_parquet(out.with_suffix(".boundaries.parquet"))
        window = int(str(group.attrs["window"]))
    top = np.stack([maps[f"p_{name}"] for name in CLASSES]).argmax(0)
    away = class_shears(Field(maps, origin=(0, 0), step=(1, 1)))[0][truth]
    within, inside, code = maps["within_shear"], maps["grain"] > 0, CLASSES.index(truth)
    first = grains.iloc[0] if len(grains) else pd.Series(dtype=float)
    return {
        "windows": int(top.size),
        "window_px": window,
        "as_imaged": {name: float((top == k).mean()) for k, name in enumerate(CLASSES)},
        "known_class": truth,
        "within_2_percent": float((within == code).mean()),
        "within_2_percent_in_one_grain": float((within[inside] == code).mean()) if inside.any() else None,
        "grains": len(grains),
        "shear_as_imaged_in_one_grain": dict(zip(("p10", "p50", "p90"), spread(away[inside]), strict=True)),
        "gamma_deg": [float(v) for v in grains.gamma_deg],
        "turns_deg": [[float(r.turn_deg), float(r.turn_deg_err)] for r in edges.itertuples()],
        "shared": {
            k: float(first[k]) for k in ("image_s", "image_e", "image_e_err") if pd.notna(first.get(k))
        },
    }


def spread(values: npt.NDArray[np.float64]) -> list[float | None]:
    known = values[np.isfinite(values)]
    return [float(v) for v in np.percentile(known, (10, 50, 90))] if len(known) else [None] * 3


def main() -> None:
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    for name, what in runs().items():
        if sys.argv[1:] and not any(name.startswith(one) for one in sys.argv[1:]):
            continue
        measured[name] = measure(*what)
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        row = measured[name]
        print(f"{name}: {row['within_2_percent']:.3f} ({row['within_2_percent_in_one_grain']})", flush=True)


if __name__ == "__main__":
    main()
