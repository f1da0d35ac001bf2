"""Search of learning rate, momentum, weight decay and size of the classifier of windows, that can be run again and goes on where it stopped.

    pip install 'atomreel[search]'
    python benchmarks/search_windows.py [--trials 12] [--steps 120] [--storage out/search_windows.log]

Every trial trains on the same simulated windows for as many steps and is judged by its cross-entropy on the same held-out ones;
trials that lag behind the median are stopped. Seeds are fixed: the same trials come again where none was killed. The storage is a log file, so a search
that was killed loses one trial. Result: benchmarks/measured/windows_search.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from atomreel.tasks.task import build_network
from atomreel.tasks.windows import TASK
from atomreel.train.loop import schedule

HERE = Path(__file__).parent
SEED = 31_415
DRAWN, HELD_OUT = 96, 24  # blocks of 64 windows
STARTED = 4  # trials drawn at random before the sampler learns from them
Tensors = dict[str, torch.Tensor]


def encoded(blocks: int, *, part: int) -> Tensors:
    """Windows of `blocks` fresh blocks."""
    made = []
    for k in range(blocks):
        rng = np.random.default_rng([SEED, part, k])
        block = TASK.sample(rng)
        made += [TASK.encode(block, rng) for _ in range(64)]
    return {key: torch.from_numpy(np.stack([one[key] for one in made])) for key in made[0]}


def train(
    trial: optuna.Trial, chosen: dict[str, Any], data: Tensors, held_out: Tensors, steps: int
) -> dict[str, float]:
    task = replace(TASK, width=chosen["width"], depth=chosen["depth"])
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(SEED)
        net = build_network(task.network).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        net.parameters(),
        lr=chosen["rate"],
        betas=(chosen["momentum"], 0.999),
        weight_decay=chosen["weight_decay"],
    )
    rng, scores = np.random.default_rng([SEED, 3]), {}
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = chosen["rate"] * schedule(step, steps)
        pick = torch.from_numpy(rng.integers(0, len(data["label"]), chosen["batch"]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = task.loss(net, {key: value[pick] for key, value in data.items()})
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % (steps // 4) == 0:
            scores = judge(net, held_out)
            trial.report(scores["cross_entropy"], step)
            if trial.should_prune():
                raise optuna.TrialPruned
    return scores


def judge(net: torch.nn.Module, held_out: Tensors) -> dict[str, float]:
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(part) for part in held_out["image"].split(256)])
    net.train()
    loss = torch.nn.functional.cross_entropy(logits, held_out["label"])
    return {
        "cross_entropy": float(loss),
        "accuracy": float((logits.argmax(1) == held_out["label"]).float().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=12, help="in all, those in the storage included")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--storage", type=Path, default=Path("out/search_windows.log"))
    parser.add_argument("--out", type=Path, default=HERE / "measured" / "windows_search.json")
    given = parser.parse_args()
    given.storage.parent.mkdir(parents=True, exist_ok=True)
    data, held_out = encoded(DRAWN, part=1), encoded(HELD_OUT, part=2)

    def objective(trial: optuna.Trial) -> float:
        chosen = {
            "rate": trial.suggest_float("rate", 3e-4, 3e-2, log=True),
            "momentum": trial.suggest_float("momentum", 0.8, 0.97),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
            "batch": trial.suggest_categorical("batch", [64, 128]),
            "width": trial.suggest_categorical("width", [8, 12, 16]),
            "depth": trial.suggest_int("depth", 2, 4),
        }
        begun = time.monotonic()
        scores = train(trial, chosen, data, held_out, given.steps)
        trial.set_user_attr("accuracy", scores["accuracy"])
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 1))
        return scores["cross_entropy"]

    study = optuna.create_study(
        study_name=f"windows, {given.steps} steps",
        storage=JournalStorage(JournalFileBackend(str(given.storage))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTED),
        load_if_exists=True,
    )
    done = len([t for t in study.trials if t.state.is_finished()])
    study.sampler = optuna.samplers.TPESampler(seed=SEED + done, n_startup_trials=STARTED)
    if not study.trials:
        shipped = {"rate": TASK.recipe["rate"], "momentum": 0.9, "weight_decay": TASK.recipe["weight_decay"]}
        study.enqueue_trial(
            {**shipped, "batch": TASK.recipe["batch"], "width": TASK.width, "depth": TASK.depth}
        )
    study.optimize(objective, n_trials=max(0, given.trials - done))
    rows = [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "cross_entropy": t.value,
            **t.params,
            **t.user_attrs,
        }
        for t in study.trials
    ]
    about = {"steps": given.steps, "windows": len(data["label"]), "held_out": len(held_out["label"])}
    best = {"best": study.best_trial.number, "trials": rows}
    given.out.write_text(json.dumps({**about, **best}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(best, indent=1))


if __name__ == "__main__":
    main()
