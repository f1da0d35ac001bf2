"""Atomic writing: all or nothing under the final name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from atomreel.core.errors import InputError, RunError
from atomreel.core.files import atomic, atomic_folder, read_table, sha256, write_json, write_table, write_text


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(ValueError, match="broken"), atomic(target) as part:
        part.write_text("half")
        raise ValueError("broken")
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "store"
    for text in ("one", "two"):
        with atomic_folder(target) as part:
            (part / text).write_text(text)
    assert [p.name for p in target.iterdir()] == ["two"]
    with pytest.raises(KeyError), atomic_folder(target) as part:
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_survive(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"frame": [0, 1], "y": [0.5, np.nan], "kind": ["V_S", "é"]})
    path = tmp_path / f"t{suffix}"
    write_table(path, table, kind="atoms")
    pd.testing.assert_frame_equal(read_table(path), table)
    if suffix == ".parquet":
        assert pq.read_schema(path).metadata[b"format"] == b"atomreel-atoms"


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json", {"a": np.float32(np.nan), "b": np.arange(2), 3: (np.int64(1), {"c": np.inf})}
    )
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [0, 1], "3": [1, {"c": None}]}


def test_digest_sees_contents_and_names(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("1")
    first = sha256(tmp_path / "f")
    (tmp_path / "f" / "a").rename(tmp_path / "f" / "b")
    assert sha256(tmp_path / "f") != first and len(sha256(tmp_path / "f" / "b")) == 64


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="choose another folder"):
        write_text(tmp_path / "absent" / "a.txt", "")
    with pytest.raises(RunError, match="choose another folder"), atomic_folder(tmp_path / "absent" / "a"):
        pass
    with pytest.raises(InputError, match=r"parquet or \.csv"):
        write_table(tmp_path / "a.xlsx", pd.DataFrame(), kind="atoms")
