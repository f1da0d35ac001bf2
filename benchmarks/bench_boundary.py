"""Rings of the real image graphene-hrtem-boundary: python benchmarks/bench_boundary.py RUN [PICTURE]

RUN: the Run folder that `python benchmarks/real.py out/real graphene-hrtem-boundary` leaves. Writes measured/boundary.json and, where
a PICTURE is named, the image with bonds and odd rings to look at. The picture holds outside data: not for the project.

The boundary is the straight line through the seven-rings. Inside the grains a missed column would join three hexagons and an
invented one would split a ring, so "every site found" is "every ring is a hexagon".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel import find_bonds, find_rings, open_movie
from atomreel.interpret.rings import Rings

HERE = Path(__file__).parent
DATA = Path(os.environ.get("ATOMREEL_DATA", HERE.parents[1] / "shared" / "data"))
FILE = DATA / "real" / "graphene-hrtem-boundary" / "graphene_defect_raw.tif"
HOLE = (
    125.0,
    135.0,
)  # px: rows and columns of the upper left corner that the hole and its rim take up, by eye
BAND = 4.0  # bond lengths on either side of the line that count as the boundary
BORDER = 1.5  # bond lengths from the edge of the image within which columns are cut off
SCORES = (0.0, 0.6, 0.8, 0.95)  # least scores of the columns of which rings are made
DRAWS = 10  # of all positions from their errors
Array = npt.NDArray[np.float64]


def rings_of(atoms: pd.DataFrame, shape: tuple[int, int]) -> tuple[Rings, float]:
    graph = find_bonds(atoms, shape=shape, draws=2)
    return find_rings(atoms, graph, shape=shape), graph.nearest


def line_through(table: pd.DataFrame) -> Array:
    """Slope and height of y against x of the seven-rings; twice, without those far from the first line."""
    seven = table[(table["size"] == 7) & ~in_hole(table)]
    line = np.polyfit(seven["x"], seven["y"], 1)
    off = np.abs(seven["y"] - np.polyval(line, seven["x"]))
    return np.polyfit(seven["x"][off < 40], seven["y"][off < 40], 1)


def in_hole(table: pd.DataFrame) -> pd.Series:
    return (table["y"] < HOLE[0]) & (table["x"] < HOLE[1])


def zones(
    rings: Rings, line: Array, *, bond: float, where: Array, shape: tuple[int, int]
) -> npt.NDArray[np.str_]:
    """For each ring: hole, border, boundary or grain."""
    table = rings.table
    away = np.abs(table["y"] - np.polyval(line, table["x"])) / np.hypot(1, line[0])
    low = np.array([where[ring].min() for ring in rings.members])
    high = np.array([(np.array(shape) - 1 - where[ring]).min() for ring in rings.members])
    out = np.where(away < BAND * bond, "boundary", "grain")
    out[np.minimum(low, high) < BORDER * bond] = "border"
    out[in_hole(table).to_numpy()] = "hole"
    return out


def counted(
    atoms: pd.DataFrame, shape: tuple[int, int], line: Array | None
) -> tuple[dict[str, dict[str, int]], Array, Rings]:
    rings, bond = rings_of(atoms, shape)
    line = line_through(rings.table) if line is None else line
    zone = zones(rings, line, bond=bond, where=atoms[["y", "x"]].to_numpy(), shape=shape)
    out: dict[str, dict[str, int]] = {}
    for name in ("grain", "boundary"):
        sizes = rings.table["size"][zone == name].value_counts().sort_index()
        out[name] = {str(size): int(n) for size, n in sizes.items()}
    return out, line, rings


def draw(path: Path, image: Array, atoms: pd.DataFrame, rings: Rings) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 16), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image, cmap="gray", vmin=np.quantile(image, 0.003), vmax=np.quantile(image, 0.997))
    axes.plot(atoms["x"], atoms["y"], ".", color="tab:green", ms=3)
    colours = {4: "tab:purple", 5: "tab:orange", 7: "tab:blue", 8: "tab:red"}
    where = atoms[["y", "x"]].to_numpy()
    for size, ring in zip(rings.table["size"], rings.members, strict=True):
        if size != 6:
            axes.fill(where[ring, 1], where[ring, 0], color=colours.get(size, "tab:gray"), alpha=0.5, lw=0)
    axes.set_axis_off()
    figure.savefig(path, dpi=75)


def main() -> None:
    atoms = pd.read_parquet(Path(sys.argv[1]) / "atoms.parquet")
    image = np.asarray(open_movie(FILE)[0].data, float)
    shape = (image.shape[0], image.shape[1])
    best, line, rings = counted(atoms, shape, None)
    measured: dict[str, Any] = {"columns": len(atoms), "counts": best, "by_score": {}, "drawn": {}}
    for score in SCORES:
        measured["by_score"][f"{score:g}"] = counted(
            atoms[atoms["score"] >= score].reset_index(drop=True), shape, line
        )[0]
    rng, drawn = np.random.default_rng(51), []
    for _ in range(DRAWS):
        off = rng.normal(0, 1, (len(atoms), 2)) * atoms[["y_err", "x_err"]].to_numpy()
        moved = atoms.assign(y=atoms["y"] + off[:, 0], x=atoms["x"] + off[:, 1])
        drawn.append(counted(moved, shape, line)[0]["boundary"])
    for size in ("4", "5", "6", "7", "8"):
        values = [d.get(size, 0) for d in drawn]
        measured["drawn"][size] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
    (HERE / "measured" / "boundary.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))
    if len(sys.argv) > 2:
        draw(Path(sys.argv[2]), image, atoms, rings)


if __name__ == "__main__":
    main()
