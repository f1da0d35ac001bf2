"""What is told of judged defects: here vacancies that sit, hop or blink, written by hand, in a Run without its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w

from atomreel.kinetics.intervals import rate
from atomreel.pipeline.evolution import Judged, describe_reactions, trajectories
from atomreel.track.sites import Sites

FRAMES, GAP = 60, 10.0


def judged(rng: np.random.Generator) -> Judged:
    """On a square lattice of 10 × 10 sites, in drift: track 0 sits, 1 hops every few frames, 2 blinks, 3 is there twice."""
    y, x = np.divmod(np.arange(100), 10)
    place = GAP * np.stack([y, x], axis=1) + 20
    drift = np.stack([0.2 * np.arange(FRAMES), -0.1 * np.arange(FRAMES)], axis=1)
    site, rows = 44, []
    for t in range(FRAMES):
        if rng.random() < 0.3:
            site = int(np.clip(site + rng.choice([-10, -1, 1, 10]), 0, 99))
        own = [(0, 5), (1, site)] + ([(2, 90)] if t // 5 % 2 == 0 else []) + ([(3, 9)] if t in (7, 8) else [])
        for track, at in own:
            seen = place[at] + drift[t] + rng.normal(0, 0.3, 2)
            rows.append((t, *seen, 0.3, 0.3, "V_S", 0, 0.97, track, at, *place[at]))
    names = [
        "frame",
        "y",
        "x",
        "y_err",
        "x_err",
        "kind",
        "state",
        "score",
        "track",
        "site",
        "site_y",
        "site_x",
    ]
    motion = pd.DataFrame({"frame": range(FRAMES), "dy": drift[:, 0], "dx": drift[:, 1], "turn_deg": 0.0})
    table = pd.DataFrame({"site": range(100), "y": place[:, 0], "x": place[:, 1]})
    sites = Sites(table, pd.DataFrame(), motion, np.ones((100, FRAMES)), GAP, 0)
    times = 0.5 * np.arange(FRAMES)
    rates = {"hops of V_S": rate(20, 30.0)}
    return Judged(pd.DataFrame(rows, columns=names), [], rates, sites, np.arange(FRAMES), times, (0.2, 0.2))


def test_each_track_is_of_its_kind() -> None:
    made = judged(np.random.default_rng(3))
    found = trajectories(made).set_index("track")
    assert found["kind"].to_dict() == {0: "weakly moving", 1: "diffusing", 2: "flickering"}
    own = made.tracks.loc[made.tracks["track"] == 1, ["site_y", "site_x"]].to_numpy()
    square = (np.diff(own, axis=0) ** 2).sum(axis=1).mean()  # of the hops that there were
    true = float(square) * 0.2**2 / (4 * 0.5)  # Å²/s
    assert found.at[1, "d_low"] < true < found.at[1, "d_high"]
    assert found.at[0, "d_high"] < 0.1 * true and set(found["of"]) == {"V_S"}


def test_a_run_without_its_file_is_told_without_crops(tmp_path: Path) -> None:
    run, out = tmp_path / "a.atomreel", tmp_path / "out"
    run.mkdir()
    out.mkdir()
    head = {
        "format": "atomreel-run",
        "version": 1,
        "input": {"path": "gone.tif", "sha256": "0", "frames": 60},
    }
    (run / "run.toml").write_text(tomli_w.dumps(head | {"recipe": {}}), encoding="utf-8")
    notes = describe_reactions(run, out, judged(np.random.default_rng(1)))
    assert len(notes) == 1 and "gone.tif" in notes[0] and "--movie" in notes[0]
    names = {p.name for p in out.iterdir()}
    assert names == {"trajectories.csv", "checks.json", "reactions.html"} | {
        f"{name}.{end}" for name in ("survival", "counts") for end in ("png", "svg")
    }
    told = json.loads((out / "checks.json").read_text(encoding="utf-8"))
    dwell = told["dwells"]["V_S at a site"]
    assert dwell["share"][0] == 1.0 and dwell["ended"] >= 10 and told["notes"] == notes
    half = dwell["time"][int(np.searchsorted(-np.array(dwell["share"]), -0.5))]
    assert half == pytest.approx(np.log(2) / 0.6, abs=1.0)  # a hop in 0.3 of the frames of half a second
    page = (out / "reactions.html").read_text(encoding="utf-8")
    assert "gone.tif" in page and "hops of V_S" in page and "flickering" in page
