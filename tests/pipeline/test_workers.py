"""Frames on several processes: the same Run, errors that come through, and how many there are."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import zarr

from atomreel.core.errors import InputError, RunError
from atomreel.core.recipe import load_recipe
from atomreel.pipeline import workers
from atomreel.pipeline.driver import identify, run
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import plan_run
from atomreel.pipeline.workers import count_workers, frame_workers
from tests.pipeline.conftest import QUICK

TABLES = ("atoms", "lattice", "phases", "defects", "tracks", "drift")


@pytest.mark.parametrize(
    ("asked", "frames", "cores", "threads", "count"),
    [
        (0, 59, 8, "", 1),
        (0, 60, 8, "", 2),
        (0, 5000, 4, "", 4),
        (0, 5000, 64, "", 8),
        (0, 5000, 8, "3", 3),
        (0, 5000, 8, "1", 1),
        (3, 5, 2, "1", 3),
        (3, 2, 8, "", 2),
        (0, 0, 8, "", 1),
    ],
)
def test_how_many(monkeypatch, asked, frames, cores, threads, count):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert count_workers(asked, frames) == count


@pytest.mark.slow
def test_two_processes_make_the_same_run(finished: Path, movie: Path, tmp_path: Path):
    recipe = load_recipe(overrides=(*QUICK, "compute.workers=2"))
    out = run(movie, recipe=recipe, out=tmp_path / "run")
    for name in TABLES:
        one, other = (pd.read_parquet(place / f"{name}.parquet") for place in (out, finished))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    for name in ("symmetry", "strain", "preview"):
        maps, others = (
            dict(zarr.open_group(place / f"{name}.zarr", mode="r").arrays()) for place in (out, finished)
        )
        assert maps.keys() == others.keys()
        for key in maps:
            assert np.array_equal(maps[key][:], others[key][:], equal_nan=True), key


@pytest.mark.slow
def test_results_come_in_order_and_a_dead_process_is_an_error(movie: Path):
    recipe = load_recipe(overrides=(*QUICK, "compute.workers=2"))
    plan = plan_run(open_source(movie, recipe.input), recipe)
    with frame_workers(movie, recipe, frames=5) as analyse:
        frames = list(analyse(plan, [3, 1, 0]))
        assert [frame.number for frame in frames] == [3, 1, 0]
        assert frames[2].result.residual is not None  # of the frame that the report shows
        assert frames[0].result.residual is None
        more = analyse(plan, range(5))
        next(more)
        for process in _children():
            os.kill(process, signal.SIGKILL)
        time.sleep(1)
        with pytest.raises(RunError, match="goes on from there"):
            list(more)
        with pytest.raises(RunError, match="goes on from there"):
            list(analyse(plan, range(5)))
    assert not _children()


@pytest.mark.slow
def test_an_error_of_a_process_is_told(movie: Path, tmp_path: Path):
    recipe = load_recipe(overrides=(*QUICK, "compute.workers=2"))
    plan = plan_run(open_source(movie, recipe.input), recipe)
    with (
        frame_workers(tmp_path / "gone.tif", recipe, frames=5) as analyse,
        pytest.raises(InputError, match=r"gone\.tif"),
    ):
        list(analyse(plan, range(5)))


def test_the_number_of_processes_is_not_what_makes_a_run(movie: Path):
    one, other = (load_recipe(overrides=(f"compute.workers={n}",)) for n in (0, 3))
    assert identify(movie, one) == identify(movie, other)


def test_one_process_is_this_one(movie: Path, monkeypatch):
    recipe = load_recipe(overrides=(*QUICK, "compute.workers=1"))
    plan = plan_run(open_source(movie, recipe.input), recipe)
    monkeypatch.setattr(workers, "analyse_frame", lambda plan, i, data: (os.getpid(), i, data.shape))
    with frame_workers(movie, recipe, frames=5000) as analyse:
        found = [frame.result for frame in analyse(plan, [2, 0])]
    assert found == [(os.getpid(), 2, (72, 72)), (os.getpid(), 0, (72, 72))]


def _children() -> list[int]:
    """Processes that this one started to analyse frames and that are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"loky" in line and b"resource_tracker" not in line:
            found.append(int(entry.name))
    return found
