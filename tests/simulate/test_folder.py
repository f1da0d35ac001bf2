import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from atomreel.core.errors import InputError, RecipeError, RunError, UnknownNameError
from atomreel.core.files import sha256
from atomreel.core.scope import Scope
from atomreel.simulate.folder import SimulationRecipe, load_simulation, simulate_to_folder

RECIPE = """
count = 3
seed = 5
size = [64, 80]
[scope]
materials = ["ws2"]
modality = ["stem"]
counts = [20, 50]
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_images_truth_and_recipe(recipe, tmp_path):
    out = simulate_to_folder(recipe, tmp_path / "a")
    about = json.loads((out / "images.json").read_text())["images"]
    truth = pd.read_parquet(out / "truth.parquet")
    for entry in about:
        with tifffile.TiffFile(out / "images" / f"{entry['image']}.tif") as file:
            assert file.asarray().shape == (64, 80)
            top, bottom = file.pages[0].tags["XResolution"].value
            assert 10 * bottom / top == pytest.approx(entry["pixel_A"], rel=1e-5)
        assert (truth.image == entry["image"]).sum() == entry["columns"]
    assert (out / "recipe.toml").read_text() == RECIPE
    assert sha256(simulate_to_folder(recipe, tmp_path / "b")) == sha256(out)


def test_an_image_does_not_depend_on_those_before_it(tmp_path):
    scope = Scope(modality="stm")
    few = simulate_to_folder(SimulationRecipe(count=1, size=64, scope=scope), tmp_path / "a")
    more = simulate_to_folder(SimulationRecipe(count=2, size=64, scope=scope), tmp_path / "b")
    one, same = (tifffile.imread(folder / "images" / "00000.tif") for folder in (few, more))
    assert np.array_equal(one, same)
    assert load_simulation(more / "recipe.toml").scope == scope


def test_a_movie(tmp_path):
    out = simulate_to_folder(SimulationRecipe(kind="movie", count=3), tmp_path / "m")
    assert tifffile.imread(out / "movie.tif").shape == (3, 256, 256)
    assert list(pd.read_csv(out / "times.csv").columns) == ["frame", "time_s"]
    assert set(json.loads((out / "rates.json").read_text())) >= {"mo_hop", "growth"}
    assert len(pd.read_parquet(out / "defects.parquet")) > 20


def test_refusals(recipe, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="not empty"):
        simulate_to_folder(recipe, tmp_path / "full")
    recipe.write_text("cuont = 3\n")
    with pytest.raises(UnknownNameError, match="count"):
        load_simulation(recipe)
    with pytest.raises(InputError):
        load_simulation(tmp_path / "nothing.toml")
    with pytest.raises(RecipeError, match="images or movie"):
        SimulationRecipe(kind="film")
    with pytest.raises(RecipeError, match="whole number"):
        SimulationRecipe(count=0)
