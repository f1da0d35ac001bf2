"""The one training loop: any Task in, a model folder (weights, card, curve, pictures) out.

Every step depends on the seed and its own number only, and the state is saved as a whole every few minutes,
so a run that was killed goes on to the same weights (on the same machine and number of threads).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.errors import AtomreelError, MissingExtraError, RecipeError
from atomreel.tasks.task import Task, build_network
from atomreel.train.checkpoint import load_checkpoint, save_checkpoint
from atomreel.train.record import draw_record
from atomreel.train.stock import Plan, Stock, open_stock

LOG_EVERY = 25  # steps per row of the curve
WARM_UP = 200  # steps of rising learning rate
AVERAGE = 0.998  # decay of the running average of the weights, which is what is shipped


@dataclass(frozen=True)
class Recipe:
    """steps of `batch` examples; rate: highest learning rate; last: share of it that a cosine ends at (1: no fall);
    first, fresh, window: see `train.stock.Plan`; in_turn: 1 shows each of the `first` examples once before any comes
    again (with fresh = 0, and a multiple of `batch` of them); examples: how many fresh ones the final test uses."""

    steps: int = 10_000
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0
    first: int = 500
    fresh: float = 0.5
    window: int = 4000
    examples: int = 200
    last: float = 0.01
    in_turn: int = 0

    def plan(self) -> Plan:
        return Plan(self.first, self.fresh, self.window)

    def epoch_ends(self, step: int) -> bool:
        """Whether every example has been shown equally often after `step` steps; never for examples drawn at random."""
        return bool(self.in_turn) and step * self.batch % self.first == 0


def recipe_for(task: Task, changes: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """The task's own recipe, with `changes` that are not None.

    Raises AtomreelError for an unknown key or a value that is no number.
    """
    values = {**task.recipe, **{k: v for k, v in changes.items() if v is not None}}
    if unknown := set(values) - set(Recipe.__dataclass_fields__):
        raise AtomreelError(
            f"training recipe: unknown {', '.join(sorted(unknown))}; "
            f"known are {', '.join(Recipe.__dataclass_fields__)}"
        )
    for key, value in values.items():
        kinds = int if isinstance(getattr(Recipe, key), int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
            raise RecipeError(
                f"training recipe: {key} = {value!r}; a {'whole ' if kinds is int else ''}number from 0 is needed"
            )
    return Recipe(**values)


def fit(
    task: Task,
    recipe: Recipe,
    out: Path,
    *,
    workers: int = 1,
    save_every: float = 180.0,
    stop_at: int | None = None,
    device: str = "auto",
    first: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Train to `recipe.steps` (or stop early at step `stop_at`), resuming from `out/checkpoint`.

    save_every: seconds between checkpoints. first: weights to begin with, instead of random ones.
    Returns the averaged network and a record of the training.
    Raises MissingExtraError without Lightning Fabric.
    """
    out.mkdir(parents=True, exist_ok=True)
    fabric = _fabric(device)
    bare, average = _fresh_networks(task, recipe.seed, first)
    plain = torch.optim.AdamW(bare.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    about = load_checkpoint(out / "checkpoint", net=bare, average=average, optimiser=plain)
    step, spent = int(about.get("step", 0)), float(about.get("seconds", 0))
    rows = list(about.get("curve", []))
    net, optimiser = fabric.setup(bare, plain)
    average.to(fabric.device)
    clock = saved = time.monotonic()
    end = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    sums: dict[str, float] = {}
    with open_stock(task, seed=recipe.seed, plan=recipe.plan(), start=step, workers=workers) as stock:
        for made in batches(stock, recipe, start=step, end=end):
            batch = {k: v.to(fabric.device) for k, v in made.items()}
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * schedule(step, recipe.steps, recipe.last)
            net.train()
            with _seeded(recipe.seed * 1_000_003 + step):  # dropout, too, depends on the step alone
                loss, parts = task.loss(net, batch)
            optimiser.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(net, optimiser, max_norm=1.0)
            optimiser.step()
            follow(average, bare, min(AVERAGE, (1 + step) / (10 + step)))
            step += 1
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value
            now = time.monotonic()
            if step % LOG_EVERY == 0:
                means = {name: value / LOG_EVERY for name, value in sums.items()}
                rows.append({"step": step, "seconds": spent + now - clock, **means})
                sums = {}
            if recipe.epoch_ends(step) and hasattr(task, "watch"):
                rows.append({"step": step, "seconds": spent + now - clock, **task.watch(average.eval())})
            if step == end or (step % LOG_EVERY == 0 and now - saved > save_every):
                saved = now
                about = {"step": step, "seconds": spent + now - clock, "curve": rows}
                about["recipe"] = asdict(recipe)
                save_checkpoint(out / "checkpoint", net=bare, average=average, optimiser=plain, about=about)
                draw_record(out, rows, task.picture(average.eval(), batch))
    return average.eval(), {"step": step, "seconds": spent + time.monotonic() - clock, "curve": rows}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's own randomness from `seed`, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def _fresh_networks(
    task: Task, seed: int, first: Mapping[str, torch.Tensor] | None = None
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The network with `first` weights or those that `seed` gives, and its running average."""
    with _seeded(seed):
        net = build_network(task.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if first is not None:
        net.load_state_dict(first)
    return net, copy.deepcopy(net).requires_grad_(False)


def batches(stock: Stock, recipe: Recipe, *, start: int, end: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of steps start … end − 1; while one is trained on, the next is made."""
    if start >= end:
        return
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(make_batch, stock, recipe, start)
        for step in range(start, end):
            batch = coming.result()
            if step + 1 < end:
                coming = other.submit(make_batch, stock, recipe, step + 1)
            yield batch


def make_batch(stock: Stock, recipe: Recipe, step: int) -> dict[str, torch.Tensor]:
    """The batch of `step`; the same whenever it is asked for."""
    rng = np.random.default_rng([recipe.seed, 1, step])
    if recipe.in_turn:
        items = stock.at(step)
        chosen = [items[number] for number in turn(recipe, step)]
    else:
        chosen = [stock.pick(step, rng) for _ in range(recipe.batch)]
    parts = [stock.task.encode(example, rng) for example in chosen]
    return {key: torch.from_numpy(np.stack([part[key] for part in parts])) for key in parts[0]}


def turn(recipe: Recipe, step: int) -> npt.NDArray[np.int64]:
    """Numbers of the examples of `step` when all are shown in turn, in a new order every epoch."""
    per_epoch = recipe.first // recipe.batch
    order = np.random.default_rng([recipe.seed, 3, step // per_epoch]).permutation(recipe.first)
    start = step % per_epoch * recipe.batch
    return order[start : start + recipe.batch]


def schedule(step: int, steps: int, last: float = 0.01) -> float:
    """Share of the highest learning rate: linear rise, then a cosine down to `last`."""
    rise = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    return rise * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps)))))


@torch.no_grad()
def follow(average: torch.nn.Module, net: torch.nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the present ones; statistics of norms are copied."""
    present: Mapping[str, torch.Tensor] = net.state_dict()
    for name, value in average.state_dict().items():
        if name.endswith(("running_mean", "running_var")) or not value.is_floating_point():
            value.copy_(present[name])
        else:
            value.lerp_(present[name].to(value.dtype), 1 - decay)


def _fabric(device: str) -> Any:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MissingExtraError("lightning-fabric", extra="train", purpose="training") from error
    precision = "bf16-mixed" if has_bf16(device) else "32-true"
    fabric = Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def has_bf16(device: str) -> bool:
    """Whether bfloat16 is fast here: processors with its instructions, and GPUs that have it."""
    if device in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device in ("auto", "cpu") and bool(probe())
