"""Posterior of 5,000 dropout passes of one 128² window: quick and naive side by side.

    python benchmarks/bench_dropout.py [MODEL] [--passes 5000]

MODEL: a folder of `atomreel train bravais-2018`, by default out/bravais-2018. Naive is the whole network 5,000 times with
torch's own dropout, float32, one window a time. Three networks: the trained one; the same with dropout after every layer,
which it was not trained for; and one of fresh weights whose input is the whole half plane of the amplitude. Two windows:
one like the training set's, and one pure wave, whose few strong activations carry most of the sums. For the
fresh weights the naive loop runs a fifth of the passes and its time is multiplied by five. Every time is from the window's
pixels to the draws. Writes measured/dropout.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atomreel.nets.bravais_2018 import PaperNet, amplitude, build
from atomreel.predict.model import load_model
from atomreel.simulate.bravais_2018 import paper_window

HERE = Path(__file__).parent
REPEATS = 9
SEEN = 0.01  # standard deviation of a class's probability from which it is compared


def windows() -> dict[str, torch.Tensor]:
    lattice = paper_window("oblique", rng=np.random.default_rng(5)).image
    y, x = np.mgrid[:128, :128] / 128
    wave = np.cos(2 * np.pi * (7 * y + 11 * x)).astype(np.float32)
    return {"lattice": torch.from_numpy(lattice)[None], "one wave": torch.from_numpy(wave)[None]}


def naive(net: PaperNet, window: torch.Tensor, passes: int) -> torch.Tensor:
    """(passes, 6) probabilities, one whole pass after the other."""
    net.train()
    shown = amplitude(window, reach=net.reach)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(1)
        drawn = torch.cat([net(shown).softmax(-1) for _ in range(passes)])
    net.eval()
    return drawn


def quick(net: PaperNet, window: torch.Tensor, passes: int) -> torch.Tensor:
    shown, generator = amplitude(window, reach=net.reach), torch.Generator().manual_seed(2)
    with torch.inference_mode():
        return net.sample(shown, passes=passes, generator=generator)[:, 0].softmax(-1)


def timed(make: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float, float]:
    """What is made, seconds by the clock and of processor time of all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    made = make()
    return made, time.perf_counter() - clock, time.process_time() - processor


def compare(net: PaperNet, window: torch.Tensor, *, passes: int, slow_passes: int) -> dict[str, Any]:
    slow, slow_clock, slow_processor = timed(lambda: naive(net, window, slow_passes))
    share = passes / slow_passes
    runs = [timed(lambda: quick(net, window, passes)) for _ in range(1 if net.everywhere else REPEATS)]
    fast = runs[0][0]
    error = (slow.var(0) / slow_passes + fast.var(0) / passes).sqrt()
    ratio = fast.std(0) / slow.std(0) - 1
    chance = sum((((x - x.mean(0)) / x.std(0)).pow(4).mean(0) - 1) / (4 * len(x)) for x in (slow, fast))
    seen = slow.std(0) > SEEN
    return {
        "naive_passes": slow_passes,
        "naive_s": round(share * slow_clock, 2),
        "naive_processor_s": round(share * slow_processor, 2),
        "quick_s": round(float(np.median([run[1] for run in runs])), 4),
        "quick_fastest_s": round(min(run[1] for run in runs), 4),
        "quick_processor_s": round(float(np.median([run[2] for run in runs])), 4),
        "mean": [round(float(v), 4) for v in fast.mean(0)],
        "std": [round(float(v), 4) for v in fast.std(0)],
        "naive_mean": [round(float(v), 4) for v in slow.mean(0)],
        "naive_std": [round(float(v), 4) for v in slow.std(0)],
        "mean_off_in_standard_errors": [
            round(float(v), 2) for v in ((fast.mean(0) - slow.mean(0)) / error)[seen]
        ],
        "std_off": [round(float(v), 4) for v in ratio[seen]],
        "std_off_by_chance": [round(float(v), 4) for v in chance[seen].sqrt()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, default=HERE.parent / "out" / "bravais-2018")
    parser.add_argument("--passes", type=int, default=5000)
    chosen = parser.parse_args()
    trained, card = load_model(chosen.model)
    assert isinstance(trained, PaperNet)
    nets = {"trained, dense part": trained}
    nets["trained, every layer"] = build(
        **{k: v for k, v in card.network.items() if k not in ("kind", "everywhere")}, everywhere=True
    )
    nets["trained, every layer"].load_state_dict(trained.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        nets["whole half plane, fresh weights, dense part"] = build(reach=64)
        nets["whole half plane, fresh weights, every layer"] = build(reach=64, everywhere=True)
    result: dict[str, Any] = {"passes": chosen.passes, "threads": torch.get_num_threads(), "networks": {}}
    for name, net in nets.items():
        net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        whole = name.startswith("trained")
        shown = windows() if whole else {"lattice": windows()["lattice"]}
        slow = chosen.passes if whole else chosen.passes // 5
        result["networks"][name] = {
            what: compare(net, window, passes=chosen.passes, slow_passes=slow)
            for what, window in shown.items()
        }
        print(name, json.dumps(result["networks"][name], indent=1), flush=True)
    if chosen.passes == 5000:
        (HERE / "measured" / "dropout.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
