"""Grains on the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from atomreel.report.drawing import style
from atomreel.report.grains import boundaries_table, draw_doubt, draw_grains, draw_sizes, grains_table
from atomreel.report.results import open_results


def test_grains_have_colours_numbers_and_directions(whole_run: Path, tmp_path: Path) -> None:
    with style():
        drawn = draw_grains(open_results(whole_run), tmp_path)
    assert drawn is not None and "2 grains" in drawn.caption
    with Image.open(tmp_path / "grains.png") as picture:
        rgb = np.asarray(picture.convert("RGB"), float)
    left, right = (rgb[200:700, part].mean((0, 1)) for part in (slice(60, 380), slice(520, 840)))
    assert left[2] > left[0] + 15 and right[0] > right[2] + 15  # blue and orange over grey


def test_maps_of_doubt_and_sizes(whole_run: Path, tmp_path: Path) -> None:
    results = open_results(whole_run)
    with style():
        doubt, sizes = draw_doubt(results, tmp_path), draw_sizes(results, tmp_path)
    assert doubt is not None and "mutual information (nats)" in doubt.svg and "hexagonal" in doubt.svg
    assert sizes is not None and "mean area (px²)" in sizes.svg


def test_tables_in_the_unit_that_is_known(whole_run: Path, tmp_path: Path) -> None:
    grains, edges = grains_table(open_results(whole_run)), boundaries_table(open_results(whole_run))
    assert grains is not None and "area (nm²)" in grains.head and grains.rows[0][2] == "hexagonal"
    assert edges is not None and edges.rows[0][1:3] == ("1 and 2", "12.00 ± 0.15")
    plain = tmp_path / "plain"
    shutil.copytree(whole_run, plain)
    for name in ("grains", "boundaries"):
        table = pd.read_parquet(plain / f"{name}.parquet")
        table[[c for c in table if c.split("_")[-1] not in ("A", "nm2", "nm") and "_A_" not in c and "nm2" not in c]].to_parquet(plain / f"{name}.parquet")  # fmt: skip
    grains, edges = grains_table(open_results(plain)), boundaries_table(open_results(plain))
    assert (
        grains is not None
        and "area (px²)" in grains.head
        and edges is not None
        and edges.rows[0][-1] == "256"
    )


@pytest.mark.parametrize("make", [draw_grains, draw_doubt, draw_sizes])
def test_a_run_without_grains(make, bare_run: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert make(open_results(bare_run), tmp_path) is None
    assert grains_table(open_results(bare_run)) is None and boundaries_table(open_results(bare_run)) is None
