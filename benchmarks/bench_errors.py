"""Errors of positions, and how often claimed ones cover them: python benchmarks/bench_errors.py [IMAGES] (30)

Fresh simulated images of several kinds, 320² px, contrast and spacing told. Of every column that shows (signal-to-noise ratio above 0.5), is found
and is half a spacing or more from the border: how far the fit, the network and their mean (`predict.placing`) are from the truth, in px of
the network, and how often the mean's claim covers that. Medians over the images of a kind with 25 such columns or more, so that one image of many columns does not speak
for all. With --claims also what the parts of a claim are worth, by leaving each out. Writes measured/errors.json. Takes one minute of one core.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.scope import Scope
from atomreel.predict import columns, placing
from atomreel.predict.survey import survey_columns
from atomreel.simulate.sample import Simulated, random_image

Array = npt.NDArray[np.float64]
MEASURED = Path(__file__).parent / "measured" / "errors.json"
SEED = 20_261_124
SIDE, SPACINGS = 320, (6.0, 24.0)  # px
SEEN, LEAST = 0.5, 25
WITHIN = 0.35  # spacings: a column that is nearer is this one
METAL = Scope(faceted=1.0)
KINDS: dict[str, dict[str, Any]] = {
    "STEM, anything": {"modality": "stem"},
    "STEM, graphene, hBN and sulphides": {
        "modality": "stem",
        "materials": ["graphene", "hbn", "ws2", "mos2"],
    },
    "STEM, gold particles": {"modality": "stem", "materials": ["au110", "au100"], "scope": METAL},
    "HRTEM, graphene and hBN": {"modality": "hrtem", "materials": ["graphene", "graphene", "hbn"]},
    "HRTEM, anything": {"modality": "hrtem"},
    "HRTEM, gold particles": {"modality": "hrtem", "materials": ["au110", "au100"], "scope": METAL},
    "STM, anything": {"modality": "stm"},
    "STM, graphene": {"modality": "stm", "materials": ["graphene"]},
}
PARTS: dict[str, dict[str, Any]] = {  # what stands in for a part that is left out
    "whole": {},
    "without the score": {"DOUBTED": 0.0},
    "without the distance of both": {"DISAGREED": 0.0},
    "without the lattice": {"scatter_over_claim": lambda points, errors: np.inf},
}


@dataclass(frozen=True)
class Read:
    """One image, its counted columns alone where `counted`: (N, 2) fit, its errors, network and truth [px of the image]."""

    fit: Array
    errors: Array
    network: Array
    truth: Array
    score: Array
    counted: npt.NDArray[np.bool_]
    zoom: float

    def placed(self) -> tuple[Array, Array]:
        return placing.place(self.fit, self.errors, self.network, score=self.score, zoom=self.zoom)


def read(made: Simulated) -> Read | None:
    """What the fit and the network say of an image; None where too little is found."""
    seen: list[tuple[Array, Array, Array, Array]] = []

    def kept(fit: Array, errors: Array, network: Array, *, score: Array, zoom: float) -> tuple[Array, Array]:
        seen.append((fit, errors, network, score))
        return placing.place(fit, errors, network, score=score, zoom=zoom)

    contrast = "bright" if made.bright else "dark"
    survey = survey_columns(made.image, contrast=contrast, spacing=made.nn_px)
    with patch.object(columns, "place", kept):
        columns.find_columns(made.image, survey=survey)
    truth = made.columns[made.snr > SEEN]
    if not seen or len(truth) < LEAST:
        return None
    fit, errors, network, score = seen[0]
    gap, own = cKDTree(truth).query((network + fit) / 2, distance_upper_bound=WITHIN * made.nn_px)
    first = np.zeros(len(gap), dtype=bool)
    order = np.argsort(gap, kind="stable")
    first[order[np.unique(own[order], return_index=True)[1]]] = True
    edge = 0.5 * made.nn_px
    inside = ((network >= edge) & (network <= SIDE - 1 - edge)).all(1)
    counted = first & np.isfinite(gap) & inside
    if counted.sum() < LEAST:
        return None
    mate = truth[np.minimum(own, len(truth) - 1)]
    return Read(fit, errors, network, mate, score, counted, survey.zoom)


def images(kind: str, count: int) -> list[Read]:
    out = []
    for number in range(count):
        rng = np.random.default_rng([SEED, list(KINDS).index(kind), number])
        spacing = float(np.exp(rng.uniform(*np.log(SPACINGS))))
        one = read(random_image(rng, size=(SIDE, SIDE), nn_px=(spacing, spacing), **KINDS[kind]))
        out += [] if one is None else [one]
    return out


def covered(one: Read) -> tuple[float, float]:
    position, claim = one.placed()
    off = (np.abs(position - one.truth) / claim)[one.counted]
    return float((off < 1).mean()), float((off < 2).mean())


def shares(found: list[Read]) -> dict[str, Any]:
    told = np.array([covered(one) for one in found])
    return {
        "within_1_sigma": round(float(np.median(told[:, 0])), 3),
        "within_2_sigma": round(float(np.median(told[:, 1])), 3),
        "sd_of_images_1_sigma": round(float(told[:, 0].std()), 3),
    }


def measured(found: list[Read], *, claims: bool) -> dict[str, Any]:
    rows: dict[str, list[float]] = {"fit": [], "network": [], "mean": []}
    for one in found:
        for name, where in (("fit", one.fit), ("network", one.network), ("mean", one.placed()[0])):
            off = (where - one.truth)[one.counted] * one.zoom
            rows[name].append(float(np.sqrt((off**2).mean())))
    columns_counted = int(sum(one.counted.sum() for one in found))
    result: dict[str, Any] = {"images": len(found), "columns": columns_counted}
    result |= {f"rms_{name}_px": round(float(np.median(v)), 3) for name, v in rows.items()}
    for name, instead in (PARTS if claims else {"whole": {}}).items():
        with ExitStack() as stack:
            for part, value in instead.items():
                stack.enter_context(patch.object(placing, part, value))
            result[name] = shares(found)
    return result


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    result: dict[str, Any] = {}
    for kind in KINDS:
        result[kind] = measured(images(kind, numbers[0] if numbers else 30), claims="--claims" in sys.argv)
        print(kind, result[kind], flush=True)
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
