"""What the page's script shows: frames, overlays and maps, packed so that 40 frames fit into a few megabytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.drawing import BRIGHT, CLASS_COLOURS, scale_length
from atomreel.report.pictures import unit_of, without_drift
from atomreel.report.results import FieldStack, Results, unknown_cells

IMAGE_BYTES = 7_000_000  # of all frames together, before base64
MOST_ATOMS = 10_000  # drawn in one frame; more cannot be told apart at 640 px
MOST_TRACK_POINTS = 40_000
MOST_GRID = 96  # map points per side that are shown
DOUBT = {  # map → title, unit, least end of its scale
    "entropy": ("entropy", "nats", 0.5),
    "mutual_information": ("mutual information", "nats", 0.02),
    "lattice_change_deg": ("change of the lattice", "°", 3.0),
}
STRAIN = {
    "exx": ("strain exx", 100.0, "%"),
    "eyy": ("strain eyy", 100.0, "%"),
    "exy": ("shear exy", 100.0, "%"),
    "rotation_deg": ("rotation", 1.0, "°"),
}


def frame_viewer(results: Results) -> dict[str, Any] | None:
    """Frames with everything that is drawn on them. Positions are in preview pixels."""
    preview = results.preview
    if preview is None:
        return None
    _, height, width = preview.frames.shape
    pictures = _jpegs(preview.frames)
    drift = results.table("drift")
    shift = np.zeros((len(preview.index), 2))
    if drift is not None and len(drift):
        known = drift.set_index("frame")[["dy", "dx"]].reindex(preview.index).fillna(0.0)
        shift = known.to_numpy() / preview.scale
    times = results.times
    species, atoms, left_out = _atoms(results)
    kinds, defects = _defects(results)
    return {
        "width": width,
        "height": height,
        "scale": preview.scale,
        "unit": unit_of(results, preview.scale),
        "calibrated": results.pixel is not None,
        "frames": [
            {
                "number": number,
                "time": None if times is None or number not in times.index else float(times[number]),
                "image": picture,
                "shift": [round(float(s[1]), 2), round(float(s[0]), 2)],
            }
            for number, picture, s in zip(preview.index, pictures, shift, strict=True)
        ],
        "species": [
            {"name": name, "colour": BRIGHT[i % len(BRIGHT)], "count": count}
            for i, (name, count) in enumerate(species.items())
        ],
        "atoms": atoms,
        "atoms_left_out": left_out,
        "kinds": kinds,
        "defects": defects,
        "unknown": _unknown(results),
        "tracks": _tracks(results, drift),
    }


def symmetry_viewer(results: Results) -> dict[str, Any] | None:
    """Probability of each class, the most probable class and its standard deviation, frame by frame."""
    field = results.field("symmetry")
    names = [] if field is None else [n for n in CLASS_COLOURS if f"p_{n}" in field.maps]
    if field is None or not names:
        return None
    rows, stride = _shown(field, results)
    mean = np.stack([_read(field, f"p_{n}", rows, stride) for n in names])  # (C, K, Gy, Gx)
    maps = [_map(n, values, low=0.0, high=1.0) for n, values in zip(names, mean, strict=True)]
    best = np.argmax(np.nan_to_num(mean, nan=-1.0), axis=0)
    known = np.asarray(np.isfinite(mean).any(axis=0))
    hard = {
        "name": "most probable class",
        "classes": [{"name": n, "colour": CLASS_COLOURS[n]} for n in names],
        "data": [_base64(np.where(k, b, 255).astype(np.uint8)) for b, k in zip(best, known, strict=True)],
    }
    if all(f"std_{n}" in field.maps for n in names):
        std = np.stack([_read(field, f"std_{n}", rows, stride) for n in names])
        its = np.take_along_axis(std, best[None], axis=0)[0]
        high = float(np.nanmax(its)) if np.isfinite(its).any() else 0.0
        maps.insert(0, _map("its uncertainty (1σ)", its, low=0.0, high=max(round(high, 2), 0.05)))
    maps[:0] = _within_shear(field, results, rows, stride)
    for name, (title, unit, least) in DOUBT.items():
        if name in field.maps:
            values = _read(field, name, rows, stride)
            high = max(float(np.nanmax(values)) if np.isfinite(values).any() else 0.0, least)
            maps.append({**_map(title, values, low=0.0, high=float(f"{high:.2g}")), "unit": unit})
    return {**_grid(field, results, rows, stride), "lut": "viridis", "maps": [hard, *maps]}


def _within_shear(
    field: FieldStack, results: Results, rows: list[int], stride: int
) -> list[Mapping[str, Any]]:
    """The most symmetric class within the bound on shear, where the Run has it."""
    if "within_shear" not in field.maps:
        return []
    codes = _read(field, "within_shear", rows, stride)
    bound = results.about.get("recipe", {}).get("symmetry", {}).get("shear")
    title = (
        "class within the shear bound" if bound is None else f"class within {100 * float(bound):.3g} % shear"
    )
    known = np.where(np.isfinite(codes), codes, 255).astype(np.uint8)
    classes = [{"name": n, "colour": c} for n, c in CLASS_COLOURS.items()]
    return [{"name": title, "classes": classes, "data": [_base64(frame) for frame in known]}]


def strain_viewer(results: Results) -> dict[str, Any] | None:
    field = results.field("strain")
    names = [] if field is None else [n for n in STRAIN if n in field.maps]
    if field is None or not names:
        return None
    rows, stride = _shown(field, results)
    maps = []
    for name in names:
        title, factor, unit = STRAIN[name]
        values = factor * _read(field, name, rows, stride)
        finite = np.abs(values[np.isfinite(values)])
        limit = float(np.quantile(finite, 0.98)) if finite.size else 1.0
        limit = float(f"{limit or 1.0:.2g}")
        error = f"{name}_err"
        note = ""
        if error in field.maps:
            its = factor * _read(field, error, rows, stride)
            if np.isfinite(its).any():
                note = f"typical error ±{float(np.nanmedian(its)):.2g} {unit}"
        maps.append({**_map(title, values, low=-limit, high=limit), "unit": unit, "note": note})
    return {**_grid(field, results, rows, stride), "lut": "diverging", "maps": maps}


def colour_tables() -> dict[str, str]:
    """256 × RGB of each colour map, base64."""
    import matplotlib as mpl

    at = np.linspace(0, 1, 255)
    found = {"viridis": mpl.colormaps["viridis"](at), "diverging": mpl.colormaps["RdBu_r"](at)}
    return {name: _base64((rgba[:, :3] * 255).round().astype(np.uint8)) for name, rgba in found.items()}


def _jpegs(frames: npt.NDArray[np.uint8]) -> list[str]:
    """Data addresses of all frames; the quality falls until they fit the page."""
    from PIL import Image

    for quality in (88, 78, 65, 50, 35):
        data = []
        for frame in frames:
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, format="JPEG", quality=quality)
            data.append(buffer.getvalue())
        if sum(map(len, data)) <= IMAGE_BYTES:
            break
    return ["data:image/jpeg;base64," + base64.b64encode(d).decode() for d in data]


def _atoms(results: Results) -> tuple[dict[str, int], list[str], int]:
    """Names of the species with counts, and per frame x, y, err (u16), species, score (u8), one after another."""
    preview = results.preview
    assert preview is not None
    table = results.table(
        "atoms",
        columns=["frame", "y", "x", "y_err", "x_err", "species", "score"],
        frames=preview.index,
    )
    if table is None:
        return {}, ["" for _ in preview.index], 0
    names = table["species"].astype(str) if "species" in table else pd.Series("column", index=table.index)
    counts = {str(k): int(v) for k, v in names.value_counts().sort_index().items()}
    code = names.map({name: i for i, name in enumerate(counts)}).to_numpy(np.uint8)
    limits = np.iinfo(np.uint16).max
    packed, left_out = [], 0
    frame_of = table["frame"].to_numpy()
    for number in preview.index:
        rows = np.flatnonzero(frame_of == number)
        left_out += max(len(rows) - MOST_ATOMS, 0)
        part, kind = table.iloc[rows[:MOST_ATOMS]], code[rows[:MOST_ATOMS]]
        error = np.hypot(part["y_err"], part["x_err"]).to_numpy(float) / np.sqrt(2)
        columns = [
            (preview.place(part["x"]) + 1) * 64,
            (preview.place(part["y"]) + 1) * 64,
            np.nan_to_num(error * 1000, nan=limits, posinf=limits),
        ]
        wide = [np.clip(np.rint(c), 0, limits).astype("<u2").tobytes() for c in columns]
        score = np.clip(np.nan_to_num(part["score"].to_numpy(float)) * 255, 0, 255).astype(np.uint8)
        packed.append(base64.b64encode(b"".join([*wide, kind.tobytes(), score.tobytes()])).decode())
    return counts, packed, left_out


def _defects(results: Results) -> tuple[list[dict[str, Any]], list[list[list[float]]]]:
    preview = results.preview
    assert preview is not None
    table = results.table("defects", frames=preview.index)
    if table is None or table.empty:
        return [], [[] for _ in preview.index]
    counts = table["kind"].astype(str).value_counts()
    number = {kind: i for i, kind in enumerate(counts.index)}
    rows: dict[int, list[list[float]]] = {frame: [] for frame in preview.index}
    for item in table.head(50_000).itertuples():
        x, y = preview.place([item.x, item.y]).tolist()
        rows[int(item.frame)].append([round(x, 1), round(y, 1), number[str(item.kind)], round(item.score, 2)])
    kinds = [{"name": kind, "count": int(count)} for kind, count in counts.items()]
    return kinds, [rows[frame] for frame in preview.index]


def _unknown(results: Results) -> list[list[list[float]]]:
    """Per frame the rectangles x, y, width, height [preview px] in which the model does not know what it sees: runs of
    cells in a row."""
    cells = unknown_cells(results)
    if cells is None:
        return []
    found, y, x = cells
    dy, dx = (float(v[1] - v[0]) if len(v) > 1 else 2 * (float(v[0]) + 0.5) for v in (y, x))
    frames = []
    for frame in found:
        edges = np.diff(np.pad(frame, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        start, stop = (np.argwhere(edges == sign) for sign in (1, -1))
        frames.append(
            [
                [round(float(v), 1) for v in (x[first] - dx / 2, y[row] - dy / 2, (last - first) * dx, dy)]
                for (row, first), (_, last) in zip(start, stop, strict=True)
            ]
        )
    return frames


def _tracks(results: Results, drift: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Paths relative to the sample (drift removed), longest first."""
    preview, table = results.preview, results.table("tracks")
    if preview is None or table is None or table.empty:
        return []
    table = without_drift(table.sort_values(["track", "frame"], kind="stable"), drift)
    lengths = table["track"].value_counts()
    kept = lengths[lengths.cumsum() <= MOST_TRACK_POINTS].index
    return [
        {
            "track": int(track),
            "frames": part["frame"].astype(int).tolist(),
            "x": preview.place(part["x"]).round(1).tolist(),
            "y": preview.place(part["y"]).round(1).tolist(),
        }
        for track, part in table[table["track"].isin(kept)].groupby("track")
    ]


