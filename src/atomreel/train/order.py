"""What a training recipe asks for: a task, narrowed to a material and a microscope where it names them, and how to train."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import tomli_w
import torch

from atomreel.core.card import Card
from atomreel.core.errors import ModelError, RecipeError, UnknownNameError
from atomreel.core.files import write_text
from atomreel.core.material import Material, load_material, make_material
from atomreel.core.scope import load_scope
from atomreel.predict.model import load_model
from atomreel.tasks.task import Task, load_task
from atomreel.train.loop import Recipe

KEYS = ("task", "material", "zone", "scope", "start")
FINE_TUNING = {"steps": 300, "rate": 5e-4}  # of weights that know much already
NOTE = "order.toml"  # in a folder under training: what is trained there


@dataclass(frozen=True)
class Order:
    """task: what is learned. changes: fields of `train.loop.Recipe`. start: a model whose weights are the first ones.

    about: material (cell, sites, zone), scope (what differs) and start, for the card; empty for a task as it comes.
    """

    task: Task
    changes: Mapping[str, Any] = field(default_factory=dict)
    start: str | Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def read_order(name_or_recipe: str | Path) -> Order:
    """The order of a task's name, or of a TOML file: task, fields of a Recipe, and perhaps

    material: name, or TOML or CIF file; zone: three whole numbers; scope: a table or a file; start: model name or
    folder. Files lie beside the recipe. Raises RecipeError, InputError, UnknownNameError, ModelError.
    """
    path = Path(name_or_recipe)
    if path.suffix != ".toml":
        return Order(load_task(str(name_or_recipe)))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: not a training recipe that can be read: {error}") from error
    known = (*KEYS, *Recipe.__dataclass_fields__)
    for key in values:
        if key not in known:
            raise UnknownNameError("key of a training recipe", key, known)
    if "task" not in values:
        raise RecipeError(f"{path}: a training recipe names its task, e.g. task = 'columns'")
    changes = {key: value for key, value in values.items() if key not in KEYS}
    start = _beside(path, values["start"], "start") if "start" in values else None
    about = _about(path, values)
    task = load_task(str(values["task"]))
    if start is not None:
        first_weights(start, task)
        changes = {**FINE_TUNING, **changes}
    return Order(narrow(task, about), changes, start, about)


def narrow(task: Task, about: Mapping[str, Any]) -> Task:
    """The task for the material and scope of `about`, or as it comes where that names none."""
    if not {"material", "scope"} & set(about):
        return task
    if not hasattr(task, "narrowed"):
        raise RecipeError(
            f"task {task.name} is trained as it comes; material, zone and scope are for columns"
        )
    material = make_material(about["material"]) if "material" in about else None
    return cast(Task, task.narrowed(material=material, scope=about.get("scope", {})))


def task_of(card: Card) -> Task:
    """The task that the model of `card` learned, which may be a narrow one."""
    return narrow(load_task(card.task), card.training.get("order", {}))


def first_weights(start: str | Path, task: Task) -> dict[str, torch.Tensor]:
    """The weights of model `start`. Raises ModelError when it is of another task or network."""
    net, card = load_model(start)
    if card.task != task.name or dict(card.network) != dict(task.network):
        raise ModelError(
            f"start: {start} learned {card.task} with the network {dict(card.network)}; "
            f"a start for {task.name} has {dict(task.network)}"
        )
    return dict(net.state_dict())


def claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Notes what is trained in `folder`. Raises RecipeError where a training of something else was begun."""
    note, text = folder / NOTE, tomli_w.dumps(about)
    before = note.read_text(encoding="utf-8") if note.is_file() else ""
    if before != text and (folder / "checkpoint").is_dir():
        raise RecipeError(
            f"{folder}: holds a training for another material, scope or start; choose another folder, or empty it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        write_text(note, text)


def _about(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Material, scope and start of a recipe, as a card states them."""
    about: dict[str, Any] = {}
    if (scope := _scope(path, values.get("scope"))) is not None:
        about["scope"] = scope
    if (material := _material(path, values)) is not None:
        about["material"] = material.to_dict()
    if material is not None and (scope or {}).get("materials"):
        raise RecipeError(f"{path}: material and the scope's materials; only one of them can be given")
    if "start" in values:
        about["start"] = str(values["start"])
    return about


def _material(path: Path, values: Mapping[str, Any]) -> Material | None:
    if "material" not in values:
        if "zone" in values:
            raise RecipeError(f"{path}: zone without a material; add material = 'x.cif', or a name")
        return None
    source, zone = _beside(path, values["material"], "material"), values.get("zone")
    if zone is None and Path(source).suffix.lower() == ".cif":
        raise RecipeError(
            f"{path}: zone is missing; a CIF file needs the beam's direction, e.g. zone = [1, 1, 0]"
        )
    whole = isinstance(zone, list) and len(zone) == 3 and all(type(n) is int for n in zone)
    if zone is not None and not whole:
        raise RecipeError(f"{path}: zone {zone!r}; three whole numbers are needed, e.g. [1, 1, 0]")
    return load_material(source, zone=None if zone is None else (zone[0], zone[1], zone[2]))


def _scope(path: Path, value: Any) -> dict[str, Any] | None:
    """What the recipe's scope says, checked, from its table or its file."""
    if value is None or isinstance(value, Mapping):
        return None if value is None else dict(value)
    file = _beside(path, value, "scope")
    load_scope(file)
    table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    return dict(table.get("scope", table))


def _beside(recipe: Path, value: Any, key: str) -> str | Path:
    """A file or folder beside the recipe; what is none is a name."""
    if not isinstance(value, str):
        raise RecipeError(f"{recipe}: {key} {value!r}; a name or a file is needed, in quotes")
    path = recipe.parent / value
    return path if path.exists() or Path(value).suffix.lower() in (".cif", ".toml") else value
