"""Surface sites of finished Runs: how much of the time each is filled, how often that changes, and two Runs compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.core.errors import InputError, RunError
from atomreel.core.files import read_table, write_table
from atomreel.core.run import RunFolder
from atomreel.kinetics.blinking import Blinking, fit_blinking
from atomreel.kinetics.conditions import compare_conditions
from atomreel.track.sites import Sites, find_sites

FEWEST = 3  # sites of a kind below which nothing is fitted to them
LEAST_FRAMES = 10


def surface_of_runs(runs: Sequence[Path], *, out: Path) -> pd.DataFrame | None:
    """Write OUT/sites.parquet, one row per site of every Run, and of two Runs OUT/comparison.csv, which is returned.

    sites.parquet: run, the columns of `track.sites.Sites.table` and those of `kinetics.blinking.fit_blinking`, with
    detected: the probability that a filled site is found, for surface and inner sites apart.
    Raises RunError for a folder that is no Run, InputError for too few frames or more than two Runs.
    """
    if not 1 <= len(runs) <= 2:
        raise InputError(f"one Run, or two to compare, got {len(runs)}")
    if out.suffix or (out.exists() and not out.is_dir()):
        raise InputError(f"-o {out}: the name of a folder is needed")
    tables, fits = [], []
    for run in runs:
        sites, times = sites_of_run(run)
        table, fit = _table(sites, times)
        tables.append(table.assign(run=run.name))
        fits.append(fit)
    out.mkdir(parents=True, exist_ok=True)
    joined = pd.concat(tables, ignore_index=True)
    write_table(out / "sites.parquet", joined[["run", *(c for c in joined if c != "run")]], kind="sites")
    if len(runs) < 2:
        return None
    first, second = fits
    if first is None or second is None:
        raise InputError(f"a comparison needs {FEWEST} surface sites in each Run; see {out}/sites.parquet")
    comparison = compare_conditions(first, second)
    write_table(out / "comparison.csv", comparison, kind="comparison")
    return comparison


def describe_comparison(row: pd.Series) -> str:
    """One row of a comparison in words."""
    what = "mean occupancy" if row["what"] == "occupancy" else f"events per site [{row['unit']}]"
    return (
        f"{what}: {row['first']:.3g} → {row['second']:.3g}, difference {row['difference']:+.3g} "
        f"({row['low']:+.3g} … {row['high']:+.3g}), p = {row['p']:.2g}"
    )


def sites_of_run(run: Path) -> tuple[Sites, np.ndarray | None]:
    """Persistent sites of a Run and the times of its frames [s], if known. Raises RunError, InputError."""
    folder = RunFolder(run)
    about = folder.about()["input"]
    frames, drift = int(about["frames"]), folder.path / "drift.parquet"
    if frames < LEAST_FRAMES:
        raise InputError(f"{run}: {frames} frames; occupancy needs {LEAST_FRAMES} at least")
    try:
        atoms, phases = (read_table(folder.path / f"{name}.parquet") for name in ("atoms", "phases"))
        moves = read_table(drift) if drift.is_file() else None
    except OSError as error:
        raise RunError(f"{run}: {error}") from error
    height, width = about["shape"]
    sites = find_sites(atoms, shape=(height, width), frames=frames, drift=moves)
    return sites, phases["t_s"].to_numpy(float) if "t_s" in phases else None


def _table(sites: Sites, times: np.ndarray | None) -> tuple[pd.DataFrame, Blinking | None]:
    """All sites with their occupancy, and the fit of those at the surface."""
    kinds = sites.table["surface"].to_numpy(bool)
    parts: list[pd.DataFrame] = []
    surface: Blinking | None = None
    for at_surface in (True, False):
        rows = np.flatnonzero(kinds == at_surface)
        if len(rows) < FEWEST:
            parts.append(sites.table.iloc[rows])
            continue
        fit = fit_blinking(sites.found[rows], times=times)
        fit = replace(fit, table=fit.table.assign(site=rows))
        surface = fit if at_surface else surface
        more = fit.table.drop(columns=["frames", "present"]).assign(detected=fit.detected[0])
        parts.append(sites.table.merge(more, on="site"))
    return pd.concat(parts, ignore_index=True).sort_values("site", ignore_index=True), surface
