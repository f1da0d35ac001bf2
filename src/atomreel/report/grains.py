"""Grains in the report: where they are, how they lie, how large they are, and where the symmetry map is in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.report.curves import axis, band
from atomreel.report.drawing import (
    BRIGHT,
    CLASS_COLOURS,
    COLOURS,
    Drawing,
    draw_scale,
    figure,
    finish,
    outline,
    picture_axes,
)
from atomreel.report.pictures import unit_of
from atomreel.report.results import Results
from atomreel.report.tables import MOST_ROWS, PageTable
from atomreel.report.words import plus_minus

LABELLED = 30  # grains that are numbered in the picture, the largest


def draw_grains(results: Results, folder: Path) -> Drawing | None:
    """The first previewed frame with its grains in colours, each with its number and the direction of a."""
    field, preview, table = results.field("grains"), results.preview, results.table("grains")
    if field is None or preview is None or table is None or table.empty:
        return None
    number = preview.index[0]
    owner = np.asarray(field.maps["grain"][field.frames.index(number)]).astype(int)
    rows = table[table["frame"] == number]
    height, width = preview.frames.shape[1:]
    made, ((ax,),) = figure(5.6, min(5.6 * height / width, 9.0) + 0.1)
    ax.imshow(preview.frames[0], cmap="gray")
    y, x = (step * count / preview.scale - 0.5 for step, count in zip(field.step, owner.shape, strict=True))
    where = {"extent": (-0.5, x, y, -0.5), "zorder": 1}
    ax.imshow(_coloured(owner), interpolation="nearest", **where)
    for value in rows["grain"]:
        ax.contour(
            owner == value,
            levels=[0.5],
            colors="white",
            linewidths=0.9,
            origin="upper",
            extent=where["extent"],
        )
    for row in rows.head(LABELLED).itertuples():
        _mark(ax, row, preview.place([row.y, row.x]), 0.05 * min(height, width))
    picture_axes(ax)
    draw_scale(ax, (height, width), unit_of(results, preview.scale), calibrated=results.pixel is not None)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    count = f"{len(rows)} grain" + "s" * (len(rows) != 1)
    caption = (
        f"Frame {number}: {count}. Lines and numbers tell the direction of the lattice vector a, of equally short ones "
        "that nearest to the horizontal. Without colour: no lattice."
    )
    return finish(made, folder, "grains", title="Grains", caption=caption)


def draw_doubt(results: Results, folder: Path) -> Drawing | None:
    """Entropy, mutual information and change of the lattice, and the class within the bound on shear."""
    field = results.field("symmetry")
    known = {
        "entropy": ("entropy (nats)", 1.0),
        "mutual_information": ("mutual information (nats)", 0.02),
        "lattice_change_deg": ("change of the lattice (°)", 3.0),
    }
    names = [] if field is None else [name for name in known if name in field.maps]
    if field is None or not names:
        return None
    classes = "within_shear" in field.maps
    made, grid = figure(11.2, 3.0, columns=len(names) + classes)
    for ax, name in zip(grid.flat, names, strict=False):
        values = np.asarray(field.maps[name][0], dtype=float)
        title, least = known[name]
        high = max(least, float(np.nanmax(values)) if np.isfinite(values).any() else 0.0)
        shown = ax.imshow(values, cmap="magma", vmin=0, vmax=high)
        ax.set_title(title)
        _map_axes(ax, values.shape, field.step, results)
        made.colorbar(shown, ax=ax, shrink=0.75, location="bottom")
    if classes:
        _class_axes(grid.flat[len(names)], np.asarray(field.maps["within_shear"][0]), results)
        _map_axes(grid.flat[len(names)], field.maps["within_shear"].shape[1:], field.step, results)
    caption = (
        f"Frame {field.frames[0]}. Entropy: how open the class is; mutual information: the part of it on which dropout passes "
        "contradict each other; change: how far the lattice turns or stretches across a window, blank where there is none "
        "that its neighbours share. All three stand out at boundaries of grains."
        + (
            " Right: the most symmetric class that imaging may have sheared into what is seen"
            f"{_shared(results, int(field.frames[0]))}."
            if classes
            else ""
        )
    )
    return finish(
        made, folder, "symmetry-doubt", title="Where the symmetry is in doubt", caption=caption, wide=True
    )


def _shared(results: Results, frame: int) -> str:
    """In words, the distortion that was undone first, as all grains have it."""
    table = results.table("grains")
    if table is None or "image_s" not in table:
        return ""
    rows = table[(table["frame"] == frame) & table["image_s"].notna()]
    if rows.empty:
        return ""
    s, e = (100 * float(rows.iloc[0][f"image_{key}"]) for key in "se")
    return f", beyond the distortion that all grains share (s = {s:.2g} %, e = {e:.2g} %)"


def draw_sizes(results: Results, folder: Path) -> Drawing | None:
    """Number and mean area of the grains in each frame."""
    table = results.table("phases")
    if table is None or "grains" not in table or len(table) < 2 or not table["grains"].any():
        return None
    metric = "grain_area_nm2" in table
    unit = "nm2" if metric else "px2"
    made, grid = figure(5.4, 3.2, rows=2, columns=1)
    x, label = axis(results, table["frame"])
    grid[0, 0].step(x, table["grains"], where="mid", color=COLOURS[0])
    grid[0, 0].set(ylabel="grains", ylim=(0, None))
    error = table.get(f"grain_area_{unit}_err")
    band(grid[1, 0], x, table[f"grain_area_{unit}"], error=error, colour=COLOURS[2], label="mean area")
    grid[1, 0].set(xlabel=label, ylabel=f"mean area ({'nm²' if metric else 'px²'})")
    grid[1, 0].margins(y=0.25)
    caption = "Grains that the border cuts count with the part that is seen. Bands are 1σ of where boundaries stand."
    return finish(made, folder, "grains-over-time", title="Grains over time", caption=caption)


def grains_table(results: Results) -> PageTable | None:
    table = results.table("grains")
    if table is None or table.empty:
        return None
    metric = "area_nm2" in table and table["area_nm2"].notna().all()
    columns = [("a_A", "a (Å)"), ("b_A", "b (Å)")] if metric else [("a_px", "a (px)"), ("b_px", "b (px)")]
    columns += [("gamma_deg", "γ (°)"), ("angle_deg", "direction (°)")]
    columns += [("area_nm2", "area (nm²)") if metric else ("area_px2", "area (px²)")]
    rows = []
    for item in table.head(MOST_ROWS).to_dict("records"):
        row = [str(int(item["frame"])), str(int(item["grain"])), str(item["symmetry"]), f"{item['p']:.2f}"]
        row += [plus_minus(item[c], item[f"{c}_err"]) for c, _ in columns]
        rows.append((*row, "yes" if item["cut"] else ""))
    head = ("frame", "grain", "symmetry", "p", *(label for _, label in columns), "cut off")
    return PageTable("Grains", head, tuple(rows), _more(len(table), "grains"))


def boundaries_table(results: Results) -> PageTable | None:
    table = results.table("boundaries")
    if table is None or table.empty:
        return None
    metric = "length_nm" in table and table["length_nm"].notna().all()
    rows = []
    for item in table.head(MOST_ROWS).to_dict("records"):
        length = f"{item['length_nm']:.3g}" if metric else f"{item['length_px']:.4g}"
        turn = plus_minus(item["turn_deg"], item["turn_deg_err"])
        between = f"{int(item['first'])} and {int(item['second'])}"
        rows.append((str(int(item["frame"])), between, turn, f"{item['change_deg']:.3g}", length))
    head = ("frame", "between", "turn (°)", "change (°)", f"length ({'nm' if metric else 'px'})")
    return PageTable("Boundaries of grains", head, tuple(rows), _more(len(table), "boundaries"))


def _coloured(owner: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """RGBA, half transparent where there is a grain."""
    rgb = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in BRIGHT], np.uint8)
    picture = np.zeros((*owner.shape, 4), np.uint8)
    picture[..., :3] = rgb[(owner - 1) % len(rgb)]
    picture[..., 3] = np.where(owner > 0, 105, 0)
    return picture


def _mark(ax: Any, row: Any, at: npt.NDArray[np.float64], reach: float) -> None:
    """Number, direction as a line, and its value, at (y, x) preview px."""
    turn = np.radians(row.angle_deg)
    dy, dx = -np.sin(turn) * reach, np.cos(turn) * reach
    (line,) = ax.plot([at[1] - dx, at[1] + dx], [at[0] - dy, at[0] + dy], color="white", lw=2.2, zorder=3)
    line.set_path_effects(outline())
    text = ax.text(
        at[1],
        at[0] + 1.3 * reach,
        f"{row.grain}: {row.symmetry}, {row.angle_deg:.1f}°".replace("-", "−"),
        color="white",
        fontsize=8.5,
        ha="center",
        va="top",
        zorder=4,
        clip_on=True,
    )
    text.set_path_effects(outline())


def _class_axes(ax: Any, codes: npt.NDArray[Any], results: Results) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    names = list(CLASS_COLOURS)
    ax.imshow(codes, cmap=ListedColormap(list(CLASS_COLOURS.values())), vmin=-0.5, vmax=len(names) - 0.5)
    bound = results.about.get("recipe", {}).get("symmetry", {}).get("shear")
    ax.set_title("class" if bound is None else f"class within {100 * float(bound):.3g} % shear")
    there = sorted({int(k) for k in np.unique(codes[np.isfinite(codes)])})
    ax.legend(
        handles=[Patch(color=CLASS_COLOURS[names[k]], label=names[k]) for k in there],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        ncols=2,
        fontsize=8.5,
    )


def _map_axes(ax: Any, shape: tuple[int, ...], step: tuple[float, float], results: Results) -> None:
    picture_axes(ax)
    ax.set_aspect(step[0] / step[1])
    draw_scale(ax, (shape[0], shape[1]), unit_of(results, step[1]), calibrated=results.pixel is not None)


def _more(count: int, name: str) -> str:
    return f"{count - MOST_ROWS:,} more rows are in {name}.parquet." if count > MOST_ROWS else ""
