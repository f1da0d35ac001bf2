"""Forks one `atomreel` command per line of JSON; prints its process number, then its exit code."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path

import torch

from atomreel import cli


def work(job: dict[str, object]) -> None:
    """In the forked process: the command line with its output in files."""
    home = Path(str(job["home"]))
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if job["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(str(job["limit"])), resource.RLIM_INFINITY))
    sys.argv = ["atomreel", *job["argv"]]  # type: ignore[misc]
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


torch.set_num_threads(1)
for module in ("pipeline.batch", "report.page", "report.curves", "predict.symmetry", "interpret.pairs"):
    importlib.import_module(f"atomreel.{module}")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(json.loads(line))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
