"""Several files in one call."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
import zarr

from atomreel.core.errors import AtomreelWarning, InputError
from atomreel.core.field import Field
from atomreel.core.files import read_table
from atomreel.core.recipe import load_recipe
from atomreel.core.tables import empty_table
from atomreel.pipeline import batch
from atomreel.pipeline.batch import (
    describe_file,
    expand,
    find_in_files,
    heights_of_files,
    map_file,
    run_files,
    summarise,
    symmetry_of_files,
)
from atomreel.pipeline.grains import FrameGrains
from atomreel.pipeline.windows import Windows
from atomreel.predict.heights import Heights


def test_folders_are_opened_and_stores_are_files(movie: Path, tmp_path: Path) -> None:
    for name in ("b.tif", "a.npy", ".hidden.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    zarr.open_group(tmp_path / "c.zarr", mode="w")
    assert [p.name for p in expand([tmp_path])] == ["a.npy", "b.tif", "c.zarr"]
    assert expand([tmp_path / "c.zarr", movie]) == [tmp_path / "c.zarr", movie]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image or movie file"):
        expand([tmp_path / "empty"])


def test_where_no_file_is_usable_the_summary_says_why(tmp_path: Path) -> None:
    for name in ("a.tif", "a.npy"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 files .*summary\.csv"):
        run_files([tmp_path / "a.tif", tmp_path / "a.npy"], load_recipe(), out=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert len(table) == 2 and table.error.str.len().gt(10).all()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["summary.csv"]


def test_a_summary_compares_runs(finished: Path) -> None:
    row = summarise(finished)
    assert row["frames"] == 5 and 50 < row["columns_per_frame"] < 90 and row["symmetry"] == "hexagonal"
    assert row["a_px"] == pytest.approx(9, abs=0.1) and 0.01 < row["median_err_px"] < 0.5


def test_information_about_a_file(movie: Path) -> None:
    about = describe_file(movie, load_recipe(overrides=["input.pixel_A=0.2"]))
    assert about["frames"] == 5 and "0.2" in str(about)


def test_tables_and_maps_need_the_right_ending(movie: Path, tmp_path: Path) -> None:
    recipe = load_recipe()
    for call in (find_in_files, symmetry_of_files):
        with pytest.raises(InputError, match=r"\.parquet or \.csv"):
            call([movie], recipe, out=tmp_path / "t.zarr")
    with pytest.raises(InputError, match="--whole"):
        map_file([movie], recipe, out=tmp_path / "t.csv")
    with pytest.raises(InputError, match="one file"):
        map_file([movie, movie], recipe, out=tmp_path / "t.zarr")
    assert not list(tmp_path.iterdir())


def test_tables_number_frames_as_the_file_does(movie: Path, tmp_path: Path) -> None:
    """A table belongs to no Run, so nothing else could lead back to the recorded frame."""
    told = ["input.frames=1::2", "symmetry.passes=0", "columns.contrast=bright"]
    recipe = load_recipe(overrides=told)
    table = pd.read_csv(symmetry_of_files([movie], recipe, out=tmp_path / "s.csv"))
    assert table.frame.tolist() == [1, 3]
    found = pd.read_csv(find_in_files([movie], recipe, out=tmp_path / "a.csv"))
    assert found.frame.unique().tolist() == [1, 3]


def test_a_focal_series_becomes_one_table(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixel size, dose and chosen frames reach the reader; the mask, the probabilities and its doubts reach the user."""
    seen: dict[str, object] = {}

    def reader(series: np.ndarray, **given: object) -> Heights:
        seen.update(given, shape=series.shape)
        table = pd.DataFrame({"y": [10.2, 60.0], "x": [20.0, 9.0], "height": [2, 1], "height_p": [0.9, 0.6]})
        return Heights(table, np.array([[0.1, 0.9], [0.6, 0.4]]), ("the focus is odd",))

    monkeypatch.setattr(batch, "find_heights", reader)
    mask = np.zeros((72, 72), np.uint8)
    mask[:40] = 255
    imageio.imwrite(tmp_path / "mask.png", mask)
    told = ["input.pixel_A=0.12", "input.dose=900", "input.frames=:3", f"input.mask={tmp_path / 'mask.png'}"]
    with pytest.warns(AtomreelWarning, match=r"lattice\.tif: the focus is odd"):
        done = heights_of_files(
            [movie], load_recipe(overrides=told), out=tmp_path / "h.parquet", model="mine"
        )
    assert seen == {"pixel": 0.12, "dose": 900.0, "model": "mine", "shape": (3, 72, 72)}
    table = pd.read_parquet(done)
    assert table.file.tolist() == ["lattice.tif"] and table.height.tolist() == [2]
    assert table[["p_1", "p_2"]].to_numpy().tolist() == [[0.1, 0.9]]
    with pytest.raises(InputError, match="pixel size unknown"):
        heights_of_files([movie], load_recipe(), out=tmp_path / "h.csv")


