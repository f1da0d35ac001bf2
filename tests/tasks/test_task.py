"""Tasks and networks are found by name; a wrong name is answered with the right ones."""

from __future__ import annotations

import pytest
import torch

from atomreel.core.errors import UnknownNameError
from atomreel.tasks.task import build_network, load_task


def test_every_task_builds_its_network() -> None:
    task = load_task("columns")
    assert task.name == "columns"
    assert isinstance(build_network(task.network), torch.nn.Module)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'columns'"):
        load_task("colums")
    with pytest.raises(UnknownNameError, match="network"):
        build_network({"kind": "nothing"})
