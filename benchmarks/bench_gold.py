"""Gold particles, told nothing, and what contrast evidence and context are worth: python benchmarks/bench_gold.py [IMAGES] (24)

Fresh simulated images: gold particles known atom by atom in HRTEM with dark columns, with bright columns and in any optics, and in STEM;
and images of anything in STEM, HRTEM and STM. Each is read twice: without the evidence of spacings and skewness for the contrast and without the lattice
around a candidate, and as shipped. Counted are contrast read right, and columns as found, before the joint fit: pooled F1 and the mean of
the images' F1. Writes measured/gold.json. Takes three minutes of one core.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from atomreel.core.scope import Scope
from atomreel.predict import columns, survey
from atomreel.simulate.sample import Simulated, random_image
from atomreel.tasks.columns import match

Array = npt.NDArray[np.float64]
MEASURED = Path(__file__).parent / "measured" / "gold.json"
SEED = 20_261_123
CORRECTED: dict[str, Any] = {
    "faceted": 1.0,
    "c5": 0.0,
    "astigmatism": (0.0, 8.0),
    "dose": (800.0, 12_000.0),
    "voltage": 300.0,
}
SETS: dict[
    str, dict[str, Any]
] = {  # modality, materials and scope; side and nearest distance [px] of the images
    "gold, dark columns (HRTEM, C_s 15…20 µm, 85…115 Å under focus)": {
        "modality": "hrtem",
        "materials": ["au110"],
        "scope": Scope(**CORRECTED, cs=(15.0, 20.0), defocus=(85.0, 115.0)),
    },
    "gold, bright columns (HRTEM, C_s −20…−15 µm, 85…115 Å over focus)": {
        "modality": "hrtem",
        "materials": ["au110"],
        "scope": Scope(**CORRECTED, cs=(-20.0, -15.0), defocus=(-115.0, -85.0)),
    },
    "gold, HRTEM, any optics": {
        "modality": "hrtem",
        "materials": ["au110", "au100"],
        "scope": Scope(faceted=1.0),
    },
    "gold, STEM": {
        "modality": "stem",
        "materials": ["au110"],
        "scope": Scope(faceted=1.0, counts=(1.0, 60.0)),
    },
    "anything, STEM": {"modality": "stem"},
    "anything, HRTEM": {"modality": "hrtem"},
    "anything, STM": {"modality": "stm"},
}
SIDE = {True: (512, (12.0, 28.0)), False: (400, (5.0, 28.0))}  # gold or not


def image(name: str, number: int) -> Simulated:
    rng = np.random.default_rng([SEED, list(SETS).index(name), number])
    side, (low, high) = SIDE[name.startswith("gold")]
    spacing = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return random_image(rng, size=(side, side), nn_px=(spacing, spacing), **SETS[name])


def without(stack: ExitStack) -> None:
    """Contrast by mass, fullness and noise alone; scores as the network gives them."""
    stack.enter_context(patch.object(survey, "EVIDENCE", (*survey.EVIDENCE[:4], 0, 0, 0)))
    stack.enter_context(patch.object(columns, "in_context", lambda position, score, *, spacing: score))


def read(made: Simulated, *, shipped: bool) -> dict[str, int | bool]:
    """Hits, found and true columns away from the border, and whether the contrast is right."""
    with ExitStack() as stack:
        if not shipped:
            without(stack)
        found = columns.find_columns(made.image, refine=False)
    at: Array = found.table[["y", "x"]].to_numpy()
    right, missed = match(made.columns[made.snr > 0], at, spacing=made.nn_px, shape=made.image.shape)
    hits = int((right > 0).sum())
    return {
        "hits": hits,
        "found": int((right >= 0).sum()),
        "true": hits + missed,
        "contrast": bool(found.survey.bright == made.bright),
    }


def pooled(parts: list[dict[str, int | bool]]) -> dict[str, float]:
    hits, found, true = (sum(part[key] for part in parts) for key in ("hits", "found", "true"))
    each = [2 * part["hits"] / max(1, part["found"] + part["true"]) for part in parts]
    return {
        "f1": round(2 * hits / max(1, found + true), 3),
        "mean_image_f1": round(float(np.mean(each)), 3),
        "contrast_right": round(float(np.mean([part["contrast"] for part in parts])), 2),
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    result: dict[str, Any] = {"images_per_set": count}
    for name in SETS:
        made = [image(name, number) for number in range(count)]
        result[name] = {
            told: pooled([read(one, shipped=shipped) for one in made])
            for told, shipped in (("without", False), ("shipped", True))
        }
        print(name, result[name], flush=True)
    MEASURED.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
