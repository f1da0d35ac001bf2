"""From chunks to the files of a Run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from atomreel.core.errors import AtomreelError, UnknownNameError
from atomreel.core.recipe import load_recipe
from atomreel.core.registry import analyses
from atomreel.core.run import RunFolder
from atomreel.pipeline.assemble import check_analyses, run_analyses
from atomreel.pipeline.driver import run
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import plan_run


def test_maps_have_a_place_in_the_frame(finished: Path) -> None:
    for name, maps in (("symmetry", "p_square"), ("grains", "grain"), ("strain", "exx")):
        group = zarr.open_group(finished / f"{name}.zarr", mode="r")
        array, (oy, ox), (sy, sx) = group[maps], group.attrs["origin"], group.attrs["step"]
        assert array.shape[0] == 5 and group.attrs["frames"] == [0, 1, 2, 3, 4]
        assert 0 <= oy + sy * (array.shape[1] - 1) <= 72 and 0 <= ox + sx * (array.shape[2] - 1) <= 72


def test_the_aligned_movie_is_the_movie_where_nothing_drifts(finished: Path, movie: Path) -> None:
    stack = zarr.open_group(finished / "aligned.zarr", mode="r")["movie"]
    source = open_source(movie, load_recipe().input)
    assert stack.shape == (5, 72, 72)
    inner = (slice(8, -8), slice(8, -8))
    assert np.corrcoef(stack[3][inner].ravel(), source.clean(3)[0][inner].ravel())[0, 1] > 0.85


def test_analyses_are_written_or_told(movie: Path, finished: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = load_recipe(overrides=["analysis.bond_lengths.bins=7", "symmetry.passes=0"])
    plan = plan_run(open_source(movie, recipe.input), recipe)
    atoms = pd.read_parquet(finished / "atoms.parquet")
    (tmp_path / ".work").mkdir()
    notes = run_analyses(plan, RunFolder(tmp_path), atoms)
    assert len(pd.read_parquet(tmp_path / "bond_lengths.parquet")) == 7 and notes == []

    def fail(*_: object, bins: int = 7) -> None:
        raise AtomreelError("no idea")

    entry = analyses()["bond_lengths"]
    monkeypatch.setitem(
        analyses(), "bond_lengths", type(entry)("bond_lengths", fail, entry.needs, entry.gives)
    )
    assert run_analyses(plan, RunFolder(tmp_path), atoms) == ["bond_lengths: not done (no idea)"]


@pytest.mark.parametrize("given", ["analysis.bond_lenghts.bins=7", "analysis.bond_lengths.bin=7"])
def test_an_unknown_analysis_or_key_is_refused_first(given: str, movie: Path, tmp_path: Path) -> None:
    recipe = load_recipe(overrides=[given])
    with pytest.raises(UnknownNameError, match="did you mean"):
        check_analyses(recipe.analysis)
    with pytest.raises(UnknownNameError, match="did you mean"):
        run(movie, recipe=recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
