"""A model is loaded only when its files agree, and says what speaks against using it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from atomreel.core.errors import ModelError, UnknownNameError
from atomreel.core.image import Movie
from atomreel.predict.model import check, describe_models, load_model, model_folder, model_names


def test_the_shipped_model_loads() -> None:
    net, card = load_model("columns")
    assert "columns" in model_names()
    assert not net.training
    assert card.name == "columns"
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert load_model("columns")[0] is net


def test_shipped_models_are_small() -> None:
    assert sum((model_folder(name) / "weights.safetensors").stat().st_size for name in model_names()) < 15e6


def test_an_unknown_model_is_answered_with_the_names() -> None:
    with pytest.raises(UnknownNameError, match="columns"):
        load_model("colums")


@pytest.mark.parametrize("damage", ["swap", "cut", "missing"])
def test_damaged_models_are_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(model_folder("columns"), folder)
    weights = folder / "weights.safetensors"
    data = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:-4] + b"abcd")
    with pytest.raises(ModelError, match="weights"):
        load_model(folder)


@pytest.mark.parametrize("line", ["colour = 3", 'width = "wide"', "width = -3"])
def test_a_card_of_an_unknown_network_is_refused(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(model_folder("bravais"), folder)
    card = (folder / "card.toml").read_text(encoding="utf-8")
    (folder / "card.toml").write_text(
        re.sub(r"\[network\].*?(?=\n\[|\Z)", f'[network]\nkind = "columns"\n{line}\n', card, flags=re.S)
    )
    with pytest.raises(ModelError, match=r"card\.toml: \[network\] .*\(.+\)"):
        load_model(folder)


def test_check_names_what_does_not_fit() -> None:
    tiny = Movie(frames=[np.zeros((8, 8))], shape=(8, 8), modality="stem")
    fine = Movie(frames=[np.zeros((64, 64))], shape=(64, 64))
    other = Movie(frames=[np.zeros((64, 64))], shape=(64, 64), modality="sem", voltage=5.0)
    assert any("16 px" in p for p in check("columns", tiny))
    assert check("columns", fine) == []
    assert any("sem" in p for p in check("columns", other))
    assert any("voltage" in p for p in check("columns", other))


def test_models_are_described() -> None:
    assert "columns" in describe_models()
    assert "threshold" in describe_models("columns")
