"""Figures of docs/neighbours.md on simulated structures: python benchmarks/bench_neighbours.py [PART…]

Parts: pairs, twins, overlap, coordination, rings (all by default). Each measures anew with fixed seeds and rewrites its
own part of measured/neighbours.json. Truth is drawn here as sums of Gaussians or as positions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import Voronoi

from atomreel.core.material import load_material
from atomreel.interpret.blobs import find_blobs
from atomreel.interpret.dumbbells import find_dumbbells
from atomreel.interpret.graph import classify_coordination, find_bonds
from atomreel.interpret.refine import refine_columns
from atomreel.interpret.rings import find_rings
from atomreel.interpret.twins import fit_twins
from atomreel.simulate.structures import ring_centres

MEASURED = Path(__file__).parent / "measured" / "neighbours.json"
Array = npt.NDArray[np.float64]
BOND = 14.2  # px: graphene at 0.1 Å per pixel
SIZE = 200  # px
COUNTS = (0.4, 1.5, 3.0, 10.0, 30.0)  # per pixel on a carbon atom


def unit_vector(angle: float) -> Array:
    """(y, x) with y down, counter-clockwise as seen on screen."""
    return np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])


def silicon(angle: float, size: float, *, scale: float = 10.0, margin: float = 15.0) -> Array:
    """(M, 2, 2) ends of the dumbbells of Si [110], `scale` px per Å, dumbbells along `angle`, a quarter cell long."""
    long, short = 5.431 * scale * unit_vector(angle), 3.840 * scale * unit_vector(angle - 90)
    n = np.arange(-25, 26)
    corner = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ np.stack([long, short])
    centre = np.concatenate([corner, corner + 0.5 * (long + short)]) + size / 2
    centre = centre[((centre > margin) & (centre < size - margin)).all(1)]
    return np.stack([centre - long / 8, centre + long / 8], axis=1)


def drawn(points: Array, heights: Array, sigma: float, *, size: int) -> Array:
    """Sum of Gaussians on (size, size) px."""
    pixel = np.arange(size)
    rows = heights[:, None] * np.exp(-((pixel - points[:, :1]) ** 2) / (2 * sigma**2))
    return rows.T @ np.exp(-((pixel - points[:, 1:]) ** 2) / (2 * sigma**2))


def covered(z: list[float]) -> dict[str, float]:
    size = np.abs(z)
    return {
        "within_1_sigma": float(np.mean(size < 1)),
        "within_2_sigma": float(np.mean(size < 2)),
        "n": len(z),
    }


def axis_off(angle: pd.Series, truth: float) -> pd.Series:
    return (angle - truth + 90) % 180 - 90


def pairs() -> dict[str, Any]:
    """Dumbbells of positions that are off by 0.5 to 2 px, and claim so."""
    rng = np.random.default_rng(41)
    ends, length, angle = silicon(25.0, 300.0), [], []
    for _ in range(12):
        sigma = rng.uniform(0.5, 2.0, (2 * len(ends), 2))
        atoms = pd.DataFrame(ends.reshape(-1, 2) + rng.normal(0, 1, sigma.shape) * sigma, columns=["y", "x"])
        got = find_dumbbells(atoms.assign(frame=0, y_err=sigma[:, 0], x_err=sigma[:, 1])).table
        length += ((got["separation_px"] - 13.5775) / got["separation_px_err"]).tolist()
        angle += (axis_off(got["angle_deg"], 25) / got["angle_deg_err"]).tolist()
    return {"separation": covered(length), "angle": covered(angle)}


def twins() -> dict[str, Any]:
    """Elongated blobs 22 px apart, each of two peaks of σ = 4 px, 150 counts at the height of both together."""
    out: dict[str, Any] = {}
    for ratio in (1.0, 1.5, 2.0):
        length, angle = [], []
        for seed in range(6):
            rng = np.random.default_rng([42, seed])
            grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(-1, 2)
            centres = 20 + 22.0 * grid + rng.uniform(-0.5, 0.5, grid.shape)
            half = 2 * ratio * unit_vector(30)
            image = drawn(np.concatenate([centres - half, centres + half]), np.full(72, 75.0), 4.0, size=150)
            got = fit_twins(rng.poisson(image + 45.0), centres + rng.uniform(-1, 1, centres.shape))
            length += ((got["separation_px"] - 4 * ratio) / got["separation_px_err"]).tolist()
            angle += (axis_off(got["angle_deg"], 30) / got["angle_deg_err"]).tolist()
        out[f"{ratio:g}"] = {"separation": covered(length), "angle": covered(angle)}
    return out


def overlap() -> dict[str, Any]:
    """Relative bias of the joint fit's separation, where peaks overlap and are no Gaussians or the file's values bent.

    Si [110], 11.25 px per Å as in the real image; d/σ before the core of a peak with tails is made narrower.
    """
    looks = {  # share and relative width of the tail, width of the core, power of the values
        "Gaussian": (0.0, 1.0, 1.0, 1.0),
        "tail 0.2 of twice the width": (0.2, 2.0, 0.9, 1.0),
        "tail 0.3 of three times the width": (0.3, 3.0, 0.9, 1.0),
        "tail 0.5 of twice the width": (0.5, 2.0, 0.8, 1.0),
        "values to the power 0.7": (0.0, 1.0, 1.0, 0.7),
        "values to the power 1.4": (0.0, 1.0, 1.0, 1.4),
    }
    size, truth = 260, 5.431 / 4 * 11.25
    ends, out = silicon(15.0, size, scale=11.25, margin=-60), {}
    seen = ((ends > 12) & (ends < size - 12)).all((1, 2))
    deep = ((ends > 45) & (ends < size - 45)).all((1, 2))[seen]
    for name, (share, wide, core, power) in looks.items():
        for ratio in (2.5, 3.2, 4.0):
            sigma, rng = core * truth / ratio, np.random.default_rng(43)
            points, ones = ends.reshape(-1, 2), np.ones(2 * len(ends))
            clean = (1 - share) * drawn(points, ones, sigma, size=size)
            clean += share / wide**2 * drawn(points, ones, sigma * wide, size=size)
            image = rng.poisson(500 * (clean + 0.2) ** power).astype(float)
            fit = refine_columns(
                image, ends[seen].reshape(-1, 2) + rng.normal(0, 1, (2 * int(seen.sum()), 2))
            )
            place = fit.table[["y", "x"]].to_numpy().reshape(-1, 2, 2)[deep]
            length = np.hypot(*(place[:, 1] - place[:, 0]).T) / truth - 1
            error = float(length.std(ddof=1) / np.sqrt(len(length)))
            out.setdefault(name, {})[f"{ratio:g}"] = {"bias": float(length.mean()), "err": error}
            print(name, ratio, round(float(length.mean()), 4), round(error, 4), flush=True)
    return out


def graphene(kind: str, rng: np.random.Generator) -> tuple[Array, npt.NDArray[np.str_]]:
    """Positions [px] and species: one Si in place of one C (three bonds, longer ones) or of two (four bonds)."""
    n = np.arange(-30, 31)
    rows = np.array([[0.0, np.sqrt(3)], [-1.5, np.sqrt(3) / 2]])
    corner = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ rows
    turn = np.deg2rad(rng.uniform(0, 60))
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    where = (
        BOND * np.concatenate([corner, corner - [1.0, 0.0]]) @ turned + SIZE / 2 + rng.uniform(-0.5, 0.5, 2)
    )
    where = where[((where > -3 * BOND) & (where < SIZE + 3 * BOND)).all(1)]
    first = int(np.argmin(np.linalg.norm(where - SIZE / 2, axis=1)))
    near = np.argsort(np.linalg.norm(where - where[first], axis=1))[1:4]
    if kind == "three-fold":
        gone, place = [first], where[first]
        where[near] += 0.18 * (where[near] - place)
    else:
        gone, place = [first, int(near[0])], where[[first, near[0]]].mean(0)
    where = np.concatenate([np.delete(where, gone, axis=0), place[None]])
    return where, np.array(["C"] * (len(where) - 1) + ["Si"])


def coordination() -> dict[str, Any]:
    """Si atoms of both kinds told apart: from positions off by 0.1 Å, and from images by blobs and the joint fit."""
    out: dict[str, Any] = {"positions": {"right": 0, "n": 0, "claimed": 0.0}}
    out["images"] = {f"{c:g}": {"right": 0, "n": 0, "claimed": 0.0} for c in COUNTS}

    def judge(score: dict[str, Any], atoms: pd.DataFrame, kind: str, draws: int) -> None:
        graph = find_bonds(
            atoms, (0.1, 0.1), shape=(SIZE, SIZE), material=load_material("graphene"), draws=draws
        )
        answers = classify_coordination(atoms, graph)
        near = np.hypot(atoms["y"] - SIZE / 2, atoms["x"] - SIZE / 2).to_numpy()[answers["atom"]]
        score["n"] += 1
        if len(answers):
            answer = answers.iloc[int(np.argmin(near))]
            score["right"] += bool(answer["coordination"] == kind)
            score["claimed"] += float(answer["p_three" if kind == "three-fold" else "p_four"])

    for k, kind in enumerate(("three-fold", "four-fold")):
        for seed in range(60):
            rng = np.random.default_rng([44, k, seed])
            where, species = graphene(kind, rng)
            inside = ((where > 0) & (where < SIZE - 1)).all(1)
            atoms = pd.DataFrame(where[inside] + rng.normal(0, 1, where[inside].shape), columns=["y", "x"])
            atoms = atoms.assign(frame=0, y_err=1.0, x_err=1.0, species=species[inside])
            judge(out["positions"], atoms, kind, 60)
        for counts in COUNTS:
            for seed in range(10):
                atoms = from_image(kind, counts, np.random.default_rng([45, k, seed]))
                judge(out["images"][f"{counts:g}"], atoms, kind, 60)
    for score in (out["positions"], *out["images"].values()):
        score["claimed"] /= score["n"]
    return out


def from_image(kind: str, counts: float, rng: np.random.Generator) -> pd.DataFrame:
    where, species = graphene(kind, rng)
    heights = np.where(species == "Si", (14 / 6) ** 1.7, 1.0)
    image = rng.poisson(counts * (drawn(where, heights, 3.8, size=SIZE) + 0.05)).astype(float)
    start = find_blobs(image, 4.0, threshold=0.25 * counts).position
    table = refine_columns(image, start).table
    table = table[table["kept"] & (table["intensity"] > 0)].reset_index(drop=True)
    bright = table["intensity"] > 2.5 * table["intensity"].median()
    return table.assign(frame=0, species=np.where(bright, "Si", "C"))


def rings() -> dict[str, Any]:
    """Boundaries made of Voronoi cells: are the faces found the cells, ring by ring?"""
    right = cells_all = found_all = odd = 0
    for seed in range(6):
        rng = np.random.default_rng([46, seed])
        cells = Voronoi(ring_centres((0.0, 0.0, 44.0, 44.0), rng, spacing=np.sqrt(3), count=2))
        inside = ((cells.vertices > 3) & (cells.vertices < 41)).all(1)
        number = np.cumsum(inside) - 1
        where = relaxed(cells, inside, number)
        deep = ((where > 6) & (where < 38)).all(1)
        truth = {
            frozenset(number[r].tolist()) for r in cells.regions if r and min(r) >= 0 and inside[r].all()
        }
        truth = {ring for ring in truth if deep[list(ring)].all()}
        atoms = pd.DataFrame(BOND * where, columns=["y", "x"]).assign(frame=0, y_err=0.2, x_err=0.2)
        members = find_rings(atoms, find_bonds(atoms, draws=5)).members
        found = {frozenset(ring.tolist()) for ring in members if deep[ring].all()}
        right, cells_all, found_all = (
            right + len(found & truth),
            cells_all + len(truth),
            found_all + len(found),
        )
        odd += sum(len(ring) != 6 for ring in truth)
    return {"boundaries": 6, "cells": cells_all, "not_hexagons": odd, "found": found_all, "right": right}


def relaxed(cells: Voronoi, inside: npt.NDArray[np.bool_], number: npt.NDArray[np.int64]) -> Array:
    """Vertices (N, 2) pulled by springs until all edges are about one long."""
    where = cells.vertices[inside].copy()
    edges = np.array([number[r] for r in cells.ridge_vertices if min(r) >= 0 and inside[r].all()])
    for _ in range(600):
        step = where[edges[:, 1]] - where[edges[:, 0]]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        pull = 0.12 * (length - 1) * step / np.maximum(length, 1e-9)
        np.add.at(where, edges[:, 0], pull)
        np.add.at(where, edges[:, 1], -pull)
    return where


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "pairs": pairs,
    "twins": twins,
    "overlap": overlap,
    "coordination": coordination,
    "rings": rings,
}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        measured[name] = PARTS[name]()
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(measured[name]), flush=True)


if __name__ == "__main__":
    main()
