"""Which columns are of one species: python benchmarks/bench_species.py [IMAGES] (30)

Fresh simulated images of several kinds, 320² px, contrast and spacing told. Of the columns found, the share whose class is that of their
species, under the best naming of the classes: by intensity and place, as `find_columns` does it (`interpret.sublattices`), and by
intensity alone. Columns of all images of a kind together, with the mean over images. Writes measured/species.json. Takes two minutes of one core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from atomreel.interpret.species import fit_species, label_species
from atomreel.interpret.sublattices import measured
from atomreel.predict.columns import find_columns
from atomreel.predict.survey import survey_columns
from atomreel.simulate.sample import Simulated, random_image

MEASURED = Path(__file__).parent / "measured" / "species.json"
SEED = 20_261_122
SIDE, SPACINGS = 320, (6.0, 20.0)  # px
LEAST = 40  # columns of an image that counts
WITHIN = 0.35  # spacings: a column that is nearer is this one
KINDS: dict[str, dict[str, Any]] = {
    "STEM, GaAs and hBN": {"modality": "stem", "materials": ["gaas110", "hbn"]},
    "STEM, graphene, Si, Au, SrTiO₃ and WS₂": {
        "modality": "stem",
        "materials": ["graphene", "si110", "au110", "au100", "srtio3", "ws2"],
    },
    "HRTEM, graphene, hBN and WS₂": {"modality": "hrtem", "materials": ["graphene", "hbn", "ws2"]},
}


def named_right(true: npt.NDArray[np.str_], found: npt.NDArray[np.str_]) -> float:
    """Share of `found` that is right under the best one-to-one naming."""
    (_, t), (_, f) = (np.unique(names, return_inverse=True) for names in (true, found))
    table = np.zeros((t.max() + 1, f.max() + 1))
    np.add.at(table, (t, f), 1)
    return float(table[linear_sum_assignment(-table)].sum() / len(true))


def right(made: Simulated) -> tuple[int, float, float] | None:
    """Columns that count, and the shares by intensity and place and by intensity alone."""
    contrast = "bright" if made.bright else "dark"
    survey = survey_columns(made.image, contrast=contrast, spacing=made.nn_px)
    table = find_columns(made.image, survey=survey).table
    if not len(table) or not len(made.columns):
        return None
    position, intensity, error = measured(table)
    gap, own = cKDTree(made.columns).query(position)
    known = gap < WITHIN * made.nn_px
    if known.sum() < LEAST:
        return None
    true = np.asarray(made.species).astype(str)[own[known]]
    alone = label_species(intensity, error, model=fit_species(intensity, error)).labels
    both = (table["species"].to_numpy(str), alone)
    return int(known.sum()), *(named_right(true, names[known]) for names in both)  # type: ignore[return-value]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    result: dict[str, Any] = {}
    for which, (kind, how) in enumerate(KINDS.items()):
        rows = []
        for number in range(count):
            rng = np.random.default_rng([SEED, which, number])
            spacing = float(np.exp(rng.uniform(*np.log(SPACINGS))))
            one = right(random_image(rng, size=(SIDE, SIDE), nn_px=(spacing, spacing), **how))
            rows += [] if one is None else [one]
        columns, place, alone = np.array(rows).T
        result[kind] = {"images": len(rows), "columns": int(columns.sum())}
        for name, share in (("by_place", place), ("by_intensity_alone", alone)):
            result[kind] |= {
                name: round(float(np.average(share, weights=columns)), 3),
                f"{name}_mean_of_images": round(float(share.mean()), 3),
            }
        print(kind, result[kind], flush=True)
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
