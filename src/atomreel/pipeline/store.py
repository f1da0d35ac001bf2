"""What a chunk of frames leaves on disk, and how the chunks become the files of the Run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.files import FORMAT_VERSION, atomic, atomic_folder, write_json, write_table
from atomreel.core.run import RunFolder
from atomreel.core.tables import empty_table

CHUNK = 16  # frames of a map that are held and stored together


@dataclass(frozen=True)
class Chunk:
    """tables: name → rows. arrays: name → array. state: what the next chunk starts from, and notices."""

    tables: Mapping[str, pd.DataFrame]
    arrays: Mapping[str, npt.NDArray[Any]]
    state: Mapping[str, Any]


def write_chunk(run: RunFolder, number: int, chunk: Chunk) -> None:
    """All of it under its name at once, or nothing."""
    with atomic_folder(run.chunk(number)) as part:
        for name, table in chunk.tables.items():
            write_table(part / f"{name}.parquet", table, kind=name)
        np.savez(part / "arrays.npz", allow_pickle=False, **chunk.arrays)
        write_json(part / "state.json", chunk.state)


def read_state(run: RunFolder, number: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run.chunk(number) / "state.json").read_text(encoding="utf-8"))
    return state


def read_arrays(run: RunFolder, number: int, *names: str) -> dict[str, npt.NDArray[Any]]:
    """Those of `names` that the chunk has."""
    with np.load(run.chunk(number) / "arrays.npz", allow_pickle=False) as data:
        return {name: data[name] for name in names if name in data}


def read_group(run: RunFolder, number: int, group: str) -> dict[str, npt.NDArray[Any]]:
    """The chunk's arrays `group/NAME`, by NAME."""
    with np.load(run.chunk(number) / "arrays.npz", allow_pickle=False) as data:
        return {key.partition("/")[2]: data[key] for key in data.files if key.startswith(f"{group}/")}


def join_table(run: RunFolder, name: str, chunks: int) -> Path:
    """Chunks → RUN/name.parquet, one row group per chunk, so that memory does not grow with the movie."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = run.path / f"{name}.parquet"
    files = [run.chunk(k) / f"{name}.parquet" for k in range(chunks)]
    schema = pa.unify_schemas(
        [pq.read_schema(file).remove_metadata() for file in files], promote_options="permissive"
    )
    about = {"format": f"atomreel-{name}", "version": str(FORMAT_VERSION)}
    with atomic(target) as part, pq.ParquetWriter(part, schema.with_metadata(about)) as writer:
        for file in files:
            table = pq.read_table(file).replace_schema_metadata(None)
            for field in schema:
                if field.name not in table.column_names:
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            writer.write_table(table.select(schema.names).cast(schema).replace_schema_metadata(about))
    return target


def table_chunks(run: RunFolder, name: str, chunks: int) -> Iterator[pd.DataFrame]:
    """The rows of one kind, chunk by chunk."""
    for k in range(chunks):
        file = run.chunk(k) / f"{name}.parquet"
        yield pd.read_parquet(file) if file.exists() else empty_table(name)


def join_maps(
    run: RunFolder, name: str, chunks: int, *, frames: int, attrs: Mapping[str, Any]
) -> Path | None:
    """Arrays `name/MAP` (n, Gy, Gx) of the chunks → RUN/name.zarr with MAP (T, Gy, Gx); None where there are none."""
    import zarr

    with np.load(run.chunk(0) / "arrays.npz", allow_pickle=False) as first:
        maps = {key: first[key].shape[1:] for key in first.files if key.startswith(f"{name}/")}
    if not maps:
        return None
    target = run.path / f"{name}.zarr"
    with atomic_folder(target) as part:
        group = zarr.open_group(part, mode="w", attributes={**head(name), **attrs})
        stores = {
            key: group.create_array(
                key.partition("/")[2],
                shape=(frames, *shape),
                chunks=(min(frames, 64), *shape),
                dtype="float32",
            )
            for key, shape in maps.items()
        }
        start = 0
        for k in range(chunks):
            arrays = read_arrays(run, k, *maps)
            for key, values in arrays.items():
                stores[key][start : start + len(values)] = values.astype(np.float32)
            start += len(next(iter(arrays.values())))
    return target


def write_frames(
    path: Path,
    frames: Iterable[Mapping[str, npt.NDArray[Any]]],
    *,
    kind: str,
    count: int,
    attrs: Mapping[str, Any],
) -> None:
    """Maps NAME (Gy, Gx) of `count` frames, one frame after another → one Zarr group with NAME (count, Gy, Gx).

    No more than a chunk of frames is held, however many there are; nothing has the final name unless all came.
    """
    import zarr

    with atomic_folder(path) as part:
        group = zarr.open_group(part, mode="w", attributes={**head(kind), **attrs})
        stores: dict[str, zarr.Array[Any]] = {}
        coming = iter(frames)
        for start in range(0, count, CHUNK):
            held = list(islice(coming, min(CHUNK, count - start)))
            for name, values in held[0].items():
                if not start:
                    size = np.shape(values)
                    stores[name] = group.create_array(
                        name, shape=(count, *size), chunks=(min(count, CHUNK), *size), dtype=values.dtype
                    )
                stores[name][start : start + len(held)] = np.stack([maps[name] for maps in held])


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, attrs: Mapping[str, Any]) -> None:
    """Named arrays → one Zarr group."""
    import zarr

    with atomic_folder(path) as part:
        group = zarr.open_group(part, mode="w", attributes={**head(path.stem), **attrs})
        for name, values in arrays.items():
            group.create_array(name, data=np.ascontiguousarray(values))


def head(name: str) -> dict[str, Any]:
    """Attributes that every store of a Run begins with."""
    return {"format": f"atomreel-{name}", "version": FORMAT_VERSION}
