"""Chunks on disk and how they join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import zarr

from atomreel.core.run import start_run
from atomreel.pipeline.store import (
    Chunk,
    join_maps,
    join_table,
    read_arrays,
    read_state,
    table_chunks,
    write_chunk,
)


def test_chunks_join_in_order(tmp_path: Path) -> None:
    run, _ = start_run(tmp_path / "r", {"a": 1})
    for k in range(3):
        rows = pd.DataFrame({"frame": [2 * k, 2 * k + 1], "y": [0.5, 1.5], "kind": ["a", "b"]})
        rows = rows.assign(extra=1.0) if k == 1 else rows
        rows = rows.iloc[:0] if k == 2 else rows
        maps = np.full((2, 3, 4), float(k))
        write_chunk(
            run, k, Chunk({"defects": rows}, {"symmetry/p_square": maps, "other": np.arange(k)}, {"k": k})
        )
    table = pd.read_parquet(join_table(run, "defects", 3))
    assert table.frame.tolist() == [0, 1, 2, 3] and table.extra.isna().tolist() == [True, True, False, False]
    assert pq.ParquetFile(run.path / "defects.parquet").num_row_groups == 3
    assert pq.read_schema(run.path / "defects.parquet").metadata[b"format"] == b"atomreel-defects"
    assert [len(t) for t in table_chunks(run, "defects", 3)] == [2, 2, 0]
    assert read_state(run, 1) == {"k": 1} and list(read_arrays(run, 2, "other", "none")) == ["other"]
    path = join_maps(run, "symmetry", 3, frames=6, attrs={"step": [4, 4]})
    assert path is not None
    group = zarr.open_group(path, mode="r")
    assert group["p_square"][:, 0, 0].tolist() == [0, 0, 1, 1, 2, 2] and group.attrs["step"] == [4, 4]
    assert join_maps(run, "strain", 3, frames=6, attrs={}) is None
