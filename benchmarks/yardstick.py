"""Run the public command line on a yardstick set and write what its scorer reads.

    python benchmarks/yardstick.py SET INPUT_DIR OUT_DIR [--model MODEL]

SET: columns (images → found.parquet), bravais (multi-page TIFF → probs.csv), heights (focal series and images.json
→ found.parquet), holes (movie.tif and times.csv → holes.csv, rates.json) or defects (the same → defects.parquet, rates.json).
One recipe per SET (benchmarks/recipes/SET.toml), nothing tuned per file, nothing read but INPUT_DIR.
MODEL: of the set bravais, a name or folder instead of the default.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

RECIPES = Path(__file__).parent / "recipes"
IMAGES = (".tif", ".tiff", ".npy")


def atomreel(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "atomreel", *map(str, arguments)], check=True)


def columns(source: Path, out: Path) -> Path:
    """found.parquet: file, y, x, y_err, x_err, score, species."""
    files = sorted(p for p in source.iterdir() if p.suffix.lower() in IMAGES)
    table = out / "found.parquet"
    atomreel("find", *files, "-r", RECIPES / "columns.toml", "-o", table)
    return table


def bravais(source: Path, out: Path, model: str = "bravais") -> Path:
    """probs.csv: frame, p_square … p_noise, of the TIFF (`lattices.tif` where there are several; others get their own)."""
    stacks = sorted(p for p in source.iterdir() if p.suffix.lower() in (".tif", ".tiff"))
    stacks.sort(key=lambda p: p.stem != "lattices")
    if not stacks:
        raise SystemExit(f"{source}: no TIFF here")
    for stack in stacks:
        name = "probs.csv" if stack == stacks[0] else f"probs_{stack.stem}.csv"
        recipe = RECIPES / "bravais.toml"
        atomreel("symmetry", stack, "--whole", "-r", recipe, "--model", model, "-o", out / name)
        found = pd.read_csv(out / name)
        found[["frame", *(c for c in found if c.startswith("p_"))]].to_csv(out / name, index=False)
    return out / "probs.csv"


def heights(source: Path, out: Path) -> Path:
    """found.parquet: file, y, x, height, height_p. Pixel size and dose of each series are told, as images.json has them."""
    listed = json.loads((source / "images.json").read_text(encoding="utf-8"))
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for about in listed:
            file, table = source / Path(about["file"]).name, Path(folder) / "found.parquet"
            file = file if file.exists() else source / about["file"]
            dose = about["dose_total"] / len(about["defocus_nominal_A"])
            told = ["--set", f"input.pixel_A={about['pixel_A']}", "--set", f"input.dose={dose}"]
            atomreel("heights", file, "-r", RECIPES / "heights.toml", *told, "-o", table)
            parts.append(pd.read_parquet(table).assign(image=about["image"]))
    found = pd.concat(parts, ignore_index=True)
    found[["file", "image", "y", "x", "height", "height_p"]].to_parquet(out / "found.parquet", index=False)
    return out / "found.parquet"


def holes(source: Path, out: Path) -> Path:
    """holes.csv: frame, area_fraction (holes by missing columns), …; rates.json: [value, low, high] of ρ, A₀, C.

    C is the mean share of the vacancies that are no part of a hole. The Run stays in OUT_DIR/run.
    """
    if (out / "run" / "report.html").exists():  # a finished Run would be left as it is
        shutil.rmtree(out / "run")
    times = source / "times.csv"
    told = ["--set", f"input.times_csv={times}"] if times.exists() else []
    atomreel("run", source / "movie.tif", "-r", RECIPES / "holes.toml", *told, "-o", out / "run")
    phases = pd.read_parquet(out / "run" / "phases.parquet")
    names = {"hole_fraction": "area_fraction", "hole_fraction_err": "area_fraction_err"}
    shown = ["frame", *names.values(), "hole_fraction_intensity", "vacancy_fraction"]
    phases.rename(columns=names)[shown].to_csv(out / "holes.csv", index=False)
    rates = json.loads((out / "run" / "rates.json").read_text(encoding="utf-8"))
    asked = {"rho_per_s": "hole_rho", "A0": "hole_A0", "C": "vacancy_share"}
    found = {k: [rates[name][end] for end in ("value", "low", "high")] for k, name in asked.items()}
    (out / "rates.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return out / "holes.csv"


def defects(source: Path, out: Path) -> Path:
    """defects.parquet: frame, y, x, kind, state, track; rates.json: the rate matrix of a Mo and the neighbour that lacks an S, rates of equal
    neighbours together, D of the vacancies by hops. The Run stays in OUT_DIR/run; what single
    frames say is in OUT_DIR/frames/defects.parquet, for comparison."""
    if (out / "run" / "report.html").exists():  # a finished Run would be left as it is
        shutil.rmtree(out / "run")
    times = source / "times.csv"
    told = ["--set", f"input.times_csv={times}"] if times.exists() else []
    atomreel("run", source / "movie.tif", "-r", RECIPES / "defects.toml", *told, "-o", out / "run")
    (out / "frames").mkdir(exist_ok=True)
    run = out / "run"
    judged = run / "reactions" if (run / "reactions").is_dir() else run  # a movie in which no layer was found
    for tables, folder in ((judged, out), (run, out / "frames")):
        found = pd.read_parquet(tables / "tracks.parquet")
        found["kind"] = found["kind"].replace({"Mo_W": "Mo", "Mo_W+V_S": "Mo_VS"})
        shown = [c for c in ("frame", "y", "x", "kind", "state", "track") if c in found]
        found[shown].to_parquet(folder / "defects.parquet", index=False)
    rates = json.loads((run / "rates.json").read_text(encoding="utf-8"))
    states = ("Mo_W", "Mo_W+V_S:1", "Mo_W+V_S:2", "Mo_W+V_S:3")

    def matrix(end: str) -> list[list[float]]:
        return [[0.0 if a == b else rates[f"{a}→{b}"][end] for b in states] for a in states]

    asked = {
        "on": "catch of Mo_W",
        "off": "release of Mo_W",
        "turn": "turn of Mo_W",
        "D_A2_per_s": "D of V_S by hops",
    }
    ends = ("value", "low", "high")
    result = {name: [rates[own][end] for end in ends] for name, own in asked.items() if own in rates}
    if all(f"{a}→{b}" in rates for a in states for b in states if a != b):
        result |= {name: matrix(end) for name, end in zip(("Q_per_s", "Q_lo", "Q_hi"), ends, strict=True)}
    (out / "rates.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return out / "defects.parquet"


SETS = {"defects": defects, "holes": holes, "columns": columns, "bravais": bravais, "heights": heights}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("input", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.model and chosen.set != "bravais":
        parser.error("--model is for the set bravais")
    told = (chosen.model,) if chosen.model else ()
    print(SETS[chosen.set](chosen.input, chosen.out, *told))


if __name__ == "__main__":
    main()
