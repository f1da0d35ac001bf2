"""Measures by which a Run is judged: they must notice what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.quality import half_dose_agreement, quality
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import plan_run


def test_a_good_movie_has_no_warnings_and_a_spoilt_table_has(movie: Path, finished: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.passes=0", "run.preview=3"])
    plan = plan_run(open_source(movie, recipe.input), recipe)
    atoms = pd.read_parquet(finished / "atoms.parquet")
    good = quality(plan, atoms)
    assert not good["short_pairs"]["warn"] and not good["coverage_gaps"]["warn"]
    assert all({"value", "meaning", "warn"} == set(row) for row in good.values())
    twice = pd.concat([atoms, atoms[::4].assign(y=atoms.y + 1)], ignore_index=True)
    assert quality(plan, twice)["short_pairs"]["warn"]
    assert quality(plan, atoms[atoms.y < 20])["coverage_gaps"]["warn"]
    assert quality(plan, atoms.assign(domain=0.1))["outside_domain_fraction"]["warn"]
    stored = json.loads((finished / "quality.json").read_text())
    assert set(stored) == set(good)


def test_two_halves_of_the_counts(movie: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.passes=0"])
    plan = plan_run(open_source(movie, recipe.input), recipe).columns
    data, _ = plan.source.clean(0)
    found = half_dose_agreement(plan, data)
    assert found is not None and 0.5 < found < 2.0
    assert found == half_dose_agreement(plan, data), "the split is seeded"
    assert half_dose_agreement(plan, data + np.float32(0.25)) is None, "no counts, no halves"
    assert half_dose_agreement(replace(plan), data * 0) is None, "nothing there to compare"
