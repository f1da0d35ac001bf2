"""From a recipe to a model folder that loads, and its scores written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atomreel.core.card import read_card
from atomreel.core.errors import RecipeError, UnknownNameError
from atomreel.predict.model import load_model
from atomreel.train import evaluate_model, train_model
from atomreel.train.models import data_hash, data_marks


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="columns"):
        train_model("colums", out=tmp_path)
    for text, says in (("steps = 3", "names its task"), ("a = [", "read")):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(RecipeError, match=says):
            train_model(tmp_path / "r.toml", out=tmp_path / "m")


def test_the_data_hash_sees_every_number() -> None:
    one = [{"a": np.arange(4.0), "b": np.ones(2)}]
    two = [{"a": np.arange(4.0), "b": np.array([1, 1.0000001])}]
    assert data_hash(one) == data_hash([{"b": np.ones(2), "a": np.arange(4.0)}]) != data_hash(two)


def test_marks_are_mean_and_deviation_of_what_is_known() -> None:
    examples = [
        {"b": np.array([1.0, np.nan]), "a": np.full(2, np.nan)},
        {"b": np.array([5]), "a": np.ones(0)},
    ]
    assert data_marks(examples) == [0, 0, 3, 2]


@pytest.mark.slow
def test_a_tiny_training_gives_a_model_that_can_be_evaluated(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        'task = "columns"\nsteps = 6\nbatch = 2\nfirst = 8\nfresh = 0.2\nwindow = 8\nexamples = 4\n'
    )
    folder = train_model(tmp_path / "tiny.toml", out=tmp_path / "tiny", workers=0)
    assert {p.name for p in folder.iterdir()} >= {
        "weights.safetensors",
        "card.toml",
        "curve.csv",
        "curve.png",
        "sample.png",
    }
    card = read_card(folder / "card.toml")
    assert card.training["steps"] == 6
    assert len(card.training["data_sha256"]) == 64 and len(card.training["data_marks"]) == 6
    assert load_model(folder)[1] == card
    again = evaluate_model(folder, examples=4, out=tmp_path / "again.toml")
    assert again.scores == card.scores
    assert read_card(tmp_path / "again.toml") == again
