"""A card survives its file; a damaged or foreign one is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atomreel.core.card import Card, read_card, write_card
from atomreel.core.errors import ModelError

CARD = Card(
    name="demo",
    task="columns",
    purpose="Finds things.",
    network={"kind": "columns", "width": 8},
    classes=("column",),
    scope={"dose": [30.0, 1e4]},
    threshold=0.5,
    scores={"f1": 0.9},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_card(tmp_path / "card.toml", CARD)
    assert read_card(tmp_path / "card.toml") == CARD


def test_numpy_numbers_and_none_are_allowed(tmp_path: Path) -> None:
    card = replace(CARD, threshold=None, scores={"f1": np.float64(0.25), "by_dose": {"30": np.float32(0.5)}})
    write_card(tmp_path / "card.toml", card)
    read = read_card(tmp_path / "card.toml")
    assert read.threshold is None
    assert read.scores == {"f1": 0.25, "by_dose": {"30": 0.5}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = 'other'\nversion = 1\n", "expected format"),
        ("format = 'atomreel-card'\nversion = 99\n", "update atomreel"),
        ("format = 'atomreel-card'\nversion = 1\nname = 'x'\n", "missing"),
        ("not toml at all [", "damaged"),
    ],
)
def test_foreign_cards_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(ModelError, match=says):
        read_card(tmp_path / "card.toml")


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model card"):
        read_card(tmp_path / "card.toml")
