"""Precision asked for against precision reached: python benchmarks/bench_precision.py [--images 240]

Fresh images of any material in STEM, HRTEM and STM, 256² px, over the spacings and conditions that the finder is made
for, under seeds that no training has. `find_columns` is told neither scale nor contrast, then the contrast alone; of what it finds,
before the joint fit, the columns are kept that it would keep for the precision asked for. One is right within a quarter
of the nearest distance of a true column that no better score has taken; what lies within half that distance of the
border is not counted. Images are called clear by the median signal-to-noise ratio of their columns. Writes
measured/precision.json.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel import find_columns
from atomreel.predict.survey import Survey, survey_columns
from atomreel.simulate.sample import Simulated, random_image
from atomreel.tasks.columns import SIMULATED
from atomreel.tasks.scores import least_score

MEASURED = Path(__file__).parent / "measured" / "precision.json"
SEED = 20_261_121
ASKED = (0.8, 0.9, 0.95, 0.99)
SIZE = 256  # px
WITHIN = 0.25  # of the nearest distance
DRAWS = 1000  # of images, for the errors
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def image(number: int, *, seed: int = SEED) -> Simulated:
    rng = np.random.default_rng([seed, number])
    spacing = float(np.exp(rng.uniform(*np.log(SIMULATED))))
    return random_image(rng, size=(SIZE, SIZE), nn_px=(spacing, spacing))


def mates(
    made: Simulated, found: Array, score: Array | None = None
) -> tuple[npt.NDArray[np.intp], Flags, Flags]:
    """(M, 2) rows of true columns and of those found at them, the best score first, or the nearest; which true ones
    count, and which found ones are false."""
    edge = 0.5 * made.nn_px
    seen, kept = (((p >= edge) & (p <= SIZE - 1 - edge)).all(1) for p in (made.columns, found))
    pairs = np.zeros((0, 2), dtype=np.intp)
    if len(made.columns) and len(found):
        gap, nearest = cKDTree(made.columns).query(found, distance_upper_bound=WITHIN * made.nn_px)
        order = np.argsort(gap if score is None else -score, kind="stable")
        order = order[np.isfinite(gap[order])]
        true, first = np.unique(nearest[order], return_index=True)
        pairs = np.stack([true, order[first]], axis=1)
    false = kept.copy()
    false[pairs[:, 1]] = False
    return pairs, seen, false


@dataclass(frozen=True)
class Judged:
    """true: how many columns there are. score: of all that is found; right, false: which of it (neither: not counted)."""

    true: int
    score: Array
    right: Flags
    false: Flags

    def counts(self, sure: float) -> dict[str, dict[str, int]]:
        """By precision asked for, of what is kept when the contrast is that sure."""
        out = {}
        for precision in ASKED:
            kept = self.score >= least_score(self.score, precision, sure=sure)
            right, false = (int((kept & which).sum()) for which in (self.right, self.false))
            out[f"{precision:g}"] = {"true": self.true, "right": right, "false": false}
        return out


def judge(made: Simulated, survey: Survey) -> Judged:
    table = find_columns(made.image, survey=survey, threshold=0.0, refine=False).table
    score = table["score"].to_numpy()
    pairs, seen, false = mates(made, table[["y", "x"]].to_numpy(), score)
    right = np.isin(np.arange(len(score)), pairs[seen[pairs[:, 0]], 1])
    return Judged(int(seen.sum()), score, right, false)


def one(number: int) -> dict[str, Any]:
    made = image(number)
    read = survey_columns(made.image)
    nothing = contrast = judge(made, read)
    if read.bright != made.bright:  # else nothing is read otherwise when it is told
        told = survey_columns(made.image, contrast="bright" if made.bright else "dark")
        contrast = judge(made, told)
    return {
        "clear": float(np.median(made.snr)) if len(made.snr) else 0.0,
        "modality": made.modality,
        "contrast": read.bright == made.bright,
        "told nothing": nothing.counts(read.p_bright if read.bright else 1 - read.p_bright),
        "told the contrast": contrast.counts(1.0),
    }


def rates(rows: list[dict[str, Any]], way: str, asked: str) -> dict[str, float]:
    """Pooled over images; errors are standard deviations over draws of images."""
    table = np.array([[r[way][asked][k] for k in ("right", "false", "true")] for r in rows], float)
    draws = table[np.random.default_rng(0).integers(len(rows), size=(DRAWS, len(rows)))].sum(1)
    right, false, true = table.sum(0)
    return {
        "precision": round(float(right / max(right + false, 1)), 4),
        "precision_err": round(float((draws[:, 0] / np.maximum(draws[:, :2].sum(1), 1)).std()), 4),
        "recall": round(float(right / max(true, 1)), 4),
        "found": int(right + false),
        "images_with_columns": int((table[:, :2].sum(1) > 0).sum()),
    }


def groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """All, thirds by how clear an image is, by microscope, and by what the survey made of the contrast."""
    order = sorted(rows, key=lambda r: float(r["clear"]))
    third = [[order[i] for i in part] for part in np.array_split(np.arange(len(order)), 3)]
    named = {"all": rows, **dict(zip(("unclear", "middle", "clear"), third, strict=True))}
    named |= {kind: [r for r in rows if r["modality"] == kind] for kind in ("stem", "hrtem", "stm")}
    named["contrast read wrong"] = [r for r in rows if not r["contrast"]]
    return {name: part for name, part in named.items() if part}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {"seed": SEED, "size_px": SIZE}
    for way in ("told nothing", "told the contrast"):
        result[way] = {}
        for name, part in groups(rows).items():
            snr = [round(f(r["clear"] for r in part), 2) for f in (min, max)]
            columns = sum(r[way]["0.8"]["true"] for r in part)
            asked = {str(a): rates(part, way, str(a)) for a in ASKED}
            result[way][name] = {"images": len(part), "columns": columns, "snr": snr, **asked}
            print(way, name, {a: (v["precision"], v["precision_err"], v["recall"]) for a, v in asked.items()})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--out", type=Path, default=MEASURED)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for number in range(chosen.images):
        rows.append(one(number))
        print(number, json.dumps(rows[-1]), flush=True)
    chosen.out.write_text(json.dumps(summary(rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
