"""What is settled before the first frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import (
    BLOCK,
    central_block,
    describe_calibration,
    describe_plan,
    plan_columns,
    plan_run,
)


def test_a_lattice_is_surveyed_alike_every_time(movie: Path) -> None:
    recipe = load_recipe(overrides=["calibrate.material=graphene", "run.preview=3"])
    plan, again = (plan_run(open_source(movie, recipe.input), recipe) for _ in range(2))
    assert describe_plan(plan) == describe_plan(again) and plan.preview == (0, 2, 4)
    assert describe_plan(plan)["lattice_verdict"] == "hexagonal as imaged"
    assert plan.reference is not None and plan.reference.a == pytest.approx(9, abs=0.2) == plan.spacing
    assert 36 <= plan.windows.side <= 72 and min(plan.windows.step) >= 1 and plan.strain_step >= 1
    assert plan.calibration is not None and plan.pixel == plan.calibration.pixel
    about = describe_calibration(plan, plan.calibration)
    assert about["material"] == "graphene" and "pixel_before" not in about
    assert plan.pixel[0] == pytest.approx(2.46 / 9, rel=0.03)


def test_given_windows_win(movie: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.window=32", "symmetry.step=8"])
    plan = plan_run(open_source(movie, recipe.input), recipe)
    assert (plan.windows.side, plan.windows.step) == (32, (8, 8))
    assert any("lattice vectors wide" in text for text in plan.warnings)


def test_windows_in_angstrom_use_the_calibrated_pixel(movie: Path) -> None:
    """2.46 Å are 9 px: 14.76 Å are 54 px, whatever the file says about its pixels."""
    told = [
        "calibrate.material=graphene",
        "symmetry.window_A=14.76",
        "symmetry.step_A=1.23",
        "input.pixel_A=0.3",
    ]
    recipe = load_recipe(overrides=told)
    plan = plan_run(open_source(movie, recipe.input), recipe)
    assert plan.windows.side == pytest.approx(54, abs=2)
    assert plan.windows.step[0] == pytest.approx(4.5, abs=0.15) and not plan.windows.flush


def test_without_a_lattice_calibration_is_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((64, 64), 5.0, np.float32))
    recipe = load_recipe(overrides=["calibrate.material=graphene"])
    plan = plan_run(open_source(tmp_path / "flat.npy", recipe.input), recipe)
    assert plan.reference is None and plan.calibration is None and plan.cell is None
    assert any("could not calibrate" in text for text in plan.warnings) and plan.spacing > 0


def test_of_very_large_frames_the_middle_is_surveyed(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((20, 3 * BLOCK), np.uint8))
    movie = open_source(tmp_path / "wide.npy", load_recipe().input).movie
    assert central_block(movie).shape == (20, BLOCK) and central_block(movie)[0].shape == (20, BLOCK)


def test_a_sample_without_columns_leaves_the_species_of_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:128, :128]
    place = [(4 + 10 * row, 4 + 10 * column, (row + column) % 2) for row in range(13) for column in range(13)]
    mean = sum((100 + 150 * b) * np.exp(-((y - i) ** 2 + (x - j) ** 2) / (2 * 2.2**2)) for i, j, b in place)
    frames = rng.poisson(np.stack([mean + 10, mean + 10, np.full((128, 128), 10.0)]))
    np.save(tmp_path / "fades.npy", frames.astype(np.uint16))
    recipe = load_recipe(overrides=["columns.threshold=0.9", "columns.contrast=bright"])
    plan = plan_columns(open_source(tmp_path / "fades.npy", recipe.input), recipe)
    assert [len(table) > 100 for table in plan.samples] == [True, True, False]
    assert plan.samples[2].empty and plan.species is not None and len(plan.species.names) == 2
