"""What every section of docs/results.md is made of: measured figures, remarks, rows of a table."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MEASURED = HERE / "measured"
REMARKS = tomllib.loads((HERE / "remarks.toml").read_text(encoding="utf-8"))
HEAD = "| what | target | figure | | what limits it |\n|---|---|---|---|---|"


def measured(name: str) -> dict[str, Any]:
    file = MEASURED / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def verdict(met: bool | None) -> str:
    return {True: "met", False: "**not met**", None: "–"}[met]


def row(name: str, target: str, figure: str, met: bool | None) -> str:
    remark = REMARKS.get(name, "")
    return f"| {name} | {target} | {figure} | {verdict(met)} | {remark} |"
