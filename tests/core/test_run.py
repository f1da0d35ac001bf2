"""Run folders: new, resumed, finished, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomreel.core.errors import RunError
from atomreel.core.run import RunFolder, close_run, finish_run, start_run

PLAN = {"input": "abc", "recipe": {"run": {"seed": 0}}}


def test_life_of_a_run(tmp_path: Path) -> None:
    run, state = start_run(tmp_path / "r", PLAN)
    assert state == "new" and not run.finished
    run.chunk(0).mkdir()
    (run.path / ".atoms.parquet.x1").write_text("half")
    run.log("frames", {"seconds": 1.5})
    run, state = start_run(tmp_path / "r", PLAN)
    assert state == "resumed" and run.chunk(0).is_dir() and not (run.path / ".atoms.parquet.x1").exists()
    finish_run(run, {"input": {"name": "é"}}, PLAN)
    assert start_run(tmp_path / "r", PLAN)[1] == "resumed", "unfinished until the report is there"
    close_run(run)
    assert start_run(tmp_path / "r", PLAN)[1] == "finished" and run.about()["input"] == {"name": "é"}
    assert sorted(p.name for p in run.path.iterdir()) == ["log.jsonl", "run.toml"]


def test_other_plans_and_folders_are_refused(tmp_path: Path) -> None:
    start_run(tmp_path / "r", PLAN)
    with pytest.raises(RunError, match="unfinished Run of another"):
        start_run(tmp_path / "r", {**PLAN, "input": "other"})
    run, _ = start_run(tmp_path / "done", PLAN)
    finish_run(run, {}, PLAN)
    close_run(run)
    with pytest.raises(RunError, match="finished Run of another"):
        start_run(tmp_path / "done", {**PLAN, "input": "other"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        start_run(tmp_path / "mine", PLAN)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        start_run(tmp_path / "file", PLAN)


def test_damaged_and_newer_runs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RunError, match="not a finished Run"):
        run.about()
    for text, message in (
        ("a =", "damaged"),
        ('format = "x"', "not written"),
        ('format = "atomreel-run"\nversion = 99', "up to"),
    ):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(RunError, match=message):
            run.about()
