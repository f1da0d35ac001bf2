from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.reactions import MOST, draw_rates, draw_states

NAMES = ("Mo_W", "Mo_W+V_S:1", "Mo_W+V_S:2")


def rows(tracks: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = np.tile(np.arange(30), tracks)
    state = rng.integers(3, size=len(frame))
    return pd.DataFrame({"track": np.repeat(np.arange(tracks), 30), "frame": frame, "state": state})


def test_every_state_is_named_and_time_is_in_seconds(tmp_path: Path) -> None:
    drawn = draw_states(rows(5), NAMES, times=2.0 * np.arange(30), folder=tmp_path)
    assert "time (s)" in drawn.svg and all(name in drawn.svg for name in NAMES)
    assert (tmp_path / "states.png").stat().st_size > 5000
    assert "frame" in draw_states(rows(5), NAMES, times=None, folder=tmp_path).svg


def test_of_many_tracks_the_longest_are_drawn(tmp_path: Path) -> None:
    table = rows(MOST + 5)
    table = table[(table.track != 7) | (table.frame < 3)]
    text = draw_states(table, NAMES, times=None, folder=tmp_path).svg
    assert ">7<" not in text and ">8<" in text


def test_rates_stand_in_the_matrix_with_their_ends(tmp_path: Path) -> None:
    q = np.array([[0, 0.0123, 0.5], [0.25, 0, 0.75], [0.1, 0.2, 0]])
    drawn = draw_rates(NAMES, q, (0.5 * q, 2 * q), unit="1/s", folder=tmp_path)
    assert "0.012" in drawn.svg and "0.0062 … 0.025" in drawn.svg and "1/s" in drawn.caption
    assert drawn.svg == draw_rates(NAMES, q, (0.5 * q, 2 * q), unit="1/s", folder=tmp_path).svg
