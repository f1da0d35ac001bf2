"""Grains from a file to the tables and maps of a Run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.driver import run
from atomreel.pipeline.frames import frame_symmetry
from atomreel.pipeline.grains import fine_grid, frame_grains
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import plan_run
from atomreel.simulate.bravais import CLASSES

SIDE, SPACING = 200, 9.0


def two_grains(
    turns: tuple[float, float], *, rng: np.random.Generator, stretch: float = 0.0, shear: float = 0.0
) -> np.ndarray:
    """Hexagonal columns, those right of x = 96 turned by the second angle, all stretched along y and sheared along x."""
    y, x = np.mgrid[:SIDE, :SIDE]
    mean = np.full((SIDE, SIDE), 2.0)
    for half, turn in enumerate(turns):
        t = np.radians([turn, turn + 60])
        index = np.stack(np.meshgrid(np.arange(-40, 41), np.arange(-40, 41)), -1).reshape(-1, 2)
        at = index @ (SPACING * np.stack([-np.sin(t), np.cos(t)], 1))
        at = SIDE / 2 + at @ [[1 + stretch, shear], [0, 1]]
        for cy, cx in at[((at > -9) & (at < SIDE + 9)).all(1) & ((at[:, 1] > 96) == half)]:
            mean += 40 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.9**2))
    return rng.poisson(mean)


@pytest.fixture(scope="module")
def bicrystal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames: hexagonal columns, those right of x = 96 turned by 16°, then one grain alone."""
    rng = np.random.default_rng(3)
    frames = [two_grains(turns, rng=rng) for turns in ((5.0, 21.0), (5.0, 5.0))]
    path = tmp_path_factory.mktemp("grains") / "two.npy"
    np.save(path, np.array(frames, np.uint16))
    return path


@pytest.fixture(scope="module")
def finished(bicrystal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    told = ["symmetry.passes=4", "input.pixel_A=0.27", "columns.contrast=bright", "drift.measure=false"]
    return run(bicrystal, recipe=load_recipe(overrides=told), out=tmp_path_factory.mktemp("run") / "two")


def test_a_run_has_its_grains(finished: Path) -> None:
    grains = pd.read_parquet(finished / "grains.parquet")
    edges = pd.read_parquet(finished / "boundaries.parquet")
    assert grains.frame.tolist() == [0, 0, 1] and grains.grain.tolist() == [1, 2, 1]
    assert (grains.symmetry == "hexagonal").all() and grains.p.min() > 0.7
    assert grains.a_A.to_numpy() == pytest.approx(SPACING * 0.27, abs=0.02)
    assert grains.area_nm2[2] == pytest.approx((SIDE * 0.027) ** 2) and grains.area_px2_err[2] == 0
    assert grains.area_px2[0] == pytest.approx(104 * SIDE, abs=3 * grains.area_px2_err[0] + 100)
    assert edges.frame.tolist() == [0] and abs(edges.turn_deg[0]) == pytest.approx(16, abs=0.4)
    assert edges.length_px[0] == pytest.approx(SIDE, rel=0.1)


def test_movies_have_mean_sizes(finished: Path) -> None:
    phases = pd.read_parquet(finished / "phases.parquet")
    assert phases.grains.tolist() == [2, 1]
    assert phases.grain_area_px2.tolist() == pytest.approx([SIDE**2 / 2, SIDE**2], rel=0.02)
    assert phases.grain_area_nm2.tolist() == pytest.approx((phases.grain_area_px2 * 0.027**2).tolist())
    assert phases.grain_area_px2_err[0] > 0 == phases.grain_area_px2_err[1]


def test_maps_of_windows_and_of_places(finished: Path) -> None:
    maps = zarr.open_group(finished / "symmetry.zarr", mode="r")
    assert {"grain", "lattice_change_deg", "within_shear", "entropy", "mutual_information"} <= set(maps)
    x = maps.attrs["origin"][1] + maps.attrs["step"][1] * np.arange(maps["grain"].shape[2])
    near = np.abs(x - 96) < 15
    assert (maps["grain"][0][:, near] == 0).all() and (maps["grain"][1] == 1).all()
    change = maps["lattice_change_deg"][:]
    assert np.nanmin(change[0][:, near]) > 8 > 2 > np.nanmax(change[1])
    assert (maps["within_shear"][1] == CLASSES.index("hexagonal")).all()
    area = zarr.open_group(finished / "grains.zarr", mode="r")
    step = area.attrs["step"][0]
    assert area["grain"].shape == (2, -(-SIDE // int(step)), -(-SIDE // int(step)))
    assert (area["grain"][0] > 0).all() and area.attrs["origin"] == [(step - 1) / 2] * 2


def test_a_frame_alone(bicrystal: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.passes=0", "symmetry.grain_deg=25", "columns.contrast=bright"])
    plan = plan_run(open_source(bicrystal, recipe.input), recipe)
    data = plan.columns.source.clean(0)[0]
    before = data.copy()
    found = frame_grains(plan, 0, data, symmetry=frame_symmetry(plan, 0, data))
    assert found.numbers["grains"] <= 1 and not len(
        found.tables["boundaries"]
    )  # 16° are within the tolerance
    assert "grain_area_nm2" not in found.numbers
    assert found.area.shape == tuple(-(-SIDE // int(s)) for s in fine_grid(plan)["step"])
    np.testing.assert_array_equal(data, before)


def test_a_stretch_that_both_grains_share_is_undone(tmp_path: Path) -> None:
    """Five per cent, as a scan that is badly calibrated; in one grain alone it could be the crystal's own."""
    told = ["symmetry.passes=0", "symmetry.grain_deg=5", "columns.contrast=bright"]
    recipe, rng = load_recipe(overrides=told), np.random.default_rng(8)
    shares = []
    for turns in ((5.0, 31.0), (5.0, 5.0)):
        np.save(tmp_path / "one.npy", two_grains(turns, rng=rng, stretch=0.05)[None].astype(np.uint16))
        plan = plan_run(open_source(tmp_path / "one.npy", recipe.input), recipe)
        data = plan.columns.source.clean(0)[0]
        found = frame_grains(plan, 0, data, symmetry=frame_symmetry(plan, 0, data))
        inside = found.maps["within_shear"][found.maps["grain"] > 0]
        shares.append((inside == CLASSES.index("hexagonal")).mean())
        table = found.tables["grains"]
        if turns[0] != turns[1]:
            assert table.image_e.to_numpy() == pytest.approx(0.05, abs=0.01)
            assert table.image_s.to_numpy() == pytest.approx(0, abs=0.01)
        else:
            assert table.image_e.isna().all()
    assert shares[0] > 0.9 and shares[1] < 0.1


def test_a_known_material_undoes_stretch_and_shear(tmp_path: Path) -> None:
    """One grain, of which nothing but the material tells that it is hexagonal."""
    image = two_grains((5.0, 5.0), rng=np.random.default_rng(9), stretch=0.05, shear=0.04)
    np.save(tmp_path / "one.npy", image[None].astype(np.uint16))
    shares = []
    for told in ([], ["calibrate.material=ws2"]):
        recipe = load_recipe(overrides=["symmetry.passes=0", "columns.contrast=bright", *told])
        plan = plan_run(open_source(tmp_path / "one.npy", recipe.input), recipe)
        data = plan.columns.source.clean(0)[0]
        found = frame_grains(plan, 0, data, symmetry=frame_symmetry(plan, 0, data))
        shares.append((found.maps["within_shear"] == CLASSES.index("hexagonal")).mean())
    assert shares[0] < 0.1 and shares[1] > 0.9
