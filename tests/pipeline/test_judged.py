"""The stage of a Run that judges a movie of known material over all frames."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
import tomli_w

from atomreel.core.recipe import load_recipe
from atomreel.core.run import RunFolder
from atomreel.pipeline.driver import run
from atomreel.pipeline.judged import judge_movie
from atomreel.simulate.movie import simulate_ws2_movie


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run of a short movie of WS2."""
    folder = tmp_path_factory.mktemp("judged")
    movie = simulate_ws2_movie(4, frames=10, size=160, dopants=4, vacancies=4, peak=120.0, drift=2.0)
    file = folder / "ws2.tif"
    metadata = {"unit": "nm", "axes": "TYX"}
    tifffile.imwrite(file, movie.frames, imagej=True, resolution=(10 / movie.pixel,) * 2, metadata=metadata)
    recipe = load_recipe(overrides=["defects.material=ws2", "symmetry.passes=0"])
    return run(file, recipe=recipe, out=folder / "run")


@pytest.mark.slow
def test_rates_are_those_of_the_whole_movie(made: Path) -> None:
    rates = json.loads((made / "rates.json").read_text())
    judged = json.loads((made / "reactions" / "rates.json").read_text())
    assert judged and set(judged) <= set(rates)
    assert all(name in judged for name in rates if "→" in name or name.startswith("D of "))
    assert "hole_A0" in rates or "vacancy_share" in rates
    assert "reactions/reactions.html" in (made / "report.html").read_text(encoding="utf-8")
    assert set(pd.read_parquet(made / "reactions" / "defects.parquet").kind) & {"Mo_W", "Mo_W+V_S", "V_S"}
    assert (made / "reactions" / "classes.parquet").is_file(), "the file is known, so crops were made"


def plan(
    material: str | None, *, frames: int = 20, size: int = 160, over_movie: bool = True
) -> SimpleNamespace:
    options = SimpleNamespace(material=material, over_movie=over_movie)
    movie = np.empty((frames, 0))
    recipe = SimpleNamespace(defects=options, run=SimpleNamespace(seed=0))
    return SimpleNamespace(recipe=recipe, movie=_Sized(movie, (size, size)))


class _Sized:
    def __init__(self, frames: np.ndarray, shape: tuple[int, int]) -> None:
        self._frames, self.shape = frames, shape

    def __len__(self) -> int:
        return len(self._frames)


def nothing(path: Path) -> RunFolder:
    """A Run in which no column was found."""
    path.mkdir()
    about = {
        "format": "atomreel-run",
        "version": 1,
        "recipe": {},
        "input": {"frames": 20, "shape": [160, 160]},
    }
    (path / "run.toml").write_text(tomli_w.dumps(about), encoding="utf-8")
    (path / "rates.json").write_text(json.dumps({"V_S→Mo_W": {"value": 1}, "hole_rho": {"value": 2}}))
    columns = {
        "frame": [0],
        "y": [10.0],
        "x": [10.0],
        "y_err": [0.1],
        "x_err": [0.1],
        "score": [0.9],
        "intensity": [1.0],
    }
    pd.DataFrame(columns).to_parquet(path / "atoms.parquet")
    pd.DataFrame({"frame": range(20)}).to_parquet(path / "phases.parquet")
    return RunFolder(path)


def test_where_nothing_can_be_judged_single_frames_stand_and_it_is_said(tmp_path: Path) -> None:
    folder = nothing(tmp_path / "run")
    before = (folder.path / "rates.json").read_bytes()
    told = judge_movie(plan("ws2"), folder, tmp_path / "none.tif")
    assert len(told) == 1 and "single frames" in told[0]
    assert (folder.path / "rates.json").read_bytes() == before and not (folder.path / "reactions").exists()


@pytest.mark.parametrize(
    "asked",
    [plan(None), plan("ws2", over_movie=False), plan("ws2", frames=3), plan("ws2", size=20_000)],
    ids=["no material", "off", "few frames", "large frames"],
)
def test_what_is_not_asked_for_is_not_done(asked: SimpleNamespace, tmp_path: Path) -> None:
    folder = nothing(tmp_path / "run")
    assert judge_movie(asked, folder, tmp_path / "none.tif") == []
    assert not (folder.path / "reactions").exists()
