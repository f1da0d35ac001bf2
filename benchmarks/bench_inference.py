"""Time of the column network on a 512² frame, by engine and threads: `python benchmarks/bench_inference.py [MODEL]`.

MODEL: a name or folder; "random" for random weights, which take as long and whose differences are of no interest.
Writes measured/inference.json: ms by the clock and of processor time (median of SAMPLES), first use (build, compile
and check), and the largest difference of a logit from torch float32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MEASURED = Path(__file__).parent / "measured" / "inference.json"
WAYS = ("torch f32", "torch bf16", "openvino f32", "openvino bf16")
SIZE, SAMPLES = 512, 15


def measure(threads: int, model: str) -> dict[str, dict[str, float]]:
    """All ways in this process."""
    import torch

    torch.set_num_threads(threads)
    from atomreel.nets.columns import build, local_normalise
    from atomreel.predict import backend
    from atomreel.predict.model import load_model

    net = build().eval().requires_grad_(False) if model == "random" else load_model(model)[0]
    unet = net.to(memory_format=torch.channels_last).columns  # type: ignore[call-overload, union-attr]
    counts = np.random.default_rng(0).poisson(5.0, (SIZE, SIZE)).astype(np.float32)
    image = local_normalise(torch.from_numpy(counts)[None, None]).contiguous(
        memory_format=torch.channels_last
    )
    result = {}
    with torch.no_grad():
        expected = unet(image)
        for way in WAYS:
            engine, precision = way.split()
            before = time.perf_counter()
            if engine == "openvino":
                network = backend._openvino(unet, precision, threads)
            else:
                network = backend._torch_bf16(unet) if precision == "bf16" else unet
            answer = network(image)
            first = time.perf_counter() - before
            clock, used = [], []
            for _ in range(SAMPLES):
                wall, own = time.perf_counter(), time.process_time()
                network(image)
                clock.append(time.perf_counter() - wall)
                used.append(time.process_time() - own)
            result[way] = {
                "ms": round(1e3 * float(np.median(clock)), 1),
                "cpu_ms": round(1e3 * float(np.median(used)), 1),
                "first_use_ms": round(1e3 * first, 1),
                "largest_logit_difference": float((answer - expected).abs().max()),
            }
    return result


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--threads":
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3])))
        return
    model = sys.argv[1] if len(sys.argv) > 1 else "columns"
    measured = {}
    for name, threads in (("1 thread", 1), ("2 threads", 2)):
        command = [sys.executable, __file__, "--threads", str(threads), model]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        measured[name] = json.loads(done.stdout.splitlines()[-1])
        for way, figures in measured[name].items():
            print(f"{name:10} {way:14}", figures)
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
