"""Training a defect detector on one frame of a movie (or a few): soft Fourier labels, transplanted defects, pristine twins.

As in W. Jariwala, Qian & Wu 2018 and A. Maksov & al. 2019, the frame gives its own labels; unlike there they are
probabilities, and half of the examples have defects that were put there and so are known.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from scipy import ndimage
from torch.nn import functional as F

from atomreel.core.card import Card, write_card
from atomreel.core.errors import InputError
from atomreel.core.files import atomic, sha256
from atomreel.interpret.scenes import Scene, pristine, transplanted
from atomreel.nets.detector import CLASSES, build
from atomreel.train.checkpoint import load_checkpoint, save_checkpoint
from atomreel.train.loop import follow, schedule

Floats = npt.NDArray[np.float32]
AVERAGE = 0.99
PER_AREA = 1 / 900  # transplanted defects per px²
WIDTH = 12


@dataclass(frozen=True)
class Plan:
    """steps of `batch` crops of `crop` px; rate: highest learning rate; save_every: seconds between checkpoints."""

    steps: int = 240
    batch: int = 8
    crop: int = 64
    rate: float = 4e-3
    seed: int = 0
    save_every: float = 60.0


def train_on_frames(
    scenes: Sequence[Scene], out: Path, *, plan: Plan | None = None, about: dict[str, Any] | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Train on one or a few frames and write a model folder: weights.safetensors and card.toml.

    scenes: of the frames (`interpret.scenes.scene_of`), all at one sampling. about: kept in the card (frames, sampling …).
    A killed training goes on from `out/checkpoint` if frames and plan are the same. The same seed gives the same weights on the same
    machine and number of threads. Returns the network and the record: steps, seconds, loss.
    Raises InputError without a scene.
    """
    if not scenes:
        raise InputError("no frame to learn from: at least one with a lattice is needed")
    plan = plan or Plan()
    out.mkdir(parents=True, exist_ok=True)
    key = _fingerprint(scenes, replace(plan, save_every=0.0))
    net = _fresh(plan.seed)
    average = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=1e-3)
    state = _resume(out / "checkpoint", key, net=net, average=average, optimiser=optimiser)
    step, spent, curve = (
        int(state.get("step", 0)),
        float(state.get("seconds", 0.0)),
        list(state.get("curve", [])),
    )
    twins = [pristine(one, np.random.default_rng([plan.seed, 4, k])) for k, one in enumerate(scenes)]
    clock = saved = time.monotonic()
    while step < plan.steps:
        image, target, weight = make_batch(scenes, twins, plan, step=step)
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * schedule(step, plan.steps)
        loss = _step(net, optimiser, image, target, weight)
        follow(average, net, min(AVERAGE, (1 + step) / (10 + step)))
        step += 1
        curve.append(loss)
        now = time.monotonic()
        if now - saved > plan.save_every or step == plan.steps:
            saved, seconds = now, spent + now - clock
            kept = {"step": step, "seconds": seconds, "curve": curve, "key": key}
            save_checkpoint(out / "checkpoint", net=net, average=average, optimiser=optimiser, about=kept)
    record = {"steps": step, "seconds": spent + time.monotonic() - clock, "loss": curve}
    _write(out, average.eval(), plan, record=record, about=about or {})
    return average.eval(), record