def test_a_map_of_every_frame(movie: Path, tmp_path: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.window=40", "symmetry.step=16", "symmetry.passes=2"])
    group = zarr.open_group(map_file([movie], recipe, out=tmp_path / "s.zarr"), mode="r")
    assert group["p_noise"].shape == (5, 3, 3) and group["std_noise"].shape == (5, 3, 3)
    assert group.attrs["origin"] == [19.5, 19.5] and group.attrs["step"] == [16, 16]
    assert np.isfinite(group["p_noise"][:]).all()
    assert group["grain"].shape == (5, 3, 3) and group["grain_area"].shape == (5, 36, 36)
    assert group.attrs["area_step"] == [2, 2] and (group["grain_area"][:] == 1).mean() > 0.9
    grains = read_table(tmp_path / "s.grains.parquet")
    assert grains.frame.tolist() == [0, 1, 2, 3, 4] and (grains.symmetry == "hexagonal").all()
    assert not len(read_table(tmp_path / "s.boundaries.parquet"))


class Symmetry:
    """Stands for the network: frame i is full of i. Remembers how many fields were alive at most."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.alive: list[weakref.ref[Field]] = []
        self.most, self.fails_at = 0, fails_at

    def __call__(self, plan: object, i: int, data: np.ndarray) -> Field:
        if i == self.fails_at:
            raise InputError("this frame cannot be read")
        field = Field({"p_noise": np.full((3, 4), i, np.float32)}, origin=(19.5, 19.5), step=(16.0, 16.0))
        self.alive = [ref for ref in self.alive if ref() is not None] + [weakref.ref(field.maps["p_noise"])]
        self.most = max(self.most, len(self.alive))
        return field


def no_grains(plan: object, i: int, data: np.ndarray, *, symmetry: Field) -> FrameGrains:
    tables = {name: empty_table(name) for name in ("grains", "boundaries")}
    return FrameGrains({}, np.zeros((2, 2), np.int32), tables, {})


def planned(count: int) -> SimpleNamespace:
    source = SimpleNamespace(clean=lambda i: (np.zeros((8, 8)), ()), frames=tuple(range(7, 7 + count)))
    return SimpleNamespace(
        movie=range(count),
        columns=SimpleNamespace(source=source),
        windows=Windows(40, (16.0, 16.0), flush=False),
        recipe=load_recipe(),
    )


def test_maps_of_a_long_movie_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Symmetry()
    monkeypatch.setattr(batch, "open_source", lambda *_: None)
    monkeypatch.setattr(batch, "plan_run", lambda *_: planned(150))
    monkeypatch.setattr(batch, "frame_symmetry", seen)
    monkeypatch.setattr(batch, "frame_grains", no_grains)
    group = zarr.open_group(map_file([tmp_path], load_recipe(), out=tmp_path / "s.zarr"), mode="r")
    assert np.array_equal(group["p_noise"][:, 2, 3], np.arange(150))
    assert seen.most < 40
    assert group.attrs["source_frames"] == list(range(7, 157))
    assert group.attrs["format"] == "atomreel-symmetry"


def test_a_map_that_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "open_source", lambda *_: None)
    monkeypatch.setattr(batch, "plan_run", lambda *_: planned(90))
    monkeypatch.setattr(batch, "frame_symmetry", Symmetry(fails_at=70))
    monkeypatch.setattr(batch, "frame_grains", no_grains)
    with pytest.raises(InputError, match="cannot be read"):
        map_file([tmp_path], load_recipe(), out=tmp_path / "s.zarr")
    assert not list(tmp_path.iterdir())
