"""What a thing that can be learned must offer: one object per task, found by the name of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.registry import lookup, modules

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Report:
    """What a test on fresh simulated data says: goes into the card as it is."""

    scores: Mapping[str, Any]
    threshold: float | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Simulated examples, targets, loss, scoring. Must survive being sent to another process.

    name: of the file. purpose, classes, input, scope: for the card.
    network: `kind` (module of `atomreel.nets`) and the arguments of its `build`.
    recipe: how the shipped model is trained, fields of `train.loop.Recipe`.
    A task may have `narrowed(*, material, scope)`: the same task for one material and the conditions that a recipe names;
    and `watch(net)`: numbers on held-out data for the curve, asked for after every epoch where `in_turn` makes epochs.
    """

    @property
    def name(self) -> str: ...
    @property
    def purpose(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def input(self) -> Mapping[str, Any]: ...
    @property
    def scope(self) -> Mapping[str, Any]: ...
    @property
    def network(self) -> Mapping[str, Any]: ...
    @property
    def recipe(self) -> Mapping[str, Any]: ...

    def sample(self, rng: np.random.Generator) -> Arrays:
        """One simulated example with its truth; shapes may vary. Slow: made in other processes, used often."""
        ...

    def encode(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        """One training example of fixed shapes (input and targets), randomly cut, turned and spoilt. Fast."""
        ...

    def loss(
        self, net: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The number to minimise, and its parts for the curve."""
        ...

    def picture(self, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.uint8]:
        """(H, W) grey or (H, W, 3): examples, truth and answers side by side, to look at."""
        ...

    def score(self, net: torch.nn.Module, *, seed: int, examples: int) -> Report:
        """Calibration, threshold and scores on `examples` fresh ones that training never used."""
        ...


def load_task(name: str) -> Task:
    """The task of this name, which is the `TASK` of a file of `tasks/`. Raises UnknownNameError."""
    known = {m.TASK.name: m.TASK for m in modules("atomreel.tasks").values() if hasattr(m, "TASK")}
    return cast(Task, lookup("task", name, known))


def build_network(network: Mapping[str, Any]) -> torch.nn.Module:
    """The module that `network` (`kind` and arguments) describes, with fresh weights."""
    arguments = dict(network)
    known = {key: m.build for key, m in modules("atomreel.nets").items() if hasattr(m, "build")}
    return cast(torch.nn.Module, lookup("network", str(arguments.pop("kind", "")), known)(**arguments))
