"""The figure and tables of who found what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from atomreel.interpret.agreement import combine_sources
from atomreel.report.drawing import style
from atomreel.report.page import write_report
from atomreel.report.results import open_results
from atomreel.report.sources import draw_sources, sources_tables


@pytest.fixture(scope="module")
def merged(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run whose second method misses every third defect and calls vacancies of frame 3 something else."""
    run = tmp_path_factory.mktemp("merged") / "run"
    shutil.copytree(whole_run, run)
    defects = pd.read_parquet(run / "defects.parquet")
    other = defects.drop(index=defects.index[::3])
    other = other.assign(kind=other.kind.where(other.frame != 3, "W_S"))
    combine_sources({"lattice": defects, "movie": other}, reach=5.0).to_parquet(run / "sources.parquet")
    return run


def test_the_figure_shows_the_frame_with_most_disagreement(merged: Path) -> None:
    results = open_results(merged)
    table = results.table("sources")
    assert table is not None
    apart = table[~table.agree].frame.value_counts()
    with style():
        drawn = draw_sources(results, merged / "figures")
    assert drawn is not None and (merged / "figures" / "sources.png").stat().st_size > 5000
    worst = [int(f) for f in apart.index[apart == apart.max()]]
    assert any(f"frame {frame}" in drawn.svg for frame in worst)
    assert "lattice+movie" in drawn.svg


def test_the_tables_count_every_place_once(merged: Path) -> None:
    results = open_results(merged)
    (table,) = sources_tables(results)
    assert table.head[0].startswith("lattice") and "–" in table.head and "W_S" in table.head
    total = sum(int(n.replace(",", "")) for row in table.rows for n in row[1:])
    known = results.table("sources")
    assert known is not None and total == len(known)


def test_it_is_part_of_the_page_and_absent_without_the_table(merged: Path, whole_run: Path) -> None:
    page = write_report(merged).read_text(encoding="utf-8")
    assert "Who found what" in page and "Kinds by lattice and by movie" in page
    results = open_results(whole_run)
    assert sources_tables(results) == [] and draw_sources(results, whole_run / "figures") is None


def test_rates_of_the_places_stand_below_them(merged: Path) -> None:
    one = {"value": 0.021, "low": 0.012, "high": 0.034, "unit": "1/s", "count": 17, "method": "moves"}
    (merged / "sources.json").write_text(json.dumps({"hops of V_S": one}), encoding="utf-8")
    tables = sources_tables(open_results(merged))
    assert [len(tables), tables[1].rows[0][0], tables[1].rows[0][2]] == [2, "hops of V_S", "0.012 … 0.034"]
    assert "followed over the movie" in tables[1].title
    (merged / "sources.json").unlink()
