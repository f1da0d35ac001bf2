"""Small movies, a finished Run of one of them, and a process that forks runs which can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.driver import run

QUICK = ("symmetry.passes=0", "run.preview=3", "run.chunk=2")
SERVER = Path(__file__).with_name("run_server.py")


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None:
    """All of these run networks."""


def counts(frames: int, *, size: int, spacing: float = 9.0) -> np.ndarray:
    """A hexagonal lattice of bright columns under Poisson noise, (T, Y, X) uint16, with an atom missing."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:size, :size]
    mean = np.full((size, size), 2.0)
    for row in range(-1, int(size / (0.866 * spacing)) + 2):
        for column in range(-1, int(size / spacing) + 2):
            cy, cx = 4 + 0.866 * spacing * row, 3 + spacing * (column + 0.5 * (row % 2))
            if (row, column) != (3, 3):
                mean += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.9**2))
    return rng.poisson(mean, (frames, size, size)).astype(np.uint16)


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of 72²."""
    path = tmp_path_factory.mktemp("movie") / "lattice.tif"
    tifffile.imwrite(path, counts(5, size=72))
    return path


@pytest.fixture(scope="session")
def finished(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Run of `movie`. Not to be changed."""
    return run(movie, recipe=load_recipe(overrides=QUICK), out=tmp_path_factory.mktemp("finished") / "run")


class Server:
    """Runs the command line in forked processes, so that start-up is paid once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, *argv: str | Path, limit: int | None = None, kill_after: float | None = None
    ) -> tuple[int, str, str]:
        """(exit code, or minus the signal; standard output; standard error) of an `atomreel` command.

        limit: largest file that it may write [bytes]. kill_after: seconds to SIGKILL, unless it ended before.
        """
        job = {"argv": [str(a) for a in argv], "limit": limit, "home": str(self.home)}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        number = int(self._line())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        code = int(self._line())
        return code, (self.home / "out").read_text(), (self.home / "err").read_text()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    with made.process:
        yield made
        made.process.stdin.close()  # type: ignore[union-attr]


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a Run but log.jsonl, by name."""

    def read(folder: Path) -> dict[str, bytes]:
        found = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "log.jsonl")
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}

    return read
