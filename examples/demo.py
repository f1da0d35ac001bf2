"""`make demo`: a simulated movie of WS2 under the beam, analysed by `atomreel run`, compared with its truth.

The movie has Mo dopants that hop and catch sulphur vacancies, vacancies that hop, a growing hole, drift
and scan noise. What is printed at the end is the truth beside what was found, with its error.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from atomreel.simulate.movie import SimulatedMovie, simulate_ws2_movie

SEED = 20261120
HOME = Path("demo")
NEAR = 0.7  # Å: a position this close to the truth is the same thing
BOND = 2.2  # Å: a sulphur column this close to a Mo is its neighbour
MO = ("Mo_W", "Mo_W+V_S")
RATES = {
    "catch": ("catch of Mo_W", 3),
    "release": ("release of Mo_W", 1),
}  # name in the truth → in rates.json, neighbours


def write_movie(truth: SimulatedMovie) -> Path:
    """A calibrated TIFF and the times of its frames, as an instrument would leave them."""
    HOME.mkdir(exist_ok=True)
    movie = HOME / "ws2_movie.tif"
    resolution = (10 / truth.pixel, 10 / truth.pixel)  # pixels per nm
    tifffile.imwrite(
        movie, truth.frames, imagej=True, resolution=resolution, metadata={"unit": "nm", "axes": "TYX"}
    )
    times = pd.DataFrame({"frame": range(len(truth.times)), "time_s": truth.times})
    times.to_csv(HOME / "times.csv", index=False)
    return movie


def analyse(movie: Path) -> Path:
    run = HOME / "ws2.atomreel"
    shutil.rmtree(run, ignore_errors=True)
    settings = ("defects.material=ws2", f"input.times_csv={HOME / 'times.csv'}")
    command = [sys.executable, "-m", "atomreel", "run", movie, "-o", run]
    subprocess.run([*map(str, command), *(a for s in settings for a in ("--set", s))], check=True)
    return run


def match(
    truth: pd.DataFrame, found: pd.DataFrame, *, pixel: float, size: int
) -> tuple[pd.DataFrame, int, int]:
    """One-to-one pairs per frame within NEAR: their differences [px] and claimed errors; missed; false. A rim is left out."""
    rim = 2.0 / pixel
    pairs, missed, false = [], 0, 0
    for frame in range(int(truth.frame.max()) + 1):
        t, f = truth[truth.frame == frame], found[found.frame == frame]
        distance = cdist(t[["y", "x"]], f[["y", "x"]]) * pixel
        rows, cols = linear_sum_assignment(np.minimum(distance, NEAR)) if distance.size else ([], [])
        near = [(r, c) for r, c in zip(rows, cols, strict=True) if distance[r, c] < NEAR]
        inside_t, inside_f = (
            ((p[["y", "x"]] > rim) & (p[["y", "x"]] < size - 1 - rim)).all(axis=1).to_numpy() for p in (t, f)
        )
        hit_t, hit_f = {r for r, _ in near}, {c for _, c in near}
        missed += sum(inside_t[r] and r not in hit_t for r in range(len(t)))
        false += sum(inside_f[c] and c not in hit_f for c in range(len(f)))
        pairs += [
            {
                "dy": f.y.iloc[c] - t.y.iloc[r],
                "dx": f.x.iloc[c] - t.x.iloc[r],
                "y_err": f.y_err.iloc[c],
                "x_err": f.x_err.iloc[c],
            }
            for r, c in near
            if inside_t[r]
        ]
    return pd.DataFrame(pairs, columns=["dy", "dx", "y_err", "x_err"]), missed, false


def beyond_mo(found: pd.DataFrame, truth: SimulatedMovie, reach: float) -> pd.DataFrame:
    """Vacancies that are not half of a Mo_W+V_S complex, which the truth lists at its Mo."""
    complexes = truth.defects[truth.defects.kind == "Mo_W+V_S"]
    alone = [
        np.hypot(here.y - row.y, here.x - row.x).min() > reach if len(here) else True
        for row in found.itertuples()
        for here in [complexes[complexes.frame == row.frame]]
    ]
    return found[alone]


def share(part: int, whole: int) -> str:
    """A proportion with its 1σ error (Wilson)."""
    p, z = part / max(whole, 1), 1.0
    middle = (p + z**2 / (2 * whole)) / (1 + z**2 / whole)
    return (
        f"{p:.3f} ± {z * np.sqrt(p * (1 - p) / whole + z**2 / (4 * whole**2)) / (1 + z**2 / whole):.3f}"
        if middle
        else "–"
    )


def compare(truth: SimulatedMovie, run: Path) -> list[tuple[str, str, str]]:
    """(what, truth, found ± its error)."""
    size, pixel = truth.frames.shape[1], truth.pixel
    tables = {
        name: pd.read_parquet(run / f"{name}.parquet")
        for name in ("atoms", "defects", "lattice", "phases", "drift")
    }
    rows = []
    pairs, missed, false = match(truth.atoms, tables["atoms"], pixel=pixel, size=size)
    rows.append(("columns found (recall)", "1", share(len(pairs), len(pairs) + missed)))
    rows.append(("columns that are real (precision)", "1", share(len(pairs), len(pairs) + false)))
    error = np.concatenate([pairs.dy, pairs.dx]) * pixel * 100
    claimed = np.concatenate([pairs.y_err, pairs.x_err]) * pixel * 100
    rows.append(
        (
            "position error, median [pm]",
            "0",
            f"{np.median(abs(error)):.1f} (claimed 1σ, median: {np.median(claimed):.1f})",
        )
    )
    rows.append(("errors within the claimed 1σ", "0.683", f"{np.mean(abs(error) <= claimed):.3f}"))
    lattice = tables["lattice"][tables["lattice"].grain == 0]
    rows.append(
        ("lattice a [Å]", "3.153", f"{lattice.a_A.mean():.4f} ± {lattice.a_A_err.median():.4f} per frame")
    )
    found = tables["defects"]
    lone = beyond_mo(found[found.kind == "V_S"], truth, BOND / pixel)
    for kinds, f, name in (
        (MO, found[found.kind.isin(MO)], "Mo dopants"),
        (("V_S",), lone, "lone S vacancies"),
    ):
        t = truth.defects[truth.defects.kind.isin(kinds)]
        pairs, missed, false = match(t, f, pixel=pixel, size=size)
        rows.append((f"{name} found (recall)", "1", share(len(pairs), len(pairs) + missed)))
        rows.append((f"{name} that are real (precision)", "1", share(len(pairs), len(pairs) + false)))
    drift, end = tables["drift"].iloc[-1], truth.table.iloc[-1]
    start = truth.table.iloc[0]
    for axis in "yx":
        rows.append(
            (
                f"drift at the end, {axis} [px]",
                f"{end[f'd{axis}'] - start[f'd{axis}']:.2f}",
                f"{drift[f'd{axis}']:.2f} ± {drift[f'd{axis}_err']:.2f}",
            )
        )
    rows += over_movie(truth, run)
    hole = tables["phases"].hole_fraction
    rows.append(("hole, share of the last frame", f"{end.hole_fraction:.4f}", f"{hole.iloc[-1]:.4f}"))
    return rows


def over_movie(truth: SimulatedMovie, run: Path) -> list[tuple[str, str, str]]:
    """The same defects judged over all frames, and their rates with 95 % intervals."""
    found = pd.read_parquet(run / "reactions" / "defects.parquet")
    pairs, missed, false = match(truth.defects, found, pixel=truth.pixel, size=truth.frames.shape[1])
    rows = [
        ("all defects, over the whole movie (recall)", "1", share(len(pairs), len(pairs) + missed)),
        ("all defects, over the whole movie (precision)", "1", share(len(pairs), len(pairs) + false)),
    ]
    rates = json.loads((run / "rates.json").read_text(encoding="utf-8"))
    for name, (own, neighbours) in RATES.items():
        if own in rates:
            value, low, high = (rates[own][end] for end in ("value", "low", "high"))
            true = float(truth.rates[name]["value"]) / neighbours
            rows.append((f"{own} [1/s]", f"{true:.3g}", f"{value:.3g} (95 %: {low:.3g} … {high:.3g})"))
    return rows


def main() -> None:
    screen = Console()
    screen.print("Simulating 60 frames of WS2 under the beam …")
    truth = simulate_ws2_movie(SEED)
    run = analyse(write_movie(truth))
    table = Table(title="Truth against found", title_justify="left")
    for heading in ("", "truth", "found ± 1σ"):
        table.add_column(heading)
    for row in compare(truth, run):
        table.add_row(*map(escape, row))
    screen.print(table)
    print(f"The report: {(run / 'report.html').resolve()}")


if __name__ == "__main__":
    main()
