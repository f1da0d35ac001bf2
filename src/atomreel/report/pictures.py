"""Figures that are pictures: a frame with its columns, tracks over the mean, maps, defects, the averaged cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.drawing import (
    BRIGHT,
    CLASS_COLOURS,
    Drawing,
    draw_scale,
    figure,
    finish,
    outline,
    picture_axes,
    plain,
)
from atomreel.report.results import FieldStack, Results, unknown_cells

MARK = "#e040fb"  # of what the model does not know


def draw_frame(results: Results, folder: Path) -> Drawing | None:
    """The first previewed frame with its columns and defects; the page shows all of them in its viewer."""
    preview = results.preview
    if preview is None:
        return None
    number = preview.index[0]
    made, ((ax,),) = _picture(preview.frames[0])
    marked = _draw_unknown(ax, results)
    atoms = results.table("atoms", columns=["frame", "y", "x", "species"], frames=[number])
    if atoms is not None and len(atoms):
        species = atoms["species"] if "species" in atoms else pd.Series("column", index=atoms.index)
        for colour, (name, part) in zip(BRIGHT, atoms.groupby(species), strict=False):
            yx = preview.place(part[["y", "x"]])
            ax.plot(yx[:, 1], yx[:, 0], "o", ms=2.2, mew=0, color=colour, label=plain(name))
    defects = results.table("defects", columns=["frame", "y", "x"], frames=[number])
    if defects is not None and len(defects):
        yx = preview.place(defects[["y", "x"]])
        ax.plot(yx[:, 1], yx[:, 0], "s", ms=8, mfc="none", mec="#ff3b30", label="defect")
    _, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(ncols=min(len(labels), 6), loc="upper center", bbox_to_anchor=(0.5, 0.0))
    _frame_scale(ax, preview.frames[0].shape, results)
    about = " Hatched: the model does not know what it sees there (domain below 0.5)." if marked else ""
    caption = f"Frame {number} with what was found in it.{about}"
    return finish(made, folder, "frame", title="Example frame", caption=caption)


def _draw_unknown(ax: Any, results: Results) -> bool:
    """Hatches the cells of the first previewed frame where the model is out of its domain. Whether there are any."""
    cells = unknown_cells(results)
    assert results.preview is not None
    if cells is None or not cells[0][0].any():
        return False
    unknown, y, x = cells
    level = unknown[0].astype(float)
    height, width = results.preview.frames.shape[1:]
    # an outline half way between two cells; the outermost ones reach to the border
    y, x = np.r_[-0.5, y, height - 0.5], np.r_[-0.5, x, width - 0.5]
    ax.contourf(x, y, np.pad(level, 1, "edge"), levels=[0.5, 2], colors="none", hatches=["//"]).set(
        edgecolor=MARK, linewidth=0
    )
    ax.contour(x, y, np.pad(level, 1, "edge"), levels=[0.5], colors=MARK, linewidths=0.8)
    return True


def draw_tracks(results: Results, folder: Path) -> Drawing | None:
    preview, tracks = results.preview, results.table("tracks")
    if preview is None or tracks is None or tracks.empty:
        return None
    shift = results.table("drift")
    mean = mean_image(results)
    made, ((ax,),) = _picture(mean)
    tracks = without_drift(tracks, shift)
    lengths = tracks["track"].value_counts(sort=True)
    for i, track in enumerate(lengths.index[:200]):
        path = tracks[tracks["track"] == track].sort_values("frame")
        yx = preview.place(path[["y", "x"]])
        colour = BRIGHT[i % len(BRIGHT)]
        ax.plot(yx[:, 1], yx[:, 0], color=colour, lw=1.5)
        ax.plot(yx[-1:, 1], yx[-1:, 0], "o", color=colour, ms=5, mec="black", mew=0.6)
        if len(lengths) <= 40:
            note = ax.annotate(
                str(track), yx[-1, ::-1], (4, 3), textcoords="offset points", color=colour, fontsize=8
            )
            note.set_path_effects(outline())
    _frame_scale(ax, mean.shape, results)
    left_out = f" The {len(lengths) - 200} shortest are left out." if len(lengths) > 200 else ""
    drift = "drift removed" if shift is not None and len(shift) else "drift not measured"
    caption = f"{len(lengths)} tracks over the mean of the previewed frames ({drift}); dots mark their last positions.{left_out}"
    return finish(made, folder, "tracks", title="Tracks", caption=caption)


def draw_cell(results: Results, folder: Path) -> Drawing | None:
    found = results.cell()
    if found is None or "vectors_px" not in found[1]:
        return None
    cell, attrs = found
    vectors = np.asarray(attrs["vectors_px"], dtype=float)
    if cell.ndim != 2 or not np.isfinite(cell).any() or abs(np.linalg.det(vectors)) < 1e-6:
        return None
    picture, finer = tiled(filled(cell), vectors)
    made, ((ax,),) = figure(3.6, 3.7)
    low, high = np.nanquantile(cell, (0.005, 0.995))  # bins with few pixels are noisy
    ax.imshow(picture, cmap="gray", vmin=low, vmax=high if high > low else None)
    picture_axes(ax)
    draw_scale(ax, picture.shape, unit_of(results, 1 / finer), calibrated=results.pixel is not None)
    caption = "Mean of all cells of the largest grain, laid side by side. What repeats is here without noise; what does not repeat (defects) is averaged away."
    return finish(made, folder, "cell", title="Averaged unit cell", caption=caption)


def filled(cell: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """`cell` with bins where no pixel fell taken from their neighbours; a cell goes on beyond its edges."""
    from scipy.ndimage import gaussian_filter

    known = np.isfinite(cell)
    weight = gaussian_filter(known.astype(float), 1.0, mode="wrap")
    near = gaussian_filter(np.where(known, cell, 0.0).astype(float), 1.0, mode="wrap") / np.maximum(
        weight, 1e-9
    )
    return np.where(known, cell, near)


def tiled(cell: npt.NDArray[Any], vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], float]:
    """A square picture of repeated cells as they lie in the image, and its pixels per movie pixel.

    cell: (A, B), at fractions (i + ½)/A of a and (j + ½)/B of b. vectors: rows a, b as [y, x] px.
    """
    side = 2.4 * float(np.linalg.norm(vectors, axis=1).max())  # movie px
    size = 240
    at = (np.mgrid[:size, :size].reshape(2, -1).T + 0.5) * side / size - side / 2
    fractions = (at @ np.linalg.inv(vectors)) % 1.0
    i, j = (np.minimum(fractions * cell.shape, np.array(cell.shape) - 1)).astype(int).T
    return np.asarray(cell)[i, j].reshape(size, size), size / side


def draw_residual(results: Results, folder: Path) -> Drawing | None:
    preview = results.preview
    if preview is None or preview.residual is None or not np.isfinite(preview.residual).any():
        return None
    residual = preview.residual
    limit = float(np.nanquantile(np.abs(residual), 0.995)) or 1.0
    made, ((ax,),) = _picture(
        residual, cmap="RdBu_r", low=-limit, high=limit, bar="image − model (image units)"
    )
    _frame_scale(ax, residual.shape, results)
    return finish(
        made,
        folder,
        "residual",
        title="What the model of the image leaves over",
        caption="Image minus fitted columns. Even noise is good; dots mark columns that were missed or are wrong.",
    )


def draw_gallery(results: Results, folder: Path) -> Drawing | None:
    """The most certain defects of each kind, cut out of the previewed frames."""
    preview = results.preview
    if preview is None:
        return None
    defects = results.table("defects", frames=preview.index)
    if defects is None or defects.empty:
        return None
    half = gallery_half(results)
    _, height, width = preview.frames.shape
    yx = preview.place(defects[["y", "x"]])
    inside = np.all((yx >= half) & (yx <= np.array([height, width]) - 1 - half), axis=1)
    chosen = defects[inside].sort_values("score", ascending=False, kind="stable")
    kinds = list(chosen["kind"].value_counts().index[:6])
    if not kinds:
        return None
    made, grid = figure(11.2, 1.93 * len(kinds), rows=len(kinds), columns=6)
    for row, kind in zip(grid, kinds, strict=True):
        several = _different(chosen[chosen["kind"] == kind], 6)
        for ax in row:
            picture_axes(ax)
        for ax, (_, item) in zip(row, several.iterrows(), strict=False):
            frame = preview.frames[preview.index.index(int(item["frame"]))]
            y, x = (round(float(v)) for v in preview.place([item["y"], item["x"]]))
            ax.imshow(frame[y - half : y + half + 1, x - half : x + half + 1], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"frame {int(item['frame'])}, p {item['score']:.2f}", fontsize=9)
            _frame_scale(ax, (2 * half + 1, 2 * half + 1), results)
        row[0].set_ylabel(plain(kind), fontsize=10)
    return finish(
        made,
        folder,
        "defects-gallery",
        title="Defects",
        caption="The most certain examples of each kind, the defect in the middle; p is its score. Judge by eye whether they are what they are called.",
        wide=True,
    )


def draw_symmetry(results: Results, folder: Path) -> Drawing | None:
    field = results.field("symmetry")
    names = [] if field is None else [n for n in CLASS_COLOURS if f"p_{n}" in field.maps]
    if field is None or not names:
        return None
    made, grid = figure(11.2, 2.5, columns=len(names))
    for ax, name in zip(grid.flat, names, strict=True):
        shown = ax.imshow(np.asarray(field.maps[f"p_{name}"][0]), cmap="viridis", vmin=0, vmax=1)
        ax.set_title(name)
        _map_scale(ax, field, results)
    made.colorbar(shown, ax=grid.ravel().tolist(), shrink=0.7, label="probability")
    caption = f"Probability of each class in sliding windows, frame {field.frames[0]}."
    return finish(made, folder, "symmetry", title="Symmetry", caption=caption, wide=True)


def draw_strain(results: Results, folder: Path) -> Drawing | None:
    field = results.field("strain")
    names = [] if field is None else [n for n in ("exx", "eyy", "exy", "rotation_deg") if n in field.maps]
    if field is None or not names:
        return None
    made, grid = figure(11.2, 3.3, columns=len(names))
    for ax, name in zip(grid.flat, names, strict=True):
        factor, unit = (1.0, "°") if name.endswith("_deg") else (100.0, "%")
        values = factor * np.asarray(field.maps[name][0], dtype=float)
        finite = np.abs(values[np.isfinite(values)])
        limit = float(np.quantile(finite, 0.98)) if finite.size else 1.0
        shown = ax.imshow(values, cmap="RdBu_r", vmin=-(limit or 1.0), vmax=limit or 1.0)
        ax.set_title(f"{name.removesuffix('_deg')} ({unit})")
        _map_scale(ax, field, results)
        made.colorbar(shown, ax=ax, shrink=0.75, location="bottom")
    caption = f"Deviation from the mean lattice of the frame, frame {field.frames[0]}."
    return finish(made, folder, "strain", title="Strain", caption=caption, wide=True)


def mean_image(results: Results) -> npt.NDArray[np.float32]:
    """Mean of the previewed frames, moved by whole preview pixels so that the sample stands still."""
    preview = results.preview
    assert preview is not None
    drift = results.table("drift")
    _, height, width = preview.frames.shape
    total = np.zeros((height, width))
    count = np.zeros_like(total)
    shifts = np.zeros((len(preview.index), 2))
    if drift is not None and len(drift):
        known = drift.set_index("frame")[["dy", "dx"]].reindex(preview.index).fillna(0.0)
        shifts = known.to_numpy() / preview.scale
    for frame, shift in zip(preview.frames, np.rint(shifts).astype(int), strict=True):
        to_y, from_y = _overlap(int(shift[0]), height)
        to_x, from_x = _overlap(int(shift[1]), width)
        total[to_y, to_x] += frame[from_y, from_x]
        count[to_y, to_x] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def without_drift(table: pd.DataFrame, drift: pd.DataFrame | None) -> pd.DataFrame:
    """`table` with positions as if the sample had stood still since the first frame."""
    if drift is None or drift.empty:
        return table
    shift = drift.set_index("frame")[["dy", "dx"]].reindex(table["frame"]).fillna(0.0).to_numpy()
    return table.assign(y=table["y"].to_numpy() - shift[:, 0], x=table["x"].to_numpy() - shift[:, 1])


def gallery_half(results: Results) -> int:
    """Half the side of a defect's picture [preview px]: two and a half lattice spacings."""
    assert results.preview is not None
    spacing = results.about.get("survey", {}).get("spacing_px") or 10.0
    _, height, width = results.preview.frames.shape
    return int(np.clip(2.5 * float(spacing) / results.preview.scale, 5, max(min(height, width) // 4, 5)))


def _different(items: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first `count`, from different frames and places as far as there are any."""
    place = items[["y", "x"]].round(-1).astype(int).astype(str).agg("/".join, axis=1)
    again = place.duplicated()
    return pd.concat([items[~again], items[again]]).head(count)


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    shift = int(np.clip(shift, -length, length))
    return slice(max(-shift, 0), length - max(shift, 0)), slice(max(shift, 0), length - max(-shift, 0))


def _picture(
    data: Any,
    *,
    cmap: str = "gray",
    low: float | None = None,
    high: float | None = None,
    bar: str | None = None,
) -> tuple[Any, Any]:
    height, width = np.shape(data)
    made, axes = figure(5.6 + (0.9 if bar else 0), min(5.6 * height / width, 9.0) + 0.1)
    shown = axes[0, 0].imshow(data, cmap=cmap, vmin=low, vmax=high)
    picture_axes(axes[0, 0])
    if bar is not None:
        made.colorbar(shown, ax=axes[0, 0], shrink=0.8, label=bar)
    return made, axes


def unit_of(results: Results, pixels: float) -> float:
    """Å, or movie px where there is no calibration, of one picture px that covers `pixels` movie px."""
    return pixels if results.pixel is None else pixels * results.pixel[1]


def _frame_scale(ax: Any, shape: tuple[int, ...], results: Results) -> None:
    assert results.preview is not None
    draw_scale(ax, shape, unit_of(results, results.preview.scale), calibrated=results.pixel is not None)
    ax.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))


def _map_scale(ax: Any, field: FieldStack, results: Results) -> None:
    picture_axes(ax)
    shape = next(iter(field.maps.values())).shape[1:]
    draw_scale(ax, shape, unit_of(results, field.step[1]), calibrated=results.pixel is not None)
