"""Defects of several methods brought together in a Run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

from atomreel.core.errors import InputError, RunError
from atomreel.pipeline.merge import describe_sources, merge_sources, without_parts


def listed(*rows: tuple[int, float, float, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=["frame", "y", "x", "kind", "score"])
    return table.assign(y_err=0.2, x_err=0.2).astype({"frame": "int64", "kind": "str"})


def write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    write(
        folder / "defects.parquet",
        listed((0, 10, 10, "V_S", 0.9), (1, 10, 10, "V_S", 0.6), (1, 50, 50, "Mo_W", 0.8)),
    )
    write(
        folder / "reactions" / "defects.parquet",
        listed((0, 10, 10.5, "V_S", 0.99), (1, 50, 50, "Mo_W", 0.99)),
    )
    about = {"format": "atomreel-run", "version": 1, "input": {"frames": 2}, "survey": {"spacing_px": 8.0}}
    (folder / "run.toml").write_text(tomli_w.dumps(about))
    return folder


def test_single_frames_and_the_movie(run: Path) -> None:
    merged = merge_sources(run)
    assert list(merged.source) == ["lattice+movie", "lattice", "lattice+movie"]
    assert merged.agree.tolist() == [True, False, True]
    assert merged.score[1] < 0.5 < merged.score[0], "the movie is silent about it"
    assert pd.read_parquet(run / "sources.parquet").equals(merged)
    assert "lattice+movie: 2 places, 2 with" in describe_sources(merged)[0]


@pytest.mark.parametrize(("source", "name"), [("detector", "detector"), ("classifier", "classifier")])
def test_with_what_a_detector_found(run: Path, tmp_path: Path, source: str, name: str) -> None:
    found = listed((0, 10, 10, "dimmer", 0.7), (1, 30, 30, "brighter", 0.95)).assign(
        source=["detector", source]
    )
    write(tmp_path / "found" / "defects.parquet", found)
    merged = merge_sources(run, tmp_path / "found")
    assert merged.source[0] == f"lattice+movie+{name}" and merged.agree[0] and merged.kind[0] == "V_S"
    assert list(merged.loc[merged.y == 30, "source"]) == [name]


def test_frames_count_as_the_run_counts_them(run: Path, tmp_path: Path) -> None:
    about = {"format": "atomreel-run", "version": 1, "survey": {"spacing_px": 8.0}}
    chosen = {"frames": 2, "source_frames": [4, 6]}
    (run / "run.toml").write_text(tomli_w.dumps(about | {"input": chosen}))
    write(
        tmp_path / "found" / "defects.parquet", listed((4, 10, 10, "dimmer", 0.7), (5, 9, 9, "dimmer", 0.9))
    )
    merged = merge_sources(run, tmp_path / "found")
    assert merged.source[0] == "lattice+movie+detector" and merged.kind_detector.ne("").sum() == 1


def test_of_a_movie_with_a_lattice_the_places_are_followed(run: Path) -> None:
    """Five frames of two things that stand: a track each, the doubtful place of one frame in none; rates beside the table."""
    rows = [(t, 20.0, 20.0, "V_S", 0.9) for t in range(5)] + [(t, 45.0, 40.0, "Mo_W", 0.9) for t in range(5)]
    write(run / "defects.parquet", listed(*rows, (2, 30.0, 60.0, "V_S", 0.6)))
    write(run / "reactions" / "defects.parquet", listed(*rows))
    write(
        run / "lattice.parquet",
        pd.DataFrame([{"frame": 0, "grain": 0, "a_px": 14.0, "b_px": 14.1, "gamma_deg": 60.0}]),
    )
    given = {"frames": 5, "shape": [90, 90], "pixel_A": [0.2, 0.2]}
    about = {"format": "atomreel-run", "version": 1, "input": given, "survey": {"spacing_px": 8.0}}
    (run / "run.toml").write_text(tomli_w.dumps(about))
    merged = merge_sources(run)
    assert merged.groupby("kind").track.agg(lambda t: sorted(set(t))).to_dict() == {
        "Mo_W": [1],
        "V_S": [-1, 0],
    }
    rates = json.loads((run / "sources.json").read_text())
    assert set(rates) == {f"{what} of {kind}" for what in ("hops", "D") for kind in ("V_S", "Mo_W")}
    assert rates["hops of V_S"]["value"] == 0 and rates["hops of V_S"]["unit"] == "1/frame"


def test_a_vacancy_that_is_part_of_a_complex_is_no_second_defect() -> None:
    single = listed(
        (0, 10, 10, "Mo_W", 0.9), (0, 14, 10, "V_S", 0.9), (0, 40, 10, "V_S", 0.9), (1, 14, 10, "V_S", 0.9)
    )
    judged = listed((0, 10, 10, "Mo_W+V_S", 0.99))
    left = without_parts(single, judged, reach=6.0)
    assert left.index.tolist() == [0, 2, 3]


def test_bad_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        merge_sources(tmp_path / "none")
    with pytest.raises(InputError, match="no such table"):
        merge_sources(run, tmp_path / "empty")
    write(tmp_path / "other" / "defects.parquet", listed((7, 10, 10, "dimmer", 0.7)))
    with pytest.raises(InputError, match="same movie"):
        merge_sources(run, tmp_path / "other")
    (run / "run.toml").write_text(
        tomli_w.dumps({"format": "atomreel-run", "version": 1, "input": {"frames": 2}})
    )
    with pytest.raises(InputError, match="distance"):
        merge_sources(run)
