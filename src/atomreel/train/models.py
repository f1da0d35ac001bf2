"""Making and testing model folders: what `atomreel train` and `atomreel evaluate` do."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from atomreel.core.card import Card, write_card
from atomreel.core.files import atomic, sha256
from atomreel.predict.model import load_model, model_folder
from atomreel.tasks.task import Arrays, Task
from atomreel.train.loop import Recipe, fit, recipe_for
from atomreel.train.order import claim, first_weights, read_order, task_of
from atomreel.train.stock import make_block

SCORE_SEED = 1_000_003  # far from any training seed, so the test never meets a training example


def train_model(
    name_or_recipe: str | Path,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    examples: int | None = None,
    workers: int = 1,
    save_every: float = 180.0,
    device: str = "auto",
) -> Path:
    """Train the model of task `name_or_recipe`, or of a TOML recipe (`train.order.read_order`: task, material, scope …).

    out: the model folder, by default one of the task's name here; an unfinished training in it is resumed.
    steps, seed, examples: change the recipe.
    workers: processes that simulate. Returns the folder, with weights.safetensors, card.toml, curve and pictures.
    Raises UnknownNameError, RecipeError, InputError, ModelError before anything is written.
    """
    order = read_order(name_or_recipe)
    task, given = order.task, {"steps": steps, "seed": seed, "examples": examples}
    recipe = recipe_for(task, {**order.changes, **{k: v for k, v in given.items() if v is not None}})
    first = first_weights(order.start, task) if order.start is not None else None
    folder = Path(out if out is not None else task.name)
    claim(folder, order.about)
    net, record = fit(
        task, recipe, folder, workers=workers, save_every=save_every, device=device, first=first
    )
    return write_model(folder, task, net.cpu(), recipe=recipe, seconds=record["seconds"], about=order.about)


def evaluate_model(name: str | Path, *, examples: int | None = None, out: str | Path | None = None) -> Card:
    """Test a model again on fresh simulated images and write the scores into its card (or into `out`)."""
    net, card = load_model(name)
    task = task_of(card)
    recipe = recipe_for(task, {key: card.training.get(key) for key in ("seed", "examples")})
    report = task.score(net, seed=SCORE_SEED + recipe.seed, examples=examples or recipe.examples)
    card = replace(card, **asdict(report))
    write_card(Path(out) if out else model_folder(name) / "card.toml", card)
    return card


def write_model(
    folder: Path,
    task: Task,
    net: torch.nn.Module,
    *,
    recipe: Recipe,
    seconds: float,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """What the task fits last, weights (half precision, as shipped), and the card with scores of exactly these.

    about: the material, scope and start of an order, which the card keeps so that `evaluate_model` can test again.
    """
    half = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    with atomic(folder / "weights.safetensors") as part:
        save_file({k: v.contiguous() for k, v in half.items()}, part)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in half.items()})
    report = task.score(net.eval(), seed=SCORE_SEED + recipe.seed, examples=recipe.examples)
    card = Card(
        name=folder.name,
        task=task.name,
        purpose=task.purpose,
        network=task.network,
        classes=task.classes,
        input=task.input,
        scope=task.scope,
        threshold=report.threshold,
        calibration=report.calibration,
        scores=report.scores,
        training={
            **asdict(recipe),
            **({"order": dict(about)} if about else {}),
            "minutes": round(seconds / 60, 1),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "data_sha256": data_hash(examples := make_block(task, recipe.seed, 0)),
            "data_marks": data_marks(examples),
        },
        weights_sha256=sha256(folder / "weights.safetensors"),
    )
    write_card(folder / "card.toml", card)
    return folder


def data_hash(examples: list[Arrays]) -> str:
    """Digest of the first training examples: changes when the simulator does."""
    digest = hashlib.sha256()
    for example in examples:
        for key in sorted(example):
            digest.update(key.encode() + np.ascontiguousarray(example[key]).tobytes())
    return digest.hexdigest()


def data_marks(examples: list[Arrays]) -> list[float]:
    """Mean and standard deviation of every array of the first training examples, names in order: the same but for rounding on
    processors that round otherwise, where the digest differs."""
    marks = []
    for key in sorted(examples[0]):
        values = np.concatenate([np.asarray(example[key], float).ravel() for example in examples])
        known = values[np.isfinite(values)]
        marks += [float(f"{v:.9g}") for v in (known.mean(), known.std())] if len(known) else [0.0, 0.0]
    return marks
