"""Surface sites of Runs written by hand: only the tables that a Run has, with known blinking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w

from atomreel.core.errors import InputError, RunError
from atomreel.pipeline.surface import describe_comparison, surface_of_runs


def write_run(folder: Path, rng: np.random.Generator, *, speed: float, frames: int = 120) -> Path:
    """A square crystal of 7 × 7 columns, 10 px apart, whose outer ones blink; a twentieth of all is overlooked."""
    n = np.arange(7)
    places = 40.0 + 10 * np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2)
    outer = (np.abs(places - 70) > 29).any(axis=1)
    filled = np.ones(len(places), dtype=bool)
    path = np.cumsum(rng.normal(0, 0.5, (frames, 2)), axis=0) - 0.0
    rows = []
    for t in range(frames):
        flip = rng.random(len(places)) < np.where(filled, 0.3 * speed, speed)
        filled ^= flip & outer
        seen = places[filled & (rng.random(len(places)) < 0.95)] + path[t]
        seen = seen + rng.normal(0, 0.2, seen.shape)
        rows.append(pd.DataFrame({"frame": t, "y": seen[:, 0], "x": seen[:, 1]}))
    folder.mkdir()
    pd.concat(rows, ignore_index=True).to_parquet(folder / "atoms.parquet")
    pd.DataFrame({"frame": range(frames), "t_s": 0.5 * np.arange(frames)}).to_parquet(
        folder / "phases.parquet"
    )
    drift = pd.DataFrame({"frame": range(frames), "dy": path[:, 0], "dx": path[:, 1]})
    drift.to_parquet(folder / "drift.parquet")
    about = {"format": "atomreel-run", "version": 1, "input": {"frames": frames, "shape": [150, 150]}}
    (folder / "run.toml").write_text(tomli_w.dumps(about), encoding="utf-8")
    return folder


def test_two_runs_are_compared_by_their_surface(
    tmp_path: Path, rng: np.random.Generator, call: Callable[..., tuple[int, str, str]]
) -> None:
    slow, fast = (
        write_run(tmp_path / name, rng, speed=v) for name, v in (("vacuum", 0.05), ("oxygen", 0.15))
    )
    code, out, _ = call("surface", slow, fast, "-o", tmp_path / "both")
    assert code == 0 and out.splitlines()[-1] == str(tmp_path / "both")
    assert "events per site" in out and "p = " in out
    sites = pd.read_parquet(tmp_path / "both" / "sites.parquet")
    assert sites.groupby("run").size().to_dict() == {"vacuum": 49, "oxygen": 49}
    # the second layer is at the surface where what covers it was away most of the time
    assert sites.groupby("run").surface.sum().between(24, 30).all()
    sites["outer"] = (np.abs(sites[["y", "x"]] - sites[["y", "x"]].mean()) > 25).any(axis=1)
    assert sites.surface[sites.outer].all()
    np.testing.assert_allclose(sites.detected, 0.95, atol=0.03)
    # 0.3 · speed and speed per frame: 10/13 filled, 6/13 · speed changes per frame, two frames a second
    outer = sites[sites.outer]
    np.testing.assert_allclose(outer.groupby("run").occupancy.mean(), 10 / 13, atol=0.06)
    assert sites[~sites.outer].occupancy.min() > 0.95 and sites[~sites.outer].occupancy.mean() > 0.99
    row = pd.read_csv(tmp_path / "both" / "comparison.csv").set_index("what").loc["events"]
    assert row["first"] == pytest.approx(12 / 13 * 0.05, rel=0.35)
    assert 0.4 < row["low"] / (12 / 13 * 0.1) < 1 and row["high"] < 0.15 and row["p"] < 1e-3
    assert describe_comparison(row.rename("x").to_frame().T.assign(what="events").iloc[0]).startswith(
        "events"
    )


def test_one_run_gives_its_sites_and_no_comparison(tmp_path: Path, rng: np.random.Generator) -> None:
    assert surface_of_runs([write_run(tmp_path / "a", rng, speed=0.1)], out=tmp_path / "one") is None
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["sites.parquet"]


def test_what_is_no_run_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(RunError, match="not a finished Run"):
        surface_of_runs([tmp_path], out=tmp_path / "x")
    with pytest.raises(InputError, match="frames"):
        surface_of_runs([write_run(tmp_path / "short", rng, speed=0.1, frames=4)], out=tmp_path / "x")
    with pytest.raises(InputError, match="two"):
        surface_of_runs([tmp_path] * 3, out=tmp_path / "x")
    with pytest.raises(InputError, match="folder"):
        surface_of_runs([tmp_path], out=tmp_path / "x.csv")
