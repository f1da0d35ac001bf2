"""Results for other people's programs: extended XYZ, CSV, ImageJ ROIs, HyperSpy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import MissingExtraError, RunError
from atomreel.core.files import atomic, atomic_folder
from atomreel.core.registry import lookup
from atomreel.report.results import Results, open_results

EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member of a ZIP file, so that the same Run gives the same bytes
MOST_ROIS = 200_000


def export_run(run: Path | str, to: str, out: Path | str | None = None) -> Path:
    """Write what was found in `run` to `out` and give its path.

    to: "xyz" (extended XYZ, one configuration per frame; Å where calibrated, y up as ASE draws it),
    "csv" (a folder with every table), "imagej" (ROI set: points of columns and defects, lines of
    tracks), "hyperspy" (.hspy: the aligned or previewed movie with its axes, and the tables as metadata).
    out: file, or new folder for "csv"; by default beside the Run and named after it.
    Raises UnknownNameError for another `to`, RunError where the Run has nothing to export.
    """
    write = lookup("export format", to, FORMATS)
    results = open_results(run)
    out = Path(out) if out is not None else results.path.with_name(results.path.name + ENDINGS[to])
    if to == "csv":
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise RunError(f"{out}: exists; the tables need a new folder")
    elif out.is_dir():
        raise RunError(f"{out}: is a folder; give the name of a file")
    write(results, out)
    return out


def write_xyz(results: Results, out: Path) -> None:
    from ase.data import atomic_numbers

    atoms = results.table("atoms")
    if atoms is None or atoms.empty:
        raise RunError(f"{results.path}: has no columns to export")
    dy, dx = results.pixel or (1.0, 1.0)
    height, width = results.shape
    extra = [c for c in ("score", "intensity", "y_err", "x_err") if c in atoms]
    properties = "species:S:1:pos:R:3:label:S:1" + "".join(f":{name}:R:1" for name in extra)
    unit = "px" if results.pixel is None else "Angstrom"
    cell = f"{width * dx:.6f} 0 0 0 {height * dy:.6f} 0 0 0 1"
    labels = atoms["species"].astype(str) if "species" in atoms else pd.Series("X", index=atoms.index)
    atoms = atoms.assign(
        element=[name if name in atomic_numbers else "X" for name in labels],
        label=["".join("_" if c.isspace() or c in "\"'=," else c for c in name) or "X" for name in labels],
    )
    with atomic(out) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        for frame, rows in atoms.groupby("frame", sort=True):
            time = _time(results, int(frame))
            stream.write(
                f'{len(rows)}\nLattice="{cell}" Properties={properties} pbc="F F F" '
                f"frame={int(frame)} unit={unit}{'' if time is None else f' time_s={time:.6g}'}\n"
            )
            positions = zip(rows["x"] * dx, (height - 1 - rows["y"]) * dy, strict=True)
            values = rows[extra].to_numpy(float)
            for element, label, (x, y), more in zip(
                rows["element"], rows["label"], positions, values, strict=True
            ):
                tail = "".join(f" {value:.6g}" for value in more)
                stream.write(f"{element} {x:.5f} {y:.5f} 0.00000 {label}{tail}\n")


def write_csv(results: Results, out: Path) -> None:
    names = [file.stem for file in sorted(results.path.glob("*.parquet"))]
    rates = results.json("rates")
    with atomic_folder(out) as part:
        for name in names:
            table = results.table(name)
            assert table is not None
            table.to_csv(part / f"{name}.csv", index=False, lineterminator="\n")
        if rates:
            rows = [
                {"name": name, **(rate if isinstance(rate, dict) else {"value": rate})}
                for name, rate in rates.items()
            ]
            pd.DataFrame(rows).to_csv(part / "rates.csv", index=False, lineterminator="\n")


def write_imagej(results: Results, out: Path) -> None:
    """ImageJ counts from the corner of pixel (0, 0), we from its centre: half a pixel is added."""
    try:
        import roifile
    except ImportError as error:
        raise MissingExtraError("roifile", extra="imagej", purpose="export to ImageJ") from error
    with atomic(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        count = 0
        for name, frame, xy, line in _rois(results):
            count += 1
            if count > MOST_ROIS:
                raise RunError(f"{results.path}: more than {MOST_ROIS:,} ROIs; ImageJ cannot hold them")
            roi = roifile.ImagejRoi.frompoints((xy + 0.5).astype(np.float32), name=name)
            roi.roitype = roifile.ROI_TYPE.POLYLINE if line else roifile.ROI_TYPE.POINT
            roi.position = frame + 1
            entry = zipfile.ZipInfo(f"{name}.roi", date_time=EPOCH)
            archive.writestr(entry, roi.tobytes())
        if not count:
            raise RunError(f"{results.path}: has no columns, defects or tracks to export")


def write_hyperspy(results: Results, out: Path) -> None:
    from rsciio.hspy import file_writer

    data, index, scale = _movie(results)
    dy, dx = results.pixel or (1.0, 1.0)
    unit = "px" if results.pixel is None else "Å"
    times = np.array([_time(results, frame) for frame in index], dtype=float)
    step = float(np.median(np.diff(times))) if len(times) > 1 and np.isfinite(times).all() else 1.0
    steady = len(times) > 1 and np.allclose(np.diff(times), step, rtol=1e-3)
    shape = data.shape
    axes = [
        _axis(
            "time" if steady else "frame",
            shape[0],
            step if steady else 1.0,
            "s" if steady else "",
            navigate=True,
        ),
        _axis("y", shape[1], dy * scale, unit, navigate=False),
        _axis("x", shape[2], dx * scale, unit, navigate=False),
    ]
    signal = {
        "data": data,
        "axes": axes,
        "metadata": {
            "General": {"title": str(results.input.get("name", results.path.name))},
            "Signal": {"signal_type": ""},
        },
        "original_metadata": {"atomreel": {"frames": index, **_tables(results)}},
        "package_info": {
            "package": "atomreel",
            "package_version": str(results.about.get("versions", {}).get("atomreel", "")),
        },
        "tmp_parameters": {},
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
        "models": {},
    }
    if out.suffix != ".hspy":
        raise RunError(f"{out}: a HyperSpy file is named *.hspy")
    with atomic(out) as part:
        part.unlink()  # the writer asks before it overwrites
        file_writer(str(part), signal, show_progressbar=False)


FORMATS: dict[str, Callable[[Results, Path], None]] = {
    "xyz": write_xyz,
    "csv": write_csv,
    "imagej": write_imagej,
    "hyperspy": write_hyperspy,
}


ENDINGS = {"xyz": ".xyz", "csv": "-tables", "imagej": "-rois.zip", "hyperspy": ".hspy"}


def _time(results: Results, frame: int) -> float | None:
    times = results.times
    return None if times is None or frame not in times.index else float(times[frame])


def _rois(results: Results) -> Iterator[tuple[str, int, npt.NDArray[np.float64], bool]]:
    """Name, frame, (N, 2) [x, y] px, and whether they form a line."""
    for table_name, key in (("atoms", "species"), ("defects", "kind")):
        table = results.table(table_name, columns=["frame", "y", "x", key])
        if table is None or table.empty:
            continue
        names = table[key].astype(str) if key in table else pd.Series("column", index=table.index)
        for (frame, name), rows in table.groupby(["frame", names], sort=True):
            safe = "".join(c if c.isalnum() or c in "_+-" else "-" for c in name)[:40]
            yield f"{int(frame):05d}-{table_name}-{safe}", int(frame), rows[["x", "y"]].to_numpy(float), False
    tracks = results.table("tracks", columns=["track", "frame", "y", "x"])
    if tracks is None:
        return
    for track, rows in tracks.sort_values(["track", "frame"], kind="stable").groupby("track"):
        if len(rows) > 1:
            first = int(rows["frame"].iloc[0])
            yield f"track-{int(track):05d}", first, rows[["x", "y"]].to_numpy(float), True


def _movie(results: Results) -> tuple[Any, list[int], float]:
    """(T, Y, X), frame numbers and movie pixels per pixel: the aligned movie, else the previewed frames."""
    folder = results.path / "aligned.zarr"
    if folder.is_dir():
        import zarr

        found: Any = zarr.open(folder, mode="r")
        array: Any = found["movie"] if isinstance(found, zarr.Group) else found
        import dask.array as da

        lazy = da.from_array(array, chunks=(min(16, array.shape[0]), *array.shape[1:]))
        return lazy, list(range(array.shape[0])), 1.0
    if results.preview is None:
        raise RunError(f"{results.path}: has neither aligned.zarr nor preview.zarr, so no movie to export")
    return results.preview.frames, results.preview.index, results.preview.scale


def _axis(name: str, size: int, scale: float, units: str, *, navigate: bool) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis",
        "name": name,
        "units": units,
        "navigate": navigate,
        "is_binned": False,
        "size": size,
        "scale": scale,
        "offset": 0.0,
    }


def _tables(results: Results) -> dict[str, dict[str, Any]]:
    """Columns of the main tables as arrays; text as lists of text."""
    found = {}
    for name in ("atoms", "defects", "tracks", "lattice", "drift"):
        table = results.table(name)
        if table is None or table.empty:
            continue
        found[name] = {
            str(column): values.to_numpy()
            if pd.api.types.is_numeric_dtype(values)
            else np.char.encode(values.astype(str).to_numpy(dtype=str), "utf-8")
            for column, values in table.items()
        }
    return found
