"""A run from start to end: what it writes, how it resumes, what it refuses."""

from __future__ import annotations

import shutil
import signal
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr

from atomreel.core.errors import AtomreelWarning, InputError, RunError, UnknownNameError
from atomreel.core.recipe import load_recipe
from atomreel.core.run import RunFolder
from atomreel.pipeline import driver
from atomreel.pipeline.driver import default_folder, identify, run

QUICK = ("symmetry.passes=0", "run.preview=3", "run.chunk=2")
TABLES = ["atoms", "lattice", "phases", "defects", "tracks", "events", "drift"]
STORES = ["symmetry", "strain", "preview", "cell", "aligned"]
KILLS = 20


def test_everything_is_there_and_says_what_it_is(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    assert {f"{t}.parquet" for t in TABLES} | {f"{s}.zarr" for s in STORES} <= names
    assert {"run.toml", "log.jsonl", "quality.json", "rates.json", "report.html", "figures"} <= names
    assert not list(finished.rglob(".*")), "temporary names are left"
    for table in TABLES:
        assert (
            pq.read_schema(finished / f"{table}.parquet").metadata[b"format"] == f"atomreel-{table}".encode()
        )
    for store in STORES:
        assert zarr.open_group(finished / f"{store}.zarr", mode="r").attrs["format"] == f"atomreel-{store}"
    about = tomllib.loads((finished / "run.toml").read_text())
    assert about["input"]["frames"] == 5 and about["input"]["shape"] == [72, 72]
    assert about["recipe"]["run"]["chunk"] == 2 and set(about["models"]) == {"columns", "bravais"}
    assert about["survey"]["bright"] is True and about["survey"]["spacing_px"] == pytest.approx(9, rel=0.3)


def test_the_lattice_is_found(finished: Path) -> None:
    atoms = pd.read_parquet(finished / "atoms.parquet")
    assert atoms.groupby("frame").size().between(50, 80).all() and atoms.frame.nunique() == 5
    lattice = pd.read_parquet(finished / "lattice.parquet").query("grain == 0")
    assert lattice.a_px.median() == pytest.approx(9, abs=0.1)
    assert lattice.gamma_deg.median() == pytest.approx(60, abs=1)
    drift = pd.read_parquet(finished / "drift.parquet")
    assert drift[["dy", "dx"]].abs().max().max() < 0.2


def test_a_finished_run_is_left_alone(finished: Path, movie: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.rglob("*") if p.is_file()}
    with pytest.warns(AtomreelWarning, match="finished before; nothing was changed"):
        assert run(movie, recipe=load_recipe(overrides=QUICK), out=finished) == finished
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.rglob("*") if p.is_file()} == before
    with pytest.raises(RunError, match="another input, recipe or version"):
        run(movie, out=finished)


def test_what_a_run_is_not_written_into(movie: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a Run"):
        run(movie, out=full)
    with pytest.raises(RunError, match="is a file"):
        run(movie, out=full / "thesis.txt")
    with pytest.raises(RunError, match="cannot be created"):
        run(movie, out=full / "thesis.txt" / "run")
    assert [p.name for p in full.iterdir()] == ["thesis.txt"]


def test_an_unfinished_run_is_of_one_input_and_recipe(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = load_recipe(overrides=QUICK), tmp_path / "run"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "plan_run", stop)
    with pytest.raises(KeyboardInterrupt):
        run(movie, recipe=recipe, out=out)
    assert RunFolder(out).plan.is_file() and not RunFolder(out).finished
    with pytest.raises(RunError, match="unfinished Run of another"):
        run(movie, recipe=load_recipe(overrides=[*QUICK, "run.seed=1"]), out=out)
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, tifffile.imread(movie) + 1)
    with pytest.raises(RunError, match="unfinished Run of another"):
        run(other, recipe=recipe, out=out)
    RunFolder(out).plan.write_text("{")
    with pytest.raises(RunError, match="unfinished Run of another"):
        run(movie, recipe=recipe, out=out)


def test_an_unusable_input_leaves_nothing(movie: Path, tmp_path: Path) -> None:
    data = np.ones((6, 64, 64), np.float32)
    data[:3] = np.nan
    np.save(tmp_path / "nan.npy", data)
    with pytest.raises(InputError, match=r"nan\.npy: not one finite pixel"):
        run(tmp_path / "nan.npy", recipe=load_recipe(overrides=["input.frames=:3"]), out=tmp_path / "run")
    with pytest.raises(UnknownNameError, match="graphene"):
        run(movie, recipe=load_recipe(overrides=["calibrate.material=grafene"]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_identity_covers_everything_that_is_read(movie: Path, tmp_path: Path) -> None:
    mask, times = tmp_path / "mask.npy", tmp_path / "times.csv"
    np.save(mask, np.ones((72, 72), bool))
    times.write_text("frame,time_s\n" + "".join(f"{i},{i}\n" for i in range(5)))
    recipe = load_recipe(overrides=[f"input.mask={mask}", f"input.times_csv={times}"])
    first = identify(movie, recipe)
    np.save(mask, np.zeros((72, 72), bool))
    assert identify(movie, recipe)["mask"] != first["mask"]
    mask.unlink()
    with pytest.raises(InputError, match="no such file"):
        identify(movie, recipe)
    assert default_folder(Path("a/b.tif")) == Path("b.atomreel")


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(movie, server, files_of, tmp_path) -> None:
    """SIGKILL at twenty random moments, ten on each of two runs, each then resumed to its end."""
    command = ["run", movie, *(part for key in QUICK for part in ("--set", key)), "-o"]
    start = time.perf_counter()
    assert server.run(*command, tmp_path / "whole")[0] == 0
    seconds = time.perf_counter() - start
    expected = files_of(tmp_path / "whole")
    rng = np.random.default_rng(20261120)
    killed = 0
    for number in range(2):
        out = tmp_path / f"killed{number}"
        while killed < KILLS * (number + 1) // 2:
            code, _, err = server.run(*command, out, kill_after=rng.uniform(0.05, 0.7) * seconds)
            assert code in (0, -signal.SIGKILL), err
            killed += code == -signal.SIGKILL
            if RunFolder(out).finished:  # sooner than expected: compare, and start another
                assert files_of(out) == expected
                shutil.rmtree(out)
                seconds *= 0.7
        code, printed, err = server.run(*command, out)
        assert code == 0 and printed.split()[-1] == str(out), err
        assert files_of(out) == expected


@pytest.mark.slow
def test_a_full_disk_is_one_line(movie, server, tmp_path) -> None:
    """And the run goes on when there is room."""
    out = tmp_path / "run"
    command = ["run", movie, *(part for key in QUICK for part in ("--set", key)), "-o", out]
    for limit in (200, 20_000):  # bytes: not even the plan; not a chunk
        code, printed, err = server.run(*command, limit=limit)
        assert code == 2 and printed == "" and err.startswith("error:") and err.count("\n") == 1, err
        assert "File too large" in err and not out.exists()
    code, printed, err = server.run(*command, limit=100_000)  # chunks, but not the report
    assert code == 2 and printed == "" and err.startswith("error:") and err.count("\n") == 1, err
    assert not (out / "run.toml").exists() or RunFolder(out).plan.exists()
    assert server.run(*command)[0] == 0 and (out / "report.html").is_file() and RunFolder(out).finished
