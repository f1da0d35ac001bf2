"""Card: what a trained model is, what it was trained on and how well it does, in one TOML file beside its weights."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from atomreel.core.errors import ModelError
from atomreel.core.files import write_text

FORMAT = "atomreel-card"
VERSION = 1


@dataclass(frozen=True)
class Card:
    """One model.

    name, task: the model's folder and the task that it learned. purpose: one sentence.
    network: `kind` (module of `atomreel.nets`) and the arguments of its `build`.
    classes: names of the output channels. input: what the network expects (spacing in px, window …).
    scope: trained ranges, name → [low, high] or list of names. threshold: operating point on the
    calibrated score, or None. calibration: numbers that turn outputs into probabilities.
    scores: on fresh simulated images, by dose too. training: recipe, seed, data hash, versions.
    """

    name: str
    task: str
    purpose: str
    network: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)
    scope: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    licence: str = "GPL-3.0-or-later"

    def __str__(self) -> str:
        return tomli_w.dumps(_plain(asdict(self)))


def read_card(path: Path | str) -> Card:
    """Raises ModelError when the file is missing, damaged, newer than this program, or has unknown keys."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: no model card here ({error.strerror}); a model folder has one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: the model card is damaged: {error}") from error
    if raw.pop("format", None) != FORMAT or int(raw.pop("version", 0)) > VERSION:
        raise ModelError(f"{path}: expected format {FORMAT!r} up to version {VERSION}; update atomreel")
    known = {f.name for f in fields(Card)}
    missing = {"name", "task", "purpose", "network"} - set(raw)
    if unknown := sorted(set(raw) - known) or sorted(missing):
        raise ModelError(f"{path}: unknown or missing keys: {', '.join(unknown)}")
    return Card(**{**raw, "classes": tuple(raw.get("classes", ()))})


def write_card(path: Path | str, card: Card) -> None:
    """Keys whose value is None are left out, since TOML has no null."""
    write_text(path, tomli_w.dumps({"format": FORMAT, "version": VERSION, **_plain(asdict(card))}))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