def _shown(field: FieldStack, results: Results) -> tuple[list[int], int]:
    """Which frames of a field, those of the preview first of all, and every how many grid points."""
    wanted = results.preview.index if results.preview is not None else []
    rows = [field.frames.index(f) for f in wanted if f in set(field.frames)]
    if not rows:
        rows = sorted({int(i) for i in np.linspace(0, len(field.frames) - 1, 40)})
    gy, gx = next(iter(field.maps.values())).shape[1:]
    return rows, -(-max(gy, gx) // MOST_GRID)


def _read(field: FieldStack, name: str, rows: list[int], stride: int) -> npt.NDArray[np.float32]:
    array = field.maps[name]
    return np.stack([np.asarray(array[row], dtype=np.float32)[::stride, ::stride] for row in rows])


def _grid(field: FieldStack, results: Results, rows: list[int], stride: int) -> dict[str, Any]:
    gy, gx = (-(-n // stride) for n in next(iter(field.maps.values())).shape[1:])
    length, words = scale_length(
        gx, unit_of(results, field.step[1] * stride), calibrated=results.pixel is not None
    )
    return {
        "width": gx,
        "height": gy,
        "aspect": field.step[1] * gx / (field.step[0] * gy),
        "frames": [field.frames[row] for row in rows],
        "bar": {"fraction": length / gx, "words": words},
    }


def _map(name: str, values: npt.NDArray[np.float32], *, low: float, high: float) -> Mapping[str, Any]:
    """0…254 between low and high, 255 where there is no value."""
    scaled = np.clip((values - low) / (high - low), 0, 1) * 254
    bytes_ = np.where(np.isfinite(scaled), np.rint(np.nan_to_num(scaled)), 255).astype(np.uint8)
    return {"name": name, "low": low, "high": high, "unit": "", "data": [_base64(frame) for frame in bytes_]}


def _base64(array: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
