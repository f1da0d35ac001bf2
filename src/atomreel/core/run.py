"""The Run folder: started, resumed, finished. Everything in it is readable without atomreel.

While a run is under way `RUN/.work` holds its plan and one folder per finished chunk of frames.
A run is finished when `run.toml` is there and the plan is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from atomreel.core.errors import RunError
from atomreel.core.files import FORMAT_VERSION, write_json, write_text


@dataclass(frozen=True)
class RunFolder:
    """Paths of one Run. Made by `start_run`; read by the report and the export."""

    path: Path

    @property
    def work(self) -> Path:
        return self.path / ".work"

    @property
    def plan(self) -> Path:
        return self.work / "plan.json"

    @property
    def finished(self) -> bool:
        return (self.path / "run.toml").is_file() and not self.plan.exists()

    def chunk(self, number: int) -> Path:
        return self.work / f"chunk-{number:06d}"

    def about(self) -> dict[str, Any]:
        """The contents of run.toml. Raises RunError where this is no finished Run."""
        file = self.path / "run.toml"
        if not file.is_file():
            raise RunError(f"{self.path}: not a finished Run (no run.toml); run 'atomreel run' into it first")
        try:
            about = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{file}: damaged ({error})") from error
        if about.get("format") != "atomreel-run":
            raise RunError(f"{file}: not written by atomreel")
        if int(about.get("version", 0)) > FORMAT_VERSION:
            raise RunError(
                f"{file}: format version {about['version']}; this atomreel reads up to {FORMAT_VERSION}"
            )
        return about

    def log(self, stage: str, values: Mapping[str, float | int | str] = MappingProxyType({})) -> None:
        """One line of log.jsonl: the only file that differs between two identical runs."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "stage": stage, **values}
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from error


def start_run(path: Path | str, plan: Mapping[str, Any]) -> tuple[RunFolder, str]:
    """The folder of a run and its state: "new", "resumed" or "finished".

    plan: what identifies the run (input digest, recipe, versions). Raises RunError when the folder
    holds something else, or a run of another plan, or cannot be written.
    """
    run = RunFolder(Path(path))
    if run.path.exists() and not run.path.is_dir():
        raise RunError(f"{run.path}: is a file; give the name of a folder for the Run")
    try:
        found = set() if not run.path.exists() else {p.name for p in run.path.iterdir()}
    except OSError as error:
        raise RunError(
            f"{run.path}: cannot be read ({error.strerror}); choose another folder with -o"
        ) from error
    if run.finished:
        if run.about().get("plan") == _key(plan):
            shutil.rmtree(run.work, ignore_errors=True)
            return run, "finished"
        raise RunError(
            f"{run.path}: a finished Run of another input, recipe or version; choose another folder with -o"
        )
    if run.plan.is_file():
        if _key_of(run) != _key(plan):
            raise RunError(
                f"{run.path}: an unfinished Run of another input, recipe or version; "
                "choose another folder with -o, or delete this one"
            )
        _sweep(run)
        return run, "resumed"
    if found - {".work", "log.jsonl"}:
        raise RunError(f"{run.path}: not empty and not a Run; choose another folder with -o")
    try:
        run.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{run.path}: cannot be created ({error.strerror}); choose another folder with -o"
        ) from error
    try:
        write_json(
            run.plan, {"format": "atomreel-plan", "version": FORMAT_VERSION, "key": _key(plan), **plan}
        )
    except RunError:
        discard_run(run)
        raise
    return run, "new"


def discard_run(run: RunFolder) -> None:
    """Take back a folder in which no frame was finished, so that an unusable file leaves nothing behind."""
    if any(run.work.glob("chunk-*")):
        return
    shutil.rmtree(run.work, ignore_errors=True)
    (run.path / "log.jsonl").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or not ours to remove
        run.path.rmdir()


def finish_run(run: RunFolder, about: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Write run.toml, which makes the folder a Run. `close_run` ends it, once the report is there."""
    head = {"format": "atomreel-run", "version": FORMAT_VERSION, "plan": _key(plan)}
    write_text(run.path / "run.toml", tomli_w.dumps({**head, **about}))


def close_run(run: RunFolder) -> None:
    run.plan.unlink(missing_ok=True)
    shutil.rmtree(run.work, ignore_errors=True)


def _key_of(run: RunFolder) -> str | None:
    """What an unfinished run was started with; None when its plan is damaged."""
    try:
        key = json.loads(run.plan.read_text(encoding="utf-8")).get("key")
    except (OSError, ValueError, AttributeError):
        return None
    return key if isinstance(key, str) else None


def _key(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()


def _sweep(run: RunFolder) -> None:
    """Temporary names that a killed run left behind."""
    for folder in (run.path, run.work, run.path / "figures"):
        for part in folder.glob(".*"):
            if part.name == ".work":
                continue
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
