"""Tracks, events and rates of a Run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from atomreel.core.files import write_table
from atomreel.core.recipe import load_recipe
from atomreel.core.tables import check_table
from atomreel.pipeline.motion import motion


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


def test_what_stands_still_does_not_hop_though_each_frame_numbers_its_sites_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    frames = 12
    rows = []
    for t in range(frames):
        sites = rng.permutation(500)
        jumped = 10.0 if t >= 7 else 0.0  # the second one hops once, over a site
        for k, (y, x) in enumerate(((20.0, 20.0), (60.0, 60.0 + jumped))):
            rows.append((t, y + rng.normal(0, 0.3), x + rng.normal(0, 0.3), "V_S", 0.95, int(sites[k])))
    table = pd.DataFrame(rows, columns=["frame", "y", "x", "kind", "score", "site"]).assign(
        y_err=0.3, x_err=0.3
    )
    write_table(tmp_path / "defects.parquet", table.assign(source="lattice"), kind="defects")
    unknown = {"frame": range(frames), "site_fraction": np.nan, "hole_fraction": np.nan}
    write_table(tmp_path / "phases.parquet", pd.DataFrame(unknown), kind="phases")
    plan = SimpleNamespace(
        recipe=load_recipe(), spacing=10.0, pixel=None, movie=_Movie(frames),
        columns=SimpleNamespace(survey=SimpleNamespace(spacing_px=10.0)),
    )  # fmt: skip
    motion(plan, SimpleNamespace(path=tmp_path))
    events = pd.read_parquet(tmp_path / "events.parquet")
    assert events[["event", "frame"]].to_numpy().tolist() == [["hop", 7]]


class _Movie:
    times, shape, dose = None, (100, 100), None

    def __init__(self, frames: int) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return self._frames
