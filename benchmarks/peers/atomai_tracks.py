"""Trajectories and transition matrices by AtomAI's statistics, from tables of defects; run in an environment of its own.

    python atomai_tracks.py JOBS.json OUT.json RMAX

Each job: a list of frames, each a list of [y, x, class from 1]. Out: per job the trajectories as lists of [frame, y, x],
and the matrix. The functions are those of `atomai.stat.imlocal`: `get_trajectory` from every point of the first frame (as
`get_all_trajectories` does), `renumerate_classes` and `calculate_transition_matrix` per trajectory, `sum_transitions` over all (as `transition_matrix` does).
Their classes would come from a Gaussian mixture of image windows; here they are those of the table, which both programs get.
AtomAI imports torchvision for networks that are not used here; where it is absent an empty module stands for it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np


class _Empty(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        pass


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_Absent())

import atomai  # noqa: E402
from atomai.stat.multivar import calculate_transition_matrix, imlocal, sum_transitions  # noqa: E402


def one(frames: list, rmax: float, classes: int) -> dict:
    table = {k: np.array(rows, dtype=float).reshape(-1, 3) for k, rows in enumerate(frames)}
    table = {k: rows for k, rows in table.items() if len(rows)}
    flows, when = [], []
    for start in table[0][:, :2]:
        flow, seen = imlocal.get_trajectory(table, start, rmax)
        flows.append(flow)
        when.append(seen)
    each = [calculate_transition_matrix(imlocal.renumerate_classes(flow[:, -1])) for flow in flows]
    # As in `transition_matrix`: matrices of renumbered classes, put where `sum_transitions` says.
    matrix = sum_transitions({"trajectories": flows, "transitions": each}, classes)
    tracks = [np.column_stack([k, f[:, :2]]).tolist() for k, f in zip(when, flows, strict=True)]
    return {"tracks": tracks, "matrix": np.where(np.isfinite(matrix), matrix, None).tolist()}


def main(jobs: str, out: str, rmax: str) -> None:
    work = json.loads(Path(jobs).read_text())
    found = [one(frames, float(rmax), work["classes"]) for frames in work["movies"]]
    Path(out).write_text(json.dumps({"version": atomai.__version__, "movies": found}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
