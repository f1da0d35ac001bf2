"""`atomreel run` on every real image and movie at hand, with what can be counted compared with labels.

    python benchmarks/real.py OUT_DIR [NAME…]

Needs the outside images (ATOMREEL_DATA). Writes one Run per file under OUT_DIR and measured/real.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from atomreel.interpret.lattice import fit_lattices
from atomreel.interpret.template import make_template, match_template

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("ATOMREEL_DATA", ROOT.parent / "shared" / "data")) / "real"
MEASURED = Path(__file__).parent / "measured" / "real.json"

Check = Callable[[Path], dict[str, Any]]


def walk(run: Path) -> dict[str, Any]:
    """The Si atom of si-graphene-walk, frame by frame and judged over the whole movie."""
    fractions = pd.read_parquet(run / "phases.parquet").filter(regex="^mean_(?!.*_err)").mean()
    over = run.parent / "si-graphene-walk-reactions"
    shutil.rmtree(over, ignore_errors=True)
    command = [sys.executable, "-m", "atomreel", "reactions", run, "-o", over, "--material", "graphene"]
    subprocess.run(command, check=True)
    return {
        **silicon(run),
        "mean_class": str(fractions.idxmax()).removeprefix("mean_"),
        "mean_class_fraction": float(fractions.max()),
        "reactions": silicon(over),
    }


def silicon(folder: Path) -> dict[str, Any]:
    """The Si of defects.parquet and tracks.parquet against the labels: 256 px = 2 nm, so 0.5 Å = 6.4 px."""
    labels = pd.read_csv(REAL / "si-graphene-walk" / "labels.csv").query("species == 'Si'")
    bright, tracked = (
        table[table.kind.str.startswith(("substitution", "Si"))]
        for table in (pd.read_parquet(folder / f"{name}.parquet") for name in ("defects", "tracks"))
    )
    hits, ids, false = 0, [], 0
    for label in labels.itertuples():
        near, followed = (
            np.hypot(here.y - label.y, here.x - label.x) <= 0.5 / (20 / 256)
            for here in (table[table.frame == label.frame] for table in (bright, tracked))
        )
        hits += bool(near.any())
        false += int((~near).sum())
        ids += [int(tracked.track[followed.index[followed]].iloc[0])] if followed.any() else []
    main = pd.Series(ids).mode()
    return {
        "labelled_frames": len(labels),
        "found_within_0.5_A": hits / len(labels),
        "frames_in_main_track": ids.count(main.iloc[0]) / len(labels) if len(main) else 0.0,
        "tracks_that_touch_the_label": len(set(ids)),
        "false_per_ten_frames": 10 * false / len(labels),
    }


def boundary(run: Path) -> dict[str, Any]:
    """Columns of the 4 nm graphene boundary image; its authors list 611 (in a pickled file, which is not opened).

    template: what the neighbourhoods of all atoms say against the motif of the first lattice that is fitted.
    """
    atoms = pd.read_parquet(run / "atoms.parquet")
    shape = np.load(REAL / RUNS["graphene-stem-boundary 4 nm"][0], mmap_mode="r").shape[-2:]
    first = fit_lattices(atoms, shape=(int(shape[0]), int(shape[1]))).lattices[0]
    found = match_template(atoms, make_template(first))
    fits = found[found.site >= 0]
    turned = fits.rotation_deg.abs() > 15  # graphene turns by 30° at most
    grains = {"first": fits[~turned], "second": fits[turned]}
    return {
        "labelled": 611,
        "found": len(atoms),
        "template": {
            "atoms_that_fit": len(fits),
            "rotation_deg": {name: float(grain.rotation_deg.median()) for name, grain in grains.items()},
            "chi2": float(fits.chi2.median()),
            "strain_claimed": float(fits[["exx_err", "eyy_err"]].median().mean()),
            "strain_scatter": {
                name: float(grain[["exx", "eyy"]].std().mean()) for name, grain in grains.items()
            },
        },
    }


RUNS: dict[str, tuple[str, list[str], Check | None]] = {
    "si-graphene-walk": ("si-graphene-walk/movie.tif", ["input.pixel_A=0.078125"], walk),
    "wsse-conversion (full)": ("wsse-conversion/full-14.tif", [], None),
    "wsse-conversion (partial)": ("wsse-conversion/partial-12.tif", [], None),
    "mos2-se-dm3": ("mos2-se-dm3/example_Se_implanted_MoS2.dm3", [], None),
    "graphene-stem-boundary 4 nm": ("graphene-stem-boundary/G-GrainBoundary-4nm.npy", [], boundary),
    "graphene-stem-boundary 6 nm": ("graphene-stem-boundary/G-GrainBoundary-6nm.npy", [], None),
    "graphene-hrtem-boundary": ("graphene-hrtem-boundary/graphene_defect_raw.tif", [], None),
    "srtio3": ("srtio3/SrTiO3.jpg", [], None),
    "si110-dumbbells": ("si110-dumbbells/Si110_5nmX25us_03_none_none.png", [], None),
    "tungsten-bronze": (
        "tungsten-bronze/data_scan70_id2154_electronsdrift_corr_DPC_processdate_20230102_hp_reg_0.01_lp_reg100.tif",
        [],
        None,
    ),
    "perovskite-abf-stack": ("perovskite-abf-stack/stem_abf_data_imagestack.hspy", [], None),
    "stm-hexagonal-drift": ("stm-hexagonal-drift/41524_2018_86_MOESM4_ESM.tif", [], None),
    "stm-corrals": ("stm-corrals/Createc2_210811.092547.dat", ["input.dataset=topography"], None),
    "stm-molecules": ("stm-molecules/demo_movie.gif", [], None),
    "pt-single-atoms": ("pt-single-atoms/021_HAADF_15nm_Sample_PtNC_21Oct20.tif", [], None),
    "au-nanoparticles-750C": ("au-nanoparticles-750C/movie.tif", ["input.frames=0:4"], None),
}


def summary(run: Path) -> dict[str, Any]:
    atoms = pd.read_parquet(run / "atoms.parquet")
    found: dict[str, Any] = {
        "frames": int(atoms.frame.nunique()),
        "columns": len(atoms),
        "median_error_px": float(np.nanmedian(atoms[["y_err", "x_err"]])) if len(atoms) else None,
        "species": {str(k): int(v) for k, v in atoms.species.value_counts().items()}
        if "species" in atoms
        else {},
    }
    if (run / "lattice.parquet").exists():
        lattice = pd.read_parquet(run / "lattice.parquet")
        found["lattice"] = lattice.drop(columns="frame").iloc[0].to_dict() if len(lattice) else None
    if (run / "symmetry.zarr").exists():
        group = zarr.open_group(run / "symmetry.zarr", mode="r")
        found["symmetry"] = {
            k[2:]: float(np.nanmean(group[k][:])) for k in group.array_keys() if k.startswith("p_")
        }
    return found


def main() -> None:
    out = Path(sys.argv[1])
    names = sys.argv[2:] or list(RUNS)
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for name in names:
        file, sets, check = RUNS[name]
        run = out / name.replace(" ", "_").replace("(", "").replace(")", "")
        command = [sys.executable, "-m", "atomreel", "run", REAL / file, "-o", run]
        shutil.rmtree(run, ignore_errors=True)  # a finished Run would be left as it is
        start = time.perf_counter()
        done = subprocess.run([*command, *(a for s in sets for a in ("--set", s))], check=False, text=True)
        row: dict[str, Any] = {"command": f"atomreel run {file}", "seconds": time.perf_counter() - start}
        if done.returncode == 0:
            row |= summary(run) | (check(run) if check else {})
        measured[name] = row | {"exit": done.returncode}
        MEASURED.parent.mkdir(exist_ok=True)
        MEASURED.write_text(json.dumps(measured, indent=1, default=float) + "\n")
        print(name, json.dumps(row, default=float), flush=True)


if __name__ == "__main__":
    main()
