"""Loading a trained model: a folder of `weights.safetensors` and `card.toml`, by name or by path."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from atomreel.core.card import Card, read_card
from atomreel.core.errors import ModelError, UnknownNameError
from atomreel.core.files import sha256
from atomreel.core.image import Movie
from atomreel.tasks.task import build_network

OTHER = 1.6  # ratio of distances that a survey, good to a factor 1.5, does not mistake


def shipped() -> Path:
    """Folder of the models that come with the package."""
    return Path(str(files("atomreel"))) / "models"


def model_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.parent.name for path in shipped().glob("*/card.toml"))


def model_folder(name_or_path: str | Path) -> Path:
    """Where a model lies. Raises UnknownNameError with the names that exist."""
    for folder in (shipped() / str(name_or_path), Path(name_or_path)):
        if (folder / "card.toml").is_file():
            return folder
    raise UnknownNameError("model", str(name_or_path), model_names())


def load_model(name_or_path: str | Path) -> tuple[torch.nn.Module, Card]:
    """The network in evaluation mode, float32, and its card. Raises ModelError when the files do not agree."""
    return _load(model_folder(name_or_path).resolve())


@cache
def _load(folder: Path) -> tuple[torch.nn.Module, Card]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card, weights = read_card(folder / "card.toml"), folder / "weights.safetensors"
    if not weights.is_file():
        raise ModelError(f"{folder}: weights.safetensors is missing; train again or copy it beside the card")
    if card.weights_sha256 and sha256(weights) != card.weights_sha256:
        raise ModelError(f"{weights}: not the weights that card.toml describes (their sha256 differs)")
    try:
        net = build_network(card.network)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder / 'card.toml'}: [network] is not one that this atomreel can build ({error}); "
            "train again, or update atomreel"
        ) from error
    try:
        state = {key: value.float() for key, value in load_file(weights).items()}
        net.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights}: does not fit the network of its card: {error}") from error
    net.eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last), card  # type: ignore[call-overload]


def describe_models(name: str | None = None) -> str:
    """One line per shipped model, or the whole card of one."""
    if name is not None:
        return (model_folder(name) / "card.toml").read_text(encoding="utf-8")
    cards = [read_card(model_folder(known) / "card.toml") for known in model_names()]
    return "\n".join(f"{card.name:12} {card.purpose}" for card in cards)


def check(model: str | Path, movie: Movie, *, spacing_px: float | None = None) -> list[str]:
    """What speaks against using `model` on `movie`, in words; empty when nothing does.

    spacing_px: distance of neighbouring columns that a survey found, which must suit a model of one material.
    """
    card = read_card(model_folder(model) / "card.toml")
    problems = []
    known = card.scope.get("modality")
    if known and movie.modality and movie.modality not in known:
        problems.append(f"{card.name} was trained on {', '.join(known)}, not on {movie.modality}")
    smallest = int(card.input.get("smallest_px", 0))
    if min(movie.shape) < smallest:
        problems.append(f"{card.name} needs images of at least {smallest} px, got {movie.shape}")
    pixel = None if movie.pixel is None else float(np.sqrt(movie.pixel[0] * movie.pixel[1]))
    dose = None if movie.modality in ("stem", "stm") else movie.dose  # those are simulated by their counts
    for name, value in (("dose", dose), ("voltage", movie.voltage), ("pixel_A", pixel)):
        low, high = card.scope.get(name, (None, None))
        if value is not None and low is not None and not low <= value <= high:
            problems.append(
                f"{name} {value:.4g} is outside what {card.name} was trained on ({low:g}–{high:g})"
            )
    nearest = card.scope.get("nearest_A")
    if nearest and pixel and spacing_px and not 1 / OTHER < spacing_px * pixel / nearest < OTHER:
        problems.append(
            f"columns are about {spacing_px * pixel:.2g} Å apart, {nearest:.2g} Å in what {card.name} was trained on "
            f"({', '.join(card.scope['materials'])}, zone {card.scope['zone']})"
        )
    return problems
