"""Task: Bravais lattices as Vasudevan et al. learned them (npj Comput. Mater. 4, 30 (2018)), kept as a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atomreel.nets.bravais_2018 import amplitude
from atomreel.simulate.bravais import CLASSES
from atomreel.simulate.bravais_2018 import DISORDER, LONGEST, SHORTEST, paper_window
from atomreel.tasks.bravais import score_probabilities
from atomreel.tasks.task import Arrays, Report

REACH = 32  # cycles per window; the six nearest spots of every lattice of the training set lie inside
L2 = 1e-4  # the paper gives none
WATCHED = 200  # windows of each class that are looked at after every epoch
WATCH_SEED = 2018


@dataclass(frozen=True)
class Bravais2018Task:
    """4,000 windows of each class, of which training sees 3,200; an example is one window of each class."""

    name: str = "bravais-2018"
    purpose: str = (
        "names the two-dimensional Bravais lattice of a window with the network of Vasudevan et al. 2018"
    )
    classes: tuple[str, ...] = CLASSES
    input: Mapping[str, Any] = field(
        default_factory=lambda: {"window_px": 128, "least_cells": 4, "smallest_px": 16}
    )
    scope: Mapping[str, Any] = field(
        default_factory=lambda: {
            "disorder_of_spacing": [0.0, DISORDER],
            "spacing_px": [SHORTEST, LONGEST],
            "basis_atoms": [1, 1],
        }
    )
    network: Mapping[str, Any] = field(
        default_factory=lambda: {
            "kind": "bravais_2018",
            "reach": REACH,
            "filters": [32, 32, 64],
            "dense": 128,
            "dropout": 0.2,
            "everywhere": False,
        }
    )
    recipe: Mapping[str, Any] = field(
        default_factory=lambda: {
            "steps": 19_200,  # 30 epochs
            "batch": 5,  # thirty windows
            "rate": 1e-3,
            "last": 1.0,
            "weight_decay": 0.0,  # it is part of the loss
            "first": 3200,
            "fresh": 0.0,
            "window": 3200,
            "in_turn": 1,
            "examples": 800,
        }
    )

    def sample(self, rng: np.random.Generator) -> Arrays:
        """One window of each class: amplitude (6, 2·reach, reach), label (6,), margin (6,)."""
        windows = [paper_window(name, rng=rng) for name in CLASSES]
        images = np.stack([w.image for w in windows])
        shown = amplitude(torch.from_numpy(images), reach=int(self.network["reach"]))[:, 0]
        return {
            "amplitude": shown.numpy().astype(np.float16),
            "label": np.arange(len(CLASSES)),
            "margin": np.array([w.margin for w in windows]),
        }

    def encode(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        return {"amplitude": example["amplitude"].astype(np.float32), "label": example["label"]}

    def loss(
        self, net: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        logits = net(batch["amplitude"].flatten(0, 1)[:, None]).float()
        label = batch["label"].flatten()
        entropy = torch.nn.functional.cross_entropy(logits, label)
        size = sum((p.float().square().sum() for p in net.parameters() if p.ndim > 1), torch.zeros(()))
        right = (logits.argmax(1) == label).float().mean()
        return entropy + L2 * size, {"entropy": float(entropy.detach()), "accuracy": float(right)}

    def watch(self, net: torch.nn.Module) -> dict[str, float]:
        """Accuracy and cross-entropy on windows that training never sees."""
        logits, labels = answers(net, _watched(int(self.network["reach"])))
        entropy = torch.nn.functional.cross_entropy(logits, labels)
        right = (logits.argmax(1) == labels).float().mean()
        return {"held_out_accuracy": float(right), "held_out_entropy": float(entropy)}

    def picture(self, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.uint8]:
        """The amplitudes of the batch, one row per class: the root of each, white is its maximum."""
        shown = batch["amplitude"].float().sqrt()
        shown = 255 * shown / shown.amax((2, 3), keepdim=True).clamp_min(1e-9)
        count, classes, height, width = shown.shape
        picture = shown.permute(1, 2, 0, 3).reshape(classes * height, count * width)
        return np.asarray(picture.to(torch.uint8).cpu().numpy())

    def score(self, net: torch.nn.Module, *, seed: int, examples: int) -> Report:
        """Accuracy, top-2, Brier, NLL, ECE, confusion and confidence of wrong answers on `examples` windows of each class.

        The probabilities are those of the softmax: the paper calibrates nothing.
        """
        made = [self.sample(np.random.default_rng([seed, 2, i])) for i in range(examples)]
        logits, labels = answers(net, made)
        p, label = logits.softmax(1).numpy(), labels.numpy()
        return Report(scores={**score_probabilities(p, label), **mistakes(p, label)})


def answers(net: torch.nn.Module, examples: list[Arrays]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 6) and labels (N,) of examples of `Bravais2018Task.sample`."""
    with torch.no_grad():
        parts = [
            net(torch.from_numpy(np.concatenate([e["amplitude"] for e in some]))[:, None].float())
            for some in (examples[i : i + 10] for i in range(0, len(examples), 10))
        ]
    return torch.cat(parts), torch.from_numpy(np.concatenate([e["label"] for e in examples]))


def mistakes(p: npt.NDArray[Any], label: npt.NDArray[Any]) -> dict[str, Any]:
    """What is wrong about (N, 6) probabilities: how sure the wrong answers are, what came second, the confusion.

    confusion: rows are true classes, columns answers.
    """
    top, order = p.argmax(1), np.argsort(-p, axis=1)
    wrong = top != label
    confusion = np.zeros((p.shape[1], p.shape[1]), int)
    np.add.at(confusion, (label, top), 1)
    return {
        "wrong": int(wrong.sum()),
        "wrong_with_true_second": int((order[wrong, 1] == label[wrong]).sum()),
        "confidence_of_wrong": float(p.max(1)[wrong].mean()) if wrong.any() else float("nan"),
        "confusion": confusion.tolist(),
    }


@cache
def _watched(reach: int) -> list[Arrays]:
    task = Bravais2018Task(network={"reach": reach})
    return [task.sample(np.random.default_rng([WATCH_SEED, 4, i])) for i in range(WATCHED)]


TASK = Bravais2018Task()
