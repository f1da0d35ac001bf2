"""What a Run folder holds, read lazily. Absent files are None; damaged ones are errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import RunError
from atomreel.core.run import RunFolder

UNKNOWN = 0.5  # domain below which a place is marked
KNOWN_TABLES = (
    "atoms",
    "lattice",
    "grains",
    "boundaries",
    "phases",
    "defects",
    "tracks",
    "events",
    "drift",
    "sources",
)


@dataclass(frozen=True)
class Preview:
    """frames: (K, Y', X') uint8. index: (K,) frame numbers. scale: movie pixels per preview pixel."""

    frames: npt.NDArray[np.uint8]
    index: list[int]
    scale: float
    residual: npt.NDArray[np.float32] | None

    def place(self, positions: Any) -> npt.NDArray[np.float64]:
        """Movie pixels → preview pixels, both counted from the centre of pixel 0."""
        return (np.asarray(positions, dtype=float) + 0.5) / self.scale - 0.5


@dataclass(frozen=True)
class FieldStack:
    """Maps of several frames. maps: name → (T, Gy, Gx). origin, step: (y, x) [px]. frames: (T,)."""

    maps: Mapping[str, Any]
    origin: tuple[float, float]
    step: tuple[float, float]
    window: float | None
    frames: list[int]


@dataclass(frozen=True)
class Results:
    """One Run, opened for reading."""

    path: Path
    about: Mapping[str, Any]

    @cached_property
    def input(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.about.get("input", {})
        return found

    @cached_property
    def pixel(self) -> tuple[float, float] | None:
        """(dy, dx) [Å], after calibration where one was asked for."""
        for value in (self.about.get("calibration", {}).get("pixel_after"), self.input.get("pixel_A")):
            size = np.ravel(np.asarray([] if value is None else value, dtype=float))
            if size.size and np.all(np.isfinite(size) & (size > 0)):
                return float(size[0]), float(size[-1])
        return None

    def source(self, name: str) -> str:
        """Where a number of the input ("pixel", "times", "dose", …) came from, "" if nobody says."""
        own = self.input.get(f"{name}_source")
        return str(own or self.input.get("sources", {}).get(name) or "")

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(Y, X) of a frame [px]."""
        value = self.input.get("shape")
        if value is not None and len(value) >= 2:
            return int(value[-2]), int(value[-1])
        if self.preview is not None:
            _, y, x = self.preview.frames.shape
            return round(y * self.preview.scale), round(x * self.preview.scale)
        return 1, 1

    @cached_property
    def n_frames(self) -> int:
        return int(self.input.get("frames", 1) or 1)

    @cached_property
    def times(self) -> pd.Series | None:
        """Time [s] by frame number, where the Run knows it."""
        phases = self.table("phases")
        if phases is None or "t_s" not in phases or phases["t_s"].isna().all():
            return None
        return phases.set_index("frame")["t_s"]

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def table(
        self, name: str, *, columns: list[str] | None = None, frames: Iterable[int] | None = None
    ) -> pd.DataFrame | None:
        """RUN/name.parquet, or None. columns: those of them that exist; frames: only rows of these."""
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            return None
        import pyarrow.parquet as pq

        try:
            if columns is not None:
                known = set(pq.read_schema(file).names)
                columns = [column for column in columns if column in known]
            filters = None if frames is None else [("frame", "in", [int(f) for f in frames])]
            return pd.read_parquet(file, columns=columns, filters=filters)
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: damaged ({error}); run 'atomreel run' again") from error

    def count(self, name: str, *, by: list[str]) -> pd.DataFrame | None:
        """Rows per value of `by`, streamed: memory does not grow with the number of rows."""
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            return None
        import pyarrow.parquet as pq

        try:
            source = pq.ParquetFile(file)
            by = [key for key in by if key in source.schema_arrow.names]
            parts = [
                batch.to_pandas().groupby(by, sort=True).size()
                for batch in source.iter_batches(columns=by)
                if len(batch)
            ]
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: damaged ({error}); run 'atomreel run' again") from error
        if not parts:
            return pd.DataFrame({**{key: [] for key in by}, "count": []})
        total = pd.concat(parts).groupby(level=by if len(by) > 1 else 0, sort=True).sum()
        return total.rename("count").reset_index()

    def json(self, name: str) -> dict[str, Any]:
        file = self.path / f"{name}.json"
        if not file.is_file():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: damaged ({error}); run 'atomreel run' again") from error
        return found if isinstance(found, dict) else {}

    @cached_property
    def preview(self) -> Preview | None:
        group = self._group("preview")
        if group is None or "frames" not in group:
            return None
        frames = np.asarray(group["frames"][:], dtype=np.uint8)
        if frames.ndim != 3 or not len(frames):
            return None
        index = [int(i) for i in group.attrs.get("index", range(len(frames)))]
        residual = np.asarray(group["residual"][:], dtype=np.float32) if "residual" in group else None
        return Preview(frames, index, float(group.attrs.get("scale", 1.0)), residual)

    def field(self, name: str) -> FieldStack | None:
        """RUN/name.zarr: named maps of several frames, not yet in memory."""
        group = self._group(name)
        if group is None:
            return None
        maps = {key: array for key, array in sorted(group.arrays()) if array.ndim == 3 and array.size}
        if not maps:
            return None
        attrs = group.attrs
        count = next(iter(maps.values())).shape[0]
        return FieldStack(
            maps,
            _pair(attrs.get("origin", 0.0)),
            _pair(attrs.get("step", 1.0)),
            None if attrs.get("window") is None else float(np.ravel(attrs["window"])[0]),
            [int(f) for f in attrs.get("frames", range(count))],
        )

    def cell(self) -> tuple[npt.NDArray[np.float32], dict[str, Any]] | None:
        group = self._group("cell")
        if group is None or "cell" not in group:
            return None
        return np.asarray(group["cell"][:], dtype=np.float32), dict(group.attrs)

    def other_tables(self) -> list[str]:
        """Names of the tables that analyses added."""
        return sorted(p.stem for p in self.path.glob("*.parquet") if p.stem not in KNOWN_TABLES)

    def _group(self, name: str) -> Any:
        folder = self.path / f"{name}.zarr"
        if not folder.is_dir():
            return None
        import zarr

        try:
            return zarr.open_group(folder, mode="r")
        except Exception as error:  # zarr raises many kinds for a damaged store
            raise RunError(f"{folder}: damaged ({error}); run 'atomreel run' again") from error


def unknown_cells(
    results: Results,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Where the model does not know what it sees, in the previewed frames (K, Gy, Gx), and the centres of the cells,
    (Gy,) and (Gx,) in preview px; None where the Run has no such map."""
    field, preview = results.field("domain"), results.preview
    if field is None or preview is None or "domain" not in field.maps:
        return None
    rows = [field.frames.index(number) for number in preview.index]
    unknown = np.stack([np.asarray(field.maps["domain"][row]) < UNKNOWN for row in rows])
    y, x = (
        (first + step * np.arange(n) + 0.5) / preview.scale - 0.5
        for first, step, n in zip(field.origin, field.step, unknown.shape[1:], strict=True)
    )
    return unknown, y, x


def open_results(run: Path | str) -> Results:
    """The Run folder `run`. Raises RunError where it is not a finished Run."""
    path = Path(run)
    return Results(path, RunFolder(path).about())


def _pair(value: Any) -> tuple[float, float]:
    both = np.ravel(np.asarray(value, dtype=float))
    return float(both[0]), float(both[-1])
