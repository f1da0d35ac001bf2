"""Curves with error bands, and histograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.drawing import CLASS_COLOURS, COLOURS, Drawing, figure, finish, plain
from atomreel.report.results import Results

MOST_KINDS = 8


def draw_curves(results: Results, folder: Path) -> list[Drawing]:
    """Everything against time that this Run has, in reading order."""
    makers = (draw_counts, draw_lattice, draw_phases, draw_holes, draw_defects, draw_drift)
    return [drawing for make in makers if (drawing := make(results, folder)) is not None]


def draw_histograms(results: Results, folder: Path) -> list[Drawing]:
    """Position errors, intensities, and one figure per table of another analysis."""
    drawings = []
    if (own := draw_atoms(results, folder)) is not None:
        drawings.append(own)
    for name in results.other_tables():
        table = results.table(name)
        if table is not None and (drawing := draw_table(name, table, folder)) is not None:
            drawings.append(drawing)
    return drawings


def axis(results: Results, frames: Any) -> tuple[npt.NDArray[np.float64], str]:
    """Values and label of the horizontal axis of a curve over `frames`: seconds where known."""
    frames = np.asarray(frames, dtype=int)
    if results.times is not None:
        times = results.times.reindex(frames).to_numpy(float)
        if np.isfinite(times).all():
            return times, "time (s)"
    return frames.astype(float), "frame"


def draw_counts(results: Results, folder: Path) -> Drawing | None:
    counts = results.count("atoms", by=["frame", "species"])
    if counts is None or results.n_frames < 2 or counts.empty:
        return None
    made, ((ax,),) = figure()
    wide = spread(counts, "species", results.n_frames)
    x, label = axis(results, wide.index)
    for colour, (species, values) in zip(COLOURS, list(wide.items())[:MOST_KINDS], strict=False):
        ax.plot(x, values, color=colour, label=plain(species))
    ax.set(xlabel=label, ylabel="columns in the frame", ylim=(0, None))
    legend(ax)
    return finish(
        made,
        folder,
        "columns-over-time",
        title="Columns found in each frame",
        caption="A sudden change that the sample cannot have made (drift out of view, focus, a bad frame) shows here first.",
    )


def draw_lattice(results: Results, folder: Path) -> Drawing | None:
    table = results.table("lattice")
    if table is None or table["frame"].nunique() < 2:
        return None
    table = table[table["grain"] == table["grain"].value_counts().idxmax()].sort_values("frame")
    unit = "A" if {"a_A", "b_A"} <= set(table) and table["a_A"].notna().all() else "px"
    shown = "Å" if unit == "A" else "px"
    made, grid = figure(5.4, 3.2, rows=2, columns=1)
    x, label = axis(results, table["frame"])
    for name, colour in ((f"a_{unit}", COLOURS[0]), (f"b_{unit}", COLOURS[1])):
        error = table.get(f"{name}_err")
        band(grid[0, 0], x, table[name], error=error, colour=colour, label=name[0])
    band(grid[1, 0], x, table["gamma_deg"], error=table["gamma_deg_err"], colour=COLOURS[2], label="γ")
    grid[0, 0].set(ylabel=f"vector ({shown})")
    grid[1, 0].set(xlabel=label, ylabel="γ (°)")
    for ax in grid.flat:
        ax.margins(y=0.25)
    legend(grid[0, 0])
    return finish(
        made,
        folder,
        "lattice-over-time",
        title="Lattice vectors of the largest grain",
        caption="Bands are 1σ of the fit in each frame; what is common to all frames (pixel size, scan shear) is not in them.",
    )


def draw_phases(results: Results, folder: Path) -> Drawing | None:
    table = results.table("phases")
    names = [] if table is None else [n for n in CLASS_COLOURS if f"mean_{n}" in table]
    if table is None or not names or len(table) < 2:
        return None
    made, ((ax,),) = figure()
    x, label = axis(results, table["frame"])
    for name in names:
        values = table[f"mean_{name}"]
        if np.nanquantile(values.to_numpy(float), 0.95) < 0.02:
            continue
        error = table.get(f"mean_{name}_err")
        band(ax, x, values, error=error, colour=CLASS_COLOURS[name], label=name)
        if f"hard_{name}" in table:
            ax.plot(x, table[f"hard_{name}"], color=CLASS_COLOURS[name], lw=1.0, ls=(0, (1.5, 1.5)))
    ax.set(xlabel=label, ylabel="fraction of the area", ylim=(-0.02, 1.02))
    legend(ax)
    return finish(
        made,
        folder,
        "phases-over-time",
        title="Symmetry classes over time",
        caption="Lines: mean probability over all windows, with 1σ bands; dotted: fraction of windows whose most probable class it is. Classes that hardly ever reach 2 % are left out.",
    )


def draw_holes(results: Results, folder: Path) -> Drawing | None:
    table = results.table("phases")
    if table is None or "hole_fraction" not in table or len(table) < 2 or table["hole_fraction"].isna().all():
        return None
    made, ((ax,),) = figure()
    x, label = axis(results, table["frame"])
    captions = ["Part of the image in holes, with 1σ bands"]
    for name, words, colour in (
        ("hole_fraction", "missing columns", COLOURS[4]),
        ("hole_fraction_intensity", "brightness", COLOURS[1]),
    ):
        if name in table:
            error = table.get(f"{name}_err")
            error = None if error is None else 100 * error
            band(ax, x, 100 * table[name], error=error, colour=colour, label=words)
    if {"hole_disagreement", "hole_disagreement_err"} <= set(table):
        pulls = (table["hole_disagreement"] / table["hole_disagreement_err"]).to_numpy(float)
        pulls = pulls[np.isfinite(pulls)]
        if len(pulls):
            captions.append(
                f"the two measures differ by {np.median(np.abs(pulls)):.1f} of their common σ in the usual frame"
            )
    if "vacancy_fraction" in table and table["vacancy_fraction"].notna().any():
        values = 100 * table["vacancy_fraction"]
        ax.plot(x, values, color=COLOURS[2], lw=1.0, ls=(0, (1.5, 1.5)), label="vacancies")
        captions.append("dotted: empty sites in groups too small for a hole")
    if "hole_fit" in table:
        ax.plot(x, 100 * table["hole_fit"], color="black", lw=1.0, label="A₀·exp(ρt) + C")
        ax.fill_between(
            x, 100 * table["hole_fit_low"], 100 * table["hole_fit_high"], color="black", alpha=0.12, lw=0
        )
        captions.append(
            "grey: 95 % band of what such holes are expected to do; one course of chance leaves it more often"
        )
    top = float(np.nanmax(table[[c for c in table if c.startswith("hole_fraction") and "err" not in c]]))
    ax.set(xlabel=label, ylabel="area (%)", ylim=(0, 115 * top if top > 0 else 1))
    legend(ax)
    return finish(made, folder, "holes-over-time", title="Holes", caption="; ".join(captions) + ".")


def draw_defects(results: Results, folder: Path) -> Drawing | None:
    counts = results.count("defects", by=["frame", "kind"])
    if counts is None or counts.empty or results.n_frames < 2:
        return None
    made, ((ax,),) = figure()
    wide = spread(counts, "kind", results.n_frames)
    x, label = axis(results, wide.index)
    for colour, (kind, values) in zip(COLOURS, list(wide.items())[:MOST_KINDS], strict=False):
        ax.step(x, values, where="mid", color=colour, label=plain(kind))
        if len(x) <= 500:
            root = np.sqrt(values)
            ax.fill_between(
                x, np.maximum(values - root, 0), values + root, step="mid", color=colour, alpha=0.15, lw=0
            )
    ax.set(xlabel=label, ylabel="defects in the frame", ylim=(0, None))
    legend(ax)
    return finish(
        made,
        folder,
        "defects-over-time",
        title="Defects in each frame",
        caption="Bands are √n, the scatter that counting alone would give if frames were independent.",
    )


def draw_drift(results: Results, folder: Path) -> Drawing | None:
    table = results.table("drift")
    if table is None or len(table) < 2:
        return None
    pixel = results.pixel
    made, ((ax,),) = figure()
    x, label = axis(results, table["frame"])
    for i, (name, words) in enumerate((("dy", "down"), ("dx", "right"))):
        size = 1.0 if pixel is None else pixel[i]
        band(ax, x, table[name] * size, error=table[f"{name}_err"] * size, colour=COLOURS[i], label=words)
    ax.set(xlabel=label, ylabel=f"drift ({'px' if pixel is None else 'Å'})")
    legend(ax)
    return finish(
        made,
        folder,
        "drift",
        title="Drift of the sample",
        caption="Shift of the content since the first frame, 1σ bands.",
    )


def draw_atoms(results: Results, folder: Path) -> Drawing | None:
    """From the previewed frames only, so that a long movie costs no more than a short one."""
    frames = None if results.preview is None else results.preview.index
    table = results.table(
        "atoms", columns=["frame", "y_err", "x_err", "intensity", "species", "score"], frames=frames
    )
    if table is None or table.empty:
        return None
    made, grid = figure(11.2, 2.8, columns=3)
    size, unit = (1.0, "px") if results.pixel is None else (100.0 * results.pixel[0], "pm")
    error = size * np.hypot(table["y_err"], table["x_err"]).to_numpy(float) / np.sqrt(2)
    histogram(grid[0, 0], error[np.isfinite(error)], f"position error, 1σ per axis ({unit})")
    histogram(grid[0, 1], table["score"].to_numpy(float), "score (probability)", span=(0, 1))
    if "intensity" in table:
        groups = table.groupby("species") if "species" in table else [("all", table)]
        values = table["intensity"].to_numpy(float)
        values = values[np.isfinite(values)]
        edges = np.histogram_bin_edges(values if values.size else np.zeros(1), bins=60)
        for colour, (species, part) in zip(COLOURS, groups, strict=False):
            seen = part["intensity"].to_numpy(float)
            heights, _ = np.histogram(seen[np.isfinite(seen)], bins=edges)
            grid[0, 2].stairs(heights, edges, fill=True, color=colour, alpha=0.75, label=plain(species))
        grid[0, 2].set(xlabel="intensity (image units)")
        legend(grid[0, 2])
    else:
        grid[0, 2].set_visible(False)
    return finish(
        made,
        folder,
        "columns-histograms",
        title="How well each column is known",
        caption="Position errors, scores and intensities of the columns in the previewed frames. Species are trusted only where the intensity groups are separate.",
        wide=True,
    )


def draw_table(name: str, table: pd.DataFrame, folder: Path) -> Drawing | None:
    """The default figure of an analysis: a curve if its first column increases, else histograms."""
    numbers = [
        c
        for c in table
        if c != "frame"
        and pd.api.types.is_numeric_dtype(table[c])
        and "_err" not in str(c)
        and not str(c).endswith("_std")
    ]
    numbers = [c for c in numbers if np.isfinite(table[c].to_numpy(float)).any()]
    if not numbers or len(table) < 3:
        return None
    title = name.replace("_", " ").capitalize()
    if str(numbers[0]).startswith("from_") and str(numbers[1:2]).startswith("['to_"):
        return draw_bins(name, table, folder)
    first = table[numbers[0]].to_numpy(float)
    if len(numbers) > 1 and np.all(np.diff(first) > 0):
        made, ((ax,),) = figure()
        for colour, column in zip(COLOURS, numbers[1:], strict=False):
            band(
                ax, first, table[column], error=table.get(f"{column}_err"), colour=colour, label=plain(column)
            )
        ax.set(xlabel=quantity(numbers[0]), ylabel=quantity(numbers[1]) if len(numbers) == 2 else "")
        legend(ax)
    else:
        places = ("y", "x", "track", "grain", "atom", "site", "i", "j")
        values_of = [c for c in numbers if c not in places][-3:]  # what was derived stands last
        if not values_of:
            return None
        made, grid = figure(5.4 if len(values_of) == 1 else 11.2, 2.7, columns=len(values_of))
        for ax, column in zip(grid.flat, values_of, strict=True):
            histogram(ax, table[column].to_numpy(float), quantity(column))
    caption = f"From {name}.parquet, {len(table):,} rows."
    wide = made.get_figwidth() > 6
    return finish(made, folder, file_name(name), title=title, caption=caption, wide=wide)


def draw_bins(name: str, table: pd.DataFrame, folder: Path) -> Drawing:
    """A table of bins: from_UNIT, to_UNIT, count, and perhaps a density (the last column without _err)."""
    start, end = table.columns[:2]
    shown = [c for c in table.columns[2:] if not str(c).endswith("_err")][-1]
    edges = np.append(table[start].to_numpy(float), table[end].to_numpy(float)[-1])
    values = table[shown].to_numpy(float)
    made, ((ax,),) = figure()
    ax.stairs(values, edges, fill=f"{shown}_err" not in table, color=COLOURS[0], alpha=0.85)
    if f"{shown}_err" in table:
        error = table[f"{shown}_err"].to_numpy(float)
        ax.stairs(
            values + error, edges, baseline=values - error, fill=True, color=COLOURS[0], alpha=0.22, lw=0
        )
    what = name.replace("_", " ")
    label = quantity(f"{what.removesuffix('s')}_{str(start).removeprefix('from_')}")
    ax.set(xlabel=label, ylabel=quantity(shown), ylim=(0, None))
    count = f"{int(table['count'].sum()):,} in all. " if "count" in table else ""
    caption = f"{count}From {name}.parquet, the columns of the previewed frames."
    return finish(made, folder, file_name(name), title=what.capitalize(), caption=caption)


def histogram(ax: Any, values: Any, label: str, *, span: tuple[float, float] | None = None) -> None:
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if span is None and values.size:
        low, high = np.quantile(values, (0.001, 0.999))
        span = (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
    bins = int(np.clip(np.sqrt(max(values.size, 1)), 10, 80))
    ax.stairs(*np.histogram(values, bins=bins, range=span), fill=True, color=COLOURS[0], alpha=0.85)
    ax.set(xlabel=label, ylabel="count")


def band(ax: Any, x: Any, y: Any, *, error: Any, colour: str, label: str) -> None:
    """A line with its 1σ band. The band is drawn even where it is thinner than the line."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    ax.plot(x, y, color=colour, label=label, lw=1.4 if len(x) < 1000 else 0.8)
    if error is not None:
        error = np.asarray(error, dtype=float)
        ax.fill_between(x, y - error, y + error, color=colour, alpha=0.22, lw=0)