def _step(
    net: torch.nn.Module, optimiser: torch.optim.Optimizer, image: Floats, target: Floats, weight: Floats
) -> float:
    net.train()
    logs = F.log_softmax(net(torch.from_numpy(image)), 1)
    w = torch.from_numpy(weight)
    loss = -(torch.from_numpy(target) * logs).sum(1).mul(w).sum() / w.sum().clamp_min(1.0)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _fresh(seed: int) -> torch.nn.Module:
    """Weights that `seed` gives, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return build(inputs=2, width=WIDTH)


def _resume(folder: Path, key: str, **parts: Any) -> dict[str, Any]:
    """State of a training of these frames by this plan; that of another is ignored."""
    about = folder / "about.json"
    if not about.is_file() or json.loads(about.read_text(encoding="utf-8")).get("key") != key:
        return {}
    return load_checkpoint(folder, **parts)


def _fingerprint(scenes: Sequence[Scene], plan: Plan) -> str:
    digest = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode())
    for scene in scenes:
        digest.update(np.ascontiguousarray(scene.channels()).tobytes())
    return digest.hexdigest()


def make_batch(
    scenes: Sequence[Scene], twins: Sequence[Scene], plan: Plan, *, step: int
) -> tuple[Floats, Floats, Floats]:
    """(N, 2, c, c) images, (N, 3, c, c) targets, (N, c, c) weights of `step`; the same whenever asked for.

    Half of the crops are of a frame with its soft labels and some transplanted defects, half of its pristine twin with
    transplanted ones alone; all of one part of it.
    """
    rng = np.random.default_rng([plan.seed, 2, step])
    number = int(rng.integers(len(scenes)))
    own, twin = scenes[number], twins[number]
    side = [min(n, 2 * plan.crop) for n in own.model.shape]
    corner = (
        int(rng.integers(own.model.shape[0] - side[0] + 1)),
        int(rng.integers(own.model.shape[1] - side[1] + 1)),
    )
    cut = (slice(corner[0], corner[0] + side[0]), slice(corner[1], corner[1] + side[1]))
    kinds = []
    for whole in (own, twin):
        scene = whole.part(cut)
        most = max(2, round(PER_AREA * scene.valid.sum()))
        made = transplanted(scene, own, rng, count=int(rng.integers(most // 2, most + 1)), corner=corner)
        made = _noisier(made, rng)
        kinds.append((made.channels(), *made.targets()))
    crops = [_crop(*kinds[k % 2], rng=rng, size=plan.crop) for k in range(plan.batch)]
    images, targets, weights = (np.stack(part) for part in zip(*crops, strict=True))
    return images, targets, weights


def _noisier(scene: Scene, rng: np.random.Generator) -> Scene:
    """Up to 60 % more white noise in half of the cases; the claimed noise does not know of it."""
    if rng.random() < 0.5:
        return scene
    white = np.median(scene.noise) * 2 * np.sqrt(np.pi) * scene.sigma  # what the low pass makes 1σ of
    extra = rng.uniform(0, 0.6) * white * rng.standard_normal(scene.residual.shape)
    return replace(scene, residual=scene.residual + extra)


def _crop(
    channels: Floats, target: Floats, weight: Floats, *, rng: np.random.Generator, size: int
) -> tuple[Floats, Floats, Floats]:
    """A crop turned by any angle, flipped, zoomed by up to 7 %, with another gain and offset; nothing counts beyond the border."""
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.07, 0.07))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    shape = np.array(weight.shape)
    half = 0.5 * min(size, *shape)
    middle = np.array([rng.uniform(min(half, n / 2), max(n - half, n / 2)) for n in shape])
    offset = middle - turn @ np.full(2, (size - 1) / 2)

    def sample(values: npt.NDArray[Any], order: int, outside: float) -> Floats:
        out = ndimage.affine_transform(
            values, turn, offset, output_shape=(size, size), order=order, mode="constant", cval=outside
        )
        return np.asarray(out, np.float32)

    image = np.stack([sample(channels[0], 1, 0.0), sample(channels[1], 1, 0.0)])
    image[0] = image[0] * rng.uniform(0.85, 1.15) + rng.normal(0, 0.1)
    labels = np.stack([sample(part, 1, 0.0) for part in target])
    counts = (sample(weight, 1, 0.0) > 0.99).astype(np.float32)
    return image, labels, counts


def _write(
    out: Path, net: torch.nn.Module, plan: Plan, *, record: dict[str, Any], about: dict[str, Any]
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / "weights.safetensors") as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}, part)
    card = Card(
        name="detector",
        task="oneframe",
        purpose="Finds places that are brighter or dimmer than the lattice in the movie that it was trained on, and in no other.",
        network={"kind": "detector", "inputs": 2, "width": WIDTH},
        classes=CLASSES,
        input=about,
        training={
            **asdict(plan),
            "loss_first": record["loss"][0],
            "loss_last": float(np.mean(record["loss"][-20:])),
        },
        weights_sha256=sha256(out / "weights.safetensors"),
    )
    write_card(out / "card.toml", card)
