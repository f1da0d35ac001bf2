"""Fail when a test was skipped for a reason that .ci/allowed-skips.txt does not list, or more often than it allows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed-skips.txt")


def main(log: Path) -> int:
    allowed = []
    for line in ALLOWED.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            count, _, pattern = line.partition(" ")
            allowed.append((int(count), re.compile(pattern.strip())))
    seen = [0] * len(allowed)
    bad = []
    for count, where, reason in re.findall(r"^SKIPPED \[(\d+)\] (\S+): (.*)$", log.read_text("utf-8"), re.M):
        for k, (most, pattern) in enumerate(allowed):
            if pattern.search(reason):
                seen[k] += int(count)
                if seen[k] > most:
                    bad.append(f"{where}: {seen[k]} skips for {reason!r}, at most {most} are allowed")
                break
        else:
            bad.append(f"{where}: skipped for a reason that is not listed: {reason}")
    print("\n".join(bad), file=sys.stderr)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
