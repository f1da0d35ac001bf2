"""Recipes: typed, strict, with the nearest key named."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomreel.core.errors import RecipeError
from atomreel.core.recipe import Recipe, load_recipe, recipe_keys


def test_round_trip(tmp_path: Path) -> None:
    recipe = load_recipe(overrides=["input.pixel_A=0.12", "input.roi=0:9,3:40", "symmetry.window=128"])
    file = tmp_path / "r.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(file) == recipe and recipe.input.roi == "0:9,3:40" and recipe.symmetry.window == 128


def test_override_wins_over_file(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[run]\nseed = 3\nchunk = 4\n", encoding="utf-8")
    recipe = load_recipe(file, overrides=["run.seed=5"])
    assert (recipe.run.seed, recipe.run.chunk) == (5, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("input.pixel=0.1", "did you mean 'input.pixel_A'"),
        ("colums.refine=true", "did you mean 'columns"),
        ("columns.threshold=2", "less than 1"),
        ("input.pixel_A=-1", "greater than 0"),
        ("symmetry.window=big", "symmetry.window"),
        ("nothing", "expected key=value"),
        ("run.seed.deep=1", "run"),
    ],
)
def test_mistakes_are_explained(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(overrides=[override])


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[run\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_every_key_is_described() -> None:
    keys = recipe_keys()
    assert len(keys) > 20 and all(
        "(default:" in text and "None" not in text.split("(")[0] for text in keys.values()
    )
    assert Recipe() == load_recipe()