def spread(counts: pd.DataFrame, key: str, n_frames: int) -> pd.DataFrame:
    """One column per value of `key`, most frequent first, one row per frame; nothing found is zero."""
    if key not in counts:
        counts = counts.assign(**{key: "columns"})
    wide = counts.pivot_table(index="frame", columns=key, values="count", aggfunc="sum", fill_value=0)
    frames = range(max(n_frames, int(wide.index.max()) + 1))
    wide = wide.reindex(frames, fill_value=0)
    return wide[wide.sum().sort_values(ascending=False, kind="stable").index]


def legend(ax: Any) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        widest = max(map(len, labels)) + 5
        ax.legend(
            handles,
            labels,
            ncols=max(1, min(len(labels), 48 // widest)),
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            handlelength=1.4,
            columnspacing=1.4,
            borderpad=0.1,
        )


def quantity(column: object) -> str:
    """'length_A' → 'length (Å)'."""
    name, _, unit = str(column).rpartition("_")
    shown = {"A": "Å", "px": "px", "deg": "°", "s": "s", "pm": "pm", "A2": "Å²", "nm": "nm"}.get(unit)
    return (
        plain(f"{name.replace('_', ' ')} ({shown})")
        if name and shown
        else plain(str(column).replace("_", " "))
    )


def file_name(name: str) -> str:
    """Of the figure of table `name`."""
    return "table-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
