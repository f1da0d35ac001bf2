"""Tracks, events and rates of a Run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from atomreel.core.tables import check_table


def test_tables_keep_their_contracts(finished: Path) -> None:
    tracks = check_table(pd.read_parquet(finished / "tracks.parquet"), "tracks")
    check_table(pd.read_parquet(finished / "events.parquet"), "events")
    assert not tracks.duplicated(["track", "frame"]).any()
    rates = json.loads((finished / "rates.json").read_text())
    assert all({"value", "low", "high", "unit"} <= set(rate) for rate in rates.values())


def test_the_vacancy_is_one_track(finished: Path) -> None:
    """The atom that is left out of every frame."""
    defects = pd.read_parquet(finished / "defects.parquet")
    cy, cx = 4 + 0.866 * 9 * 3, 3 + 9 * 3.5
    near = ((defects.y - cy) ** 2 + (defects.x - cx) ** 2) ** 0.5 < 2.5
    assert defects[near].frame.nunique() >= 4
    tracks = pd.read_parquet(finished / "tracks.parquet")
    own = tracks[((tracks.y - cy) ** 2 + (tracks.x - cx) ** 2) ** 0.5 < 2.5]
    assert own.track.value_counts().iloc[0] >= 4
    assert own.kind.mode()[0].startswith("vacancy") and own.y.median() == pytest.approx(cy, abs=1.0)
