"""Crops from the file of a Run; inner atoms of dopants whose neighbours are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from sklearn.metrics import adjusted_rand_score

from atomreel.core.errors import InputError
from atomreel.core.files import sha256
from atomreel.pipeline import looks
from atomreel.pipeline.complexes import Complex
from atomreel.pipeline.looks import inner_classes, look_at, open_frames
from atomreel.simulate.movie import simulate_ws2_movie
from atomreel.track.sites import Sites


def about(file: Path, data: np.ndarray, **more: str) -> dict[str, object]:
    head = {"path": file.name, "sha256": sha256(file), "frames": len(data), "shape": list(data.shape[1:])}
    return {"input": head, "recipe": {"input": {"data_bar": "keep", **more}}}


def test_the_file_is_found_by_its_content_or_its_absence_is_told(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 99, (4, 40, 50)).astype(np.uint16)
    file, run = tmp_path / "movie.tif", tmp_path / "a.atomreel"
    tifffile.imwrite(file, data, photometric="minisblack")
    told = about(file, data)
    source, why = open_frames(run, told)
    assert source is not None and why == "" and np.array_equal(source.clean(3)[0], data[3])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    file.rename(moved / "renamed.tif")
    assert open_frames(run, told)[0] is None and "--movie" in open_frames(run, told)[1]
    source, _ = open_frames(run, told, moved / "renamed.tif")
    assert source is not None
    tifffile.imwrite(file, data + 1, photometric="minisblack")
    assert open_frames(run, told)[0] is None
    with pytest.raises(InputError, match="not the file"):
        open_frames(run, told, file)


def test_frames_are_those_that_the_run_chose(tmp_path: Path) -> None:
    data = np.arange(5)[:, None, None] * np.ones((1, 40, 50), dtype=np.uint16) + np.arange(
        50, dtype=np.uint16
    )
    file = tmp_path / "movie.tif"
    tifffile.imwrite(file, data.astype(np.uint16), photometric="minisblack")
    told = about(file, data[1::2][:, 4:30], frames="1::2", roi="4:30,0:50")
    source, _ = open_frames(tmp_path / "run", told)
    assert source is not None and source.clean(1)[0].shape == (26, 50) and source.clean(1)[0][0, 0] == 3
    told["input"]["frames"] = 5
    assert "not the frames" in open_frames(tmp_path / "run", told)[1]


def test_defects_of_a_movie_fall_into_their_kinds(tmp_path: Path) -> None:
    movie = simulate_ws2_movie(5, frames=12)
    file = tmp_path / "movie.tif"
    tifffile.imwrite(file, movie.frames, photometric="minisblack")
    source, _ = open_frames(tmp_path / "run", about(file, movie.frames))
    assert source is not None
    found = look_at(source, movie.defects, spacing=9.1)
    assert found.images.shape[1:] == (27, 27) and len(found.table) == len(found.images)
    kind = found.table["kind"].str.replace("+V_S", "")
    assert adjusted_rand_score(kind, found.table["class"]) > 0.97
    means = found.mean_of(found.table["kind"])
    assert means["Mo_W"][13, 13] > means["V_S"][13, 13]


def test_of_many_defects_some_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie = simulate_ws2_movie(5, frames=6)
    file = tmp_path / "movie.tif"
    tifffile.imwrite(file, movie.frames, photometric="minisblack")
    source, _ = open_frames(tmp_path / "run", about(file, movie.frames))
    assert source is not None
    monkeypatch.setattr(looks, "PIXELS", 40 * 27**2)
    table = look_at(source, movie.defects, spacing=9.1).table
    assert len(table) <= 40 and table["frame"].nunique() == 6


def test_sub_classes_are_the_states() -> None:
    """Twelve dopants of 40 frames that turn at random, drawn without any lattice; the last has a neighbour beyond the rim."""
    rng, sides = np.random.default_rng(0), np.deg2rad([-100.0, 20.0, 140.0])
    middles = 60.0 * np.stack(np.divmod(np.arange(12), 4), axis=1) + 40
    corners = middles[:, None] + 9.0 * np.stack([np.sin(sides), np.cos(sides)], axis=1)
    place = np.concatenate([middles, corners.reshape(-1, 2)])
    slots = np.full((len(place), 3), -1)
    slots[:12] = 12 + np.arange(36).reshape(12, 3)
    slots[11, 0] = -1
    states = rng.integers(0, 4, (12, 40))
    atoms, rows = [], []
    for t in range(40):
        light = np.r_[np.full(12, 0.5), np.ones(36)]
        lack = np.flatnonzero(states[:, t] > 0)
        light[12 + 3 * lack + states[lack, t] - 1] = 0.5
        where = place + np.array([0.3 * t, -0.2 * t]) + rng.normal(0, 0.2, place.shape)
        own = pd.DataFrame({"frame": t, "y": where[:, 0], "x": where[:, 1]})
        atoms.append(own.assign(intensity=light + 0.06 * rng.standard_normal(48)))
        rows.append(pd.DataFrame({"track": range(12), "frame": t, "site": range(12), "state": states[:, t]}))
    motion = pd.DataFrame(
        {"frame": range(40), "dy": 0.3 * np.arange(40), "dx": -0.2 * np.arange(40), "turn_deg": 0.0}
    )
    table = pd.DataFrame({"site": range(48), "y": place[:, 0], "x": place[:, 1]})
    sites = Sites(table, pd.concat(atoms, ignore_index=True), motion, np.ones((48, 40)), 9.0, 0)
    complex_ = Complex("Mo_W", "V_S", pd.concat(rows, ignore_index=True), slots, None, None)  # type: ignore[arg-type]
    found = inner_classes(sites, complex_)
    assert set(found["track"]) == set(range(11))
    assert (found["sub_class"] == found["state"]).mean() > 0.99
