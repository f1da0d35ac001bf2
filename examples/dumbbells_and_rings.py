"""Dumbbells of GaAs, bonds and rings of a graphene boundary with a Si atom: python examples/dumbbells_and_rings.py [FOLDER]

Both images are simulated on the spot. With a folder, dumbbells_and_rings.png is written there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel import find_bonds, find_dumbbells, find_rings
from atomreel.core.material import load_material
from atomreel.interpret.blobs import find_blobs
from atomreel.interpret.dumbbells import Dumbbells, dumbbell_statistics
from atomreel.interpret.graph import BondGraph, classify_coordination
from atomreel.interpret.refine import refine_columns
from atomreel.interpret.rings import Rings, ring_statistics
from atomreel.simulate.detector import add_counts
from atomreel.simulate.stem import Probe, render_stem, z_contrast
from atomreel.simulate.structures import Kind, crystal, honeycomb_network, ring_centres, spread_apart

PIXEL = 0.1  # Å
SIZE = 320  # px
Image = npt.NDArray[np.float32]


def columns_of(image: Image, radius: float) -> pd.DataFrame:
    """Columns without a network: blobs, then a joint fit. `find_columns` gives the same table from any image."""
    contrast = float(np.ptp(np.quantile(image, [0.02, 0.98])))
    fit = refine_columns(image, find_blobs(image, radius, threshold=0.25 * contrast).position)
    atoms = fit.table[fit.table["kept"] & (fit.table["intensity"] > 0)].reset_index(drop=True)
    return atoms.assign(frame=0, score=1.0)


def gallium_arsenide(rng: np.random.Generator) -> tuple[Image, Dumbbells]:
    pattern = load_material("gaas110").project()
    sheet = crystal(pattern, (-3, -3, 35, 35), angle=20.0)
    weights = np.array([z_contrast(kind.atoms) for kind in sheet.kinds])[sheet.kind]
    clean = render_stem(
        sheet.positions / PIXEL, weights / weights.max(), (SIZE, SIZE), probe=Probe(0.8), pixel=PIXEL
    )
    image = add_counts(200 * (clean + 0.1), rng)
    return image, find_dumbbells(columns_of(image, 3.5), (PIXEL, PIXEL))


def graphene(rng: np.random.Generator) -> tuple[Image, pd.DataFrame, BondGraph, Rings]:
    centres = ring_centres((-6, -6, 38, 38), rng, spacing=2.46, count=2)
    sheet = spread_apart(honeycomb_network(centres, Kind("C", ("C",))), 1.42, steps=30)
    weights = np.ones(len(sheet))
    weights[np.argmin(np.linalg.norm(sheet.positions - 9, axis=1))] = z_contrast(["Si"]) / z_contrast(["C"])
    clean = render_stem(sheet.positions / PIXEL, weights, (SIZE, SIZE), probe=Probe(0.9), pixel=PIXEL)
    image = add_counts(60 * (clean + 0.05), rng)
    atoms = columns_of(image, 4.0)
    atoms["species"] = np.where(atoms["intensity"] > 2.5 * atoms["intensity"].median(), "Si", "C")
    graph = find_bonds(atoms, (PIXEL, PIXEL), shape=image.shape, material=load_material("graphene"))
    return image, atoms, graph, find_rings(atoms, graph, shape=image.shape)


def draw(
    path: Path, dumbbells: tuple[Image, Dumbbells], sheet: tuple[Image, pd.DataFrame, BondGraph, Rings]
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(dumbbells[0], cmap="gray")
    table = dumbbells[1].table
    half = 0.5 * table["separation_px"] * np.exp(1j * np.deg2rad(table["angle_deg"]))
    y, x, across, up = table["y"], table["x"], np.real(half), np.imag(half)
    left.quiver(
        x - across,
        y + up,
        2 * across,
        2 * up,
        color="tab:red",
        angles="uv",
        scale_units="xy",
        scale=1,
        width=0.004,
    )
    left.set_title("GaAs [110]: weaker to stronger end")
    image, atoms, graph, rings = sheet
    right.imshow(image, cmap="gray", vmax=np.quantile(image, 0.995))
    where = atoms[["y", "x"]].to_numpy()
    ends = where[graph.bonds[["first", "second"]].to_numpy()]
    right.plot(ends[:, :, 1].T, ends[:, :, 0].T, color="tab:green", lw=0.8)
    colours = {4: "tab:purple", 5: "tab:orange", 7: "tab:blue", 8: "tab:red"}
    for size, ring in zip(rings.table["size"], rings.members, strict=True):
        if size != 6:
            right.fill(where[ring, 1], where[ring, 0], color=colours.get(size, "tab:gray"), alpha=0.5, lw=0)
    right.set_title("graphene: rings of 5 (orange) and 7 (blue)")
    for axes in (left, right):
        axes.set_axis_off()
        axes.set(xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
    figure.savefig(path, dpi=120)


def main(folder: str | None = None) -> None:
    dumbbells, sheet = gallium_arsenide(np.random.default_rng(4)), graphene(np.random.default_rng(75))
    _, atoms, graph, rings = sheet
    stats = dumbbell_statistics(dumbbells[1].table)
    print("dumbbells of GaAs: a/4 = 1.413 Å apart, along −70° or 110° in the simulation")
    print(stats.round(3).T.to_string(header=False))
    print("rings of the sheet")
    print(ring_statistics(rings).round(3).to_string(index=False))
    print("Si, in the place of one C")
    print(classify_coordination(atoms, graph, species="Si").round(3).to_string(index=False))
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        draw(Path(folder) / "dumbbells_and_rings.png", dumbbells, sheet)


if __name__ == "__main__":
    main(*sys.argv[1:2])
