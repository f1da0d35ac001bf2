from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
import zarr

from atomreel.core.errors import InputError, RecipeError
from atomreel.core.recipe import load_recipe
from atomreel.pipeline.batch import map_file
from atomreel.pipeline.source import open_source
from atomreel.pipeline.whole import scan_drift, verdicts, whole_symmetry
from atomreel.simulate.bravais import CLASSES

QUICK = ("symmetry.passes=0",)


def crystal(s: float, e: float, *, gamma: float = 60.0, shift: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> npt.NDArray[np.float32]:  # fmt: skip
    """A crystal drawn atom by atom and then imaged with drift: y′ = (1 + e) y, x′ = x + s y."""
    rng = np.random.default_rng(seed)
    t = np.deg2rad([11, 11 + gamma])
    vectors = 12.0 * np.stack([-np.sin(t), np.cos(t)], 1)
    index = np.stack(np.meshgrid(np.arange(-25, 26), np.arange(-25, 26)), -1).reshape(-1, 2)
    at = index @ vectors + np.array([3.2, 1.1]) + 0.2 * rng.standard_normal((len(index), 2))
    y, x = (1 + e) * at[:, 0] + 72 + shift[0], at[:, 1] + s * at[:, 0] + 72 + shift[1]
    grid = np.arange(144)
    down, over = (np.exp(-((grid - c[:, None]) ** 2) / (2 * 2.0**2)) for c in (y, x))
    return rng.poisson(30 * (down.T @ over + 0.2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None:
    """All of these run networks."""


def table(tmp_path: Path, *frames: npt.NDArray[np.float32], sets: tuple[str, ...] = ()) -> pd.DataFrame:
    tifffile.imwrite(tmp_path / "m.tif", np.stack(frames), photometric="minisblack")
    recipe = load_recipe(overrides=[*QUICK, *sets])
    return whole_symmetry(open_source(tmp_path / "m.tif", recipe.input), recipe)


def test_a_drifted_hexagonal_crystal_is_oblique_as_imaged_and_may_be_hexagonal(tmp_path: Path) -> None:
    found = table(
        tmp_path, crystal(0, 0), crystal(0.03, 0.012), np.random.default_rng(0).poisson(5, (144, 144)).astype(np.float32),
        sets=("symmetry.shear=0.04", "symmetry.scan=rows", "input.pixel_A=0.1"),
    )  # fmt: skip
    plain, sheared, noise = (found.iloc[i] for i in range(3))
    assert plain["class"] == "hexagonal" and plain.verdict == "hexagonal as imaged"
    assert "hexagonal" in sheared.consistent.split() and "hexagonal within 4 % shear" in sheared.verdict
    assert sheared["class"] in ("oblique", "centred") and sheared.verdict.startswith(sheared["class"])
    assert sheared.shear_hexagonal == pytest.approx(
        np.hypot(0.03, 0.012), abs=4 * sheared.shear_hexagonal_err
    )
    assert sheared.shear_hexagonal_err < 0.004 and sheared.shear_square > 0.3
    assert plain.a_A == pytest.approx(1.2, abs=4 * plain.a_A_err)
    assert noise["class"] == "noise" and noise.verdict == "no lattice" and np.isnan(noise.shear_square)


def test_a_tighter_bound_leaves_fewer_classes(tmp_path: Path) -> None:
    image = crystal(0.05, 0.0)
    wide = table(tmp_path, image, sets=("symmetry.shear=0.06",)).iloc[0]
    tight = table(tmp_path, image, sets=("symmetry.shear=0.01",)).iloc[0]
    assert "hexagonal" in wide.consistent and "hexagonal" not in tight.consistent
    assert "no more symmetric class within 1 % shear" in tight.verdict or "centred" in tight.consistent


def test_drift_between_frames_is_undone_within_them(tmp_path: Path) -> None:
    """The crystal moves by (3, 6) px per frame of 144 lines: s = 6/144, e = 3/144 in each frame."""
    drift = [(3.0 * i, 6.0 * i) for i in range(6)]
    frames = [crystal(6 / 144, 3 / 144, shift=at) for at in drift]
    sets = ("symmetry.scan=rows", "symmetry.drift=true", "symmetry.shear=0.005")
    found = table(tmp_path, *frames, sets=sets)
    assert (found.shear_hexagonal < 3.5 * found.shear_hexagonal_err + 0.004).all()
    assert found.verdict.str.contains("undone").all()
    left = table(tmp_path, *frames, sets=("symmetry.shear=0.005",))
    assert (left.shear_hexagonal > 0.04).all()
    with pytest.raises(RecipeError, match=r"symmetry\.scan"):
        table(tmp_path, *frames, sets=("symmetry.drift=true",))
    with pytest.raises(InputError, match="one frame"):
        table(tmp_path, frames[0], sets=("symmetry.drift=true", "symmetry.scan=rows"))


def test_drift_is_undone_in_maps_too(tmp_path: Path) -> None:
    """The same movie as a map: oblique windows as imaged, hexagonal ones once the drift between the frames is undone."""
    frames = [crystal(6 / 144, 3 / 144, shift=(3.0 * i, 6.0 * i)) for i in range(4)]
    tifffile.imwrite(tmp_path / "m.tif", np.stack(frames), photometric="minisblack")
    shares = []
    for told in ((), ("symmetry.drift=true",)):
        sets = [
            "symmetry.shear=0.005",
            "symmetry.scan=rows",
            "symmetry.step=48",
            "symmetry.window=96",
            *QUICK,
            *told,
        ]
        path = map_file([tmp_path / "m.tif"], load_recipe(overrides=sets), out=tmp_path / f"{len(told)}.zarr")
        classes = zarr.open_group(path, mode="r")["within_shear"][...]
        shares.append(float(np.mean(classes == CLASSES.index("hexagonal"))))
    assert shares[0] < 0.1 and shares[1] > 0.8


def test_pixels_that_are_not_square_scale_the_shear_of_drift(tmp_path: Path) -> None:
    """s is a length along the lines over one across them: on the specimen it grows with the pixels' width."""
    frames = [crystal(0, 0, shift=(0.0, 3.0 * i)) for i in range(3)]
    tifffile.imwrite(tmp_path / "m.tif", np.stack(frames), photometric="minisblack")
    recipe = load_recipe(overrides=["symmetry.scan=rows", "symmetry.drift=true"])
    source = open_source(tmp_path / "m.tif", recipe.input)
    found = []
    for pixel in ((0.1, 0.1), (0.1, 0.2)):
        drifts = scan_drift(replace(source, movie=replace(source.movie, pixel=pixel)), recipe)
        assert drifts is not None
        found.append(drifts[1].s)
    assert found[0] == pytest.approx(3 / 144, rel=0.05) and found[1] == pytest.approx(2 * found[0])


def test_rows_depend_on_the_frame_number_alone(tmp_path: Path) -> None:
    frames = [crystal(0, 0, seed=k) for k in range(3)]
    told = ("symmetry.passes=3",)
    whole, part = (
        table(tmp_path, *frames, sets=told),
        table(tmp_path, *frames, sets=(*told, "input.frames=1:")),
    )
    assert part.frame.tolist() == [1, 2]
    pd.testing.assert_frame_equal(whole.iloc[1:].reset_index(drop=True), part)


def test_few_rows_are_told_one_by_one_and_many_by_class(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"file": "a.tif", "frame": range(20), "class": ["square"] * 15 + ["noise"] * 5, "verdict": "x"}
    )
    rows.to_csv(tmp_path / "many.csv")
    assert verdicts(tmp_path / "many.csv") == ["20 frames: square 15, noise 5"]
    rows[:2].to_parquet(tmp_path / "few.parquet")
    assert verdicts(tmp_path / "few.parquet") == ["a.tif frame 0: x", "a.tif frame 1: x"]
