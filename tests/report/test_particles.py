from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.particles import draw_particles


def draw(folder: Path, event: str) -> str:
    folder.mkdir()
    frames = np.arange(3)
    tracks = pd.DataFrame({"frame": np.tile(frames, 2), "track": np.repeat([0, 1], 3)})
    tracks = tracks.assign(y=10.0 + 8 * tracks["track"] + tracks["frame"], x=20.0)
    events = pd.DataFrame({"frame": [1], "track": [0], "y": [11.0], "x": [20.0], "event": [event]})
    drift = pd.DataFrame({"frame": frames, "dy": 1.0 * frames, "dx": 0.0})
    counts = pd.DataFrame({"frame": frames, "count": [2, 2, 2], "count_err": 0.1})
    image = np.random.default_rng(0).normal(size=(40, 50))
    return draw_particles(image, tracks, events, drift=drift, counts=counts, folder=folder).svg


def test_merges_are_marked_and_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    with_, without = draw(tmp_path / "a", "merge"), draw(tmp_path / "b", "end")
    assert "merges" in with_ and "merges" not in without and "particles in the field" in with_
    draw(tmp_path / "c", "merge")
    assert (tmp_path / "a/particles.svg").read_bytes() == (tmp_path / "c/particles.svg").read_bytes()
    assert (tmp_path / "a/particles.png").stat().st_size > 5000
