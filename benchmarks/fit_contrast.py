"""The weights of the evidence for bright columns: python benchmarks/fit_contrast.py [IMAGES] (480).

Simulates images of any material in STEM, HRTEM and STM, every sixth of gold particles in HRTEM known atom by atom, takes
what `predict.survey.evidence` says of each, and fits a logistic regression to the true contrast. Prints the weights (they stand in predict/survey.py as EVIDENCE) and how often
those that stand there and the new ones are right, by modality; writes measured/contrast.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.linear_model import LogisticRegression

from atomreel.core.scope import Scope
from atomreel.nets.columns import ColumnFinder
from atomreel.predict.backend import choose_backend
from atomreel.predict.model import load_model
from atomreel.predict.survey import EVIDENCE, evidence, read_scales, strongest
from atomreel.simulate.sample import random_image

MEASURED = Path(__file__).parent / "measured" / "contrast.json"
SEEN = 0.05  # of a full lattice: images in which less is seen are left out


def main() -> None:
    net, card = load_model("columns")
    network = choose_backend(cast(ColumnFinder, net).columns).network
    rows, truth, kinds = [], [], []
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 480):
        rng = np.random.default_rng([31337, number])
        spacing = float(np.exp(rng.uniform(*np.log((5, 24)))))
        gold = number % 6 == 5
        told: dict[str, Any] = (
            {"scope": Scope(faceted=1.0), "modality": "hrtem", "materials": ["au110", "au110", "au100"]}
            if gold
            else {}
        )
        made = random_image(rng, size=(400, 400), nn_px=(spacing, spacing), **told)
        readings = read_scales(network, card.calibration, [made.image], spacing=None, signs=(True, False))
        best = strongest(readings)
        if best is not None and best.mass * best.spacing**2 > SEEN:
            rows.append(evidence(readings, [made.image]))
            truth.append(made.bright)
            kinds.append(f"{made.modality} gold" if gold else made.modality)
    told, bright, kind = np.array(rows), np.array(truth), np.array(kinds)
    fit = LogisticRegression(C=3, fit_intercept=False).fit(told, bright)
    shares = {
        name: {str(k): round(float(right[kind == k].mean()), 3) for k in np.unique(kind)}
        for name, weights in (
            ("right", np.array(EVIDENCE)),
            ("right_without_spacings_and_skewness", np.array([*EVIDENCE[:4], 0, 0, 0])),
            ("right_refitted", fit.coef_[0]),
        )
        for right in [(told @ weights > 0) == bright]
    }
    result = {
        "images": len(bright),
        "weights": [round(float(w), 2) for w in fit.coef_[0]],
        **shares,
    }
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
