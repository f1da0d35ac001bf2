"""State of a training that a kill cannot hurt: safetensors and JSON in one folder, replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atomreel.core.files import atomic_folder


def save_checkpoint(
    folder: Path,
    *,
    net: torch.nn.Module,
    average: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    about: dict[str, Any],
) -> None:
    """`about` (step, recipe, curve …) is any JSON."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    with atomic_folder(folder) as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part / "state.safetensors")
        (part / "about.json").write_text(json.dumps(about))


def load_checkpoint(
    folder: Path, *, net: torch.nn.Module, average: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fills the three in place and returns `about`; empty when there is no checkpoint."""
    if not (folder / "about.json").is_file():
        return {}
    tensors = load_file(folder / "state.safetensors")
    net.load_state_dict(_under("net.", tensors))
    average.load_state_dict(_under("average.", tensors))
    whole = optimiser.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _under("optimiser.", tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**whole, "state": state})
    about: dict[str, Any] = json.loads((folder / "about.json").read_text())
    return about


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
