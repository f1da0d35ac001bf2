"""One frame, and what is left out of a very large one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atomreel.core.recipe import load_recipe
from atomreel.pipeline.frames import analyse_frame, central_part, find_atoms, is_large
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import plan_run


def test_a_frame_gives_every_table(movie: Path) -> None:
    recipe = load_recipe(overrides=["symmetry.passes=0"])
    source = open_source(movie, recipe.input)
    plan = plan_run(source, recipe)
    data, _ = source.clean(1)
    before = data.copy()
    result = analyse_frame(plan, 1, data)
    assert set(result.tables) == {"atoms", "lattice", "defects", "phases", "grains", "boundaries"}
    assert all(table.columns[0] == "frame" and (table.frame == 1).all() for table in result.tables.values())
    total = sum(
        result.maps[f"symmetry/p_{n}"]
        for n in ("square", "rectangular", "centred", "hexagonal", "oblique", "noise")
    )
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert result.residual is not None and result.residual.shape == data.shape
    np.testing.assert_array_equal(data, before)
    again = analyse_frame(plan, 1, data)
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])


def test_a_mask_keeps_columns_where_it_is_set(movie: Path, tmp_path: Path) -> None:
    mask = np.zeros((72, 72), bool)
    mask[:36] = True
    np.save(tmp_path / "mask.npy", mask)
    recipe = load_recipe(overrides=[f"input.mask={tmp_path / 'mask.npy'}"])
    source = open_source(movie, recipe.input)
    plan = plan_run(source, recipe)
    table = find_atoms(plan.columns, source.clean(0)[0]).table
    assert 15 < len(table) < 45 and table.y.max() < 35.5


def test_of_a_very_large_frame_the_middle_is_judged() -> None:
    atoms = pd.DataFrame({"y": [100.0, 5000.0, 5900.0], "x": [100.0, 5000.0, 5900.0]})
    assert not is_large((4096, 4096)) and is_large((10_000, 10_000))
    shape, near = central_part(atoms, (10_000, 10_000))
    assert shape == (2048, 2048) and near.y.tolist() == pytest.approx([1024, 1924])
    shape, everything = central_part(atoms, (4096, 4096))
    assert shape == (4096, 4096) and everything is atoms
