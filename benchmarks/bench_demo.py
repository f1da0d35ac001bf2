"""Seconds of `make demo` after the install: python benchmarks/bench_demo.py. Writes measured/demo.json."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    print(done.stdout)
    result = {
        "seconds": seconds,
        "table": [line for line in done.stdout.splitlines() if line.startswith("│")],
    }
    (ROOT / "benchmarks" / "measured" / "demo.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
