"""A Run of WS2 written by hand, with Mo that catch and turn vacancies and vacancies that hop: who, where, how fast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import tomli_w

from atomreel.core.errors import InputError, RunError
from atomreel.core.files import sha256
from atomreel.interpret.levels import Levels
from atomreel.kinetics.intervals import Estimate, rate
from atomreel.pipeline.complexes import Sublattice
from atomreel.pipeline.reactions import list_defects, per_dose, reactions_of_run
from atomreel.track.sites import find_sites

A = 16.0  # px
BRIGHT = {"W": 60.0, "Mo": 21.0, "S2": 8.0, "V_S": 4.2}
CATCH, RELEASE, TURN, HOP = 0.012, 0.03, 0.01, 0.04


def layer() -> tuple[np.ndarray, np.ndarray]:
    """W (n, 2) and S (m, 2) sites of a field of 200 px."""
    i, j = np.meshgrid(np.arange(-20, 20), np.arange(-20, 20), indexing="ij")
    first, second = A * np.array([0.1, 0.995]), A * np.array([0.1, 0.995]) @ _turn(60)
    cells = i.reshape(-1, 1) * first + j.reshape(-1, 1) * second + 100
    tungsten, sulphur = cells, cells + (first + second) / 3
    inside = [((p > 4) & (p < 196)).all(1) for p in (tungsten, sulphur)]
    return tungsten[inside[0]], sulphur[inside[1]]


def _turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def chain(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """State of one Mo at each time: 0 alone, 1 … 3 the neighbour that lacks an atom."""
    q = np.full((4, 4), TURN)
    q[0], q[:, 0] = CATCH, RELEASE
    np.fill_diagonal(q, 0)
    state, leave, out = 0, rng.exponential(1 / q[0].sum()), []
    for t in times:
        while leave < t:
            state = int(rng.choice(4, p=q[state] / q[state].sum()))
            leave += rng.exponential(1 / q[state].sum())
        out.append(state)
    return np.array(out)


def write_movie(folder: Path, atoms: pd.DataFrame, frames: int) -> dict[str, str]:
    """The picture that the atoms make, beside the Run; what run.toml says of it."""
    grid, rng, pages = np.mgrid[:200, :200], np.random.default_rng(0), []
    for t in range(frames):
        page = np.zeros((200, 200))
        for y, x, light in atoms.loc[atoms.frame == t, ["y", "x", "intensity"]].to_numpy():
            a, b = (slice(max(int(v) - 10, 0), int(v) + 11) for v in (y, x))
            page[a, b] += light * np.exp(-((grid[0][a, b] - y) ** 2 + (grid[1][a, b] - x) ** 2) / 18)
        pages.append(rng.poisson(page + 2))
    file = folder.parent / "ws2.tif"
    tifffile.imwrite(file, np.array(pages, dtype=np.uint16), photometric="minisblack")
    return {"path": "ws2.tif", "sha256": sha256(file)}


def write_run(
    folder: Path,
    *,
    frames: int = 120,
    seed: int = 0,
    material: str = "ws2",
    movie: bool = False,
    dose: float = 0,
) -> pd.DataFrame:
    """The tables of a Run, and the truth: frame, y, x, kind, state."""
    rng = np.random.default_rng(seed)
    tungsten, sulphur = layer()
    times = 2.0 * np.arange(frames)
    middle = [k for k, p in enumerate(tungsten) if ((p > 30) & (p < 170)).all()]
    dopants = rng.choice(middle, 8, replace=False)
    slots = []
    for k in dopants:
        d = sulphur - tungsten[k]
        near = np.flatnonzero(np.hypot(*d.T) < 0.7 * A)
        slots.append(near[np.argsort(np.arctan2(d[near, 0], d[near, 1]))])
    states = np.array([chain(rng, times) for _ in dopants])
    kept = set(np.concatenate(slots).tolist())
    free = [k for k, p in enumerate(sulphur) if k not in kept and ((p > 25) & (p < 175)).all()]
    walkers = rng.choice(free, 6, replace=False)
    drift = np.cumsum(rng.normal(0, 0.1, (frames, 2)), axis=0)
    rows, truth = [], []
    for t in range(frames):
        lack = {int(slots[m][s - 1]) for m, s in enumerate(states[:, t]) if s}
        for w in range(len(walkers)):
            if rng.random() < 1 - np.exp(-2.0 * HOP):
                near = [k for k in free if 0.5 * A < np.hypot(*(sulphur[k] - sulphur[walkers[w]])) < 1.2 * A]
                near = [k for k in near if k not in walkers]
                walkers[w] = rng.choice(near) if near else walkers[w]
        light = np.r_[
            np.where(np.isin(np.arange(len(tungsten)), dopants), BRIGHT["Mo"], BRIGHT["W"]),
            np.where(np.isin(np.arange(len(sulphur)), [*lack, *walkers]), BRIGHT["V_S"], BRIGHT["S2"]),
        ]
        light = light * np.exp(0.02 * np.sin(t)) + np.r_[
            np.full(len(tungsten), 2.0), np.full(len(sulphur), 0.9)
        ] * rng.standard_normal(len(light))
        place = np.r_[tungsten, sulphur] + drift[t] + rng.normal(0, 0.3, (len(light), 2))
        found = rng.random(len(light)) > 0.004
        rows.append(
            pd.DataFrame({"frame": t, "y": place[:, 0], "x": place[:, 1], "intensity": light, "score": 0.99})[
                found
            ]
        )
        for m, k in enumerate(dopants):
            truth.append((t, *(tungsten[k] + drift[t]), "Mo_W+V_S" if states[m, t] else "Mo_W", states[m, t]))
        truth += [(t, *(sulphur[k] + drift[t]), "V_S", 0) for k in walkers]
    folder.mkdir()
    atoms = pd.concat(rows, ignore_index=True).assign(y_err=0.3, x_err=0.3, intensity_err=1.0)
    atoms.to_parquet(folder / "atoms.parquet")
    pd.DataFrame({"frame": range(frames), "t_s": times}).to_parquet(folder / "phases.parquet")
    moves = pd.DataFrame({"frame": range(frames), "dy": drift[:, 0], "dx": drift[:, 1]})
    moves.to_parquet(folder / "drift.parquet")
    about = {
        "format": "atomreel-run", "version": 1, "recipe": {"defects": {"material": material} if material else {}},
        "input": {"frames": frames, "shape": [200, 200], "pixel_A": [0.2, 0.2]},
    }  # fmt: skip
    about["input"] |= write_movie(folder, atoms, frames) if movie else {}
    about["input"] |= {"dose": dose} if dose else {}
    (folder / "run.toml").write_text(tomli_w.dumps(about), encoding="utf-8")
    return pd.DataFrame(truth, columns=["frame", "y", "x", "kind", "state"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("reactions")
    truth = write_run(folder / "ws2.atomreel")
    reactions_of_run(folder / "ws2.atomreel", out=folder / "out", draws=150)
    return folder / "out", truth


def matched(out: Path, truth: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Truth joined with what was found within 3 px, and how many found rows are nobody's."""
    found = pd.read_parquet(out / "tracks.parquet")
    rows, extra = [], 0
    for t, here in truth.groupby("frame"):
        f = found[found.frame == t].reset_index(drop=True)
        used = set()
        for row in here.itertuples():
            gap = np.hypot(f.y - row.y, f.x - row.x)
            best = int(gap.argmin()) if len(gap) else -1
            hit = best >= 0 and gap[best] < 3
            used |= {best} if hit else set()
            got = f.iloc[best] if hit else None
            rows.append(
                {
                    **row._asdict(),
                    "got": got.kind if hit else "",
                    "got_state": got.state if hit else -1,
                    "track": got.track if hit else -1,
                }
            )
        extra += len(f) - len(used)
    return pd.DataFrame(rows), extra


def test_kinds_and_states_are_right(done: tuple[Path, pd.DataFrame]) -> None:
    joined, extra = matched(*done)
    assert (joined.got != "").mean() > 0.98
    assert extra < 0.01 * len(joined)
    assert (joined.got == joined.kind).mean() > 0.97
    both = joined[(joined.kind == "Mo_W+V_S") & (joined.got == "Mo_W+V_S")]
    assert (both.got_state == both.state).mean() > 0.98


def test_every_dopant_is_one_track_and_vacancies_keep_theirs(done: tuple[Path, pd.DataFrame]) -> None:
    joined, _ = matched(*done)
    found = pd.read_parquet(done[0] / "tracks.parquet")
    assert joined[joined.kind != "V_S"].track.nunique() == 8
    assert found[found.kind == "V_S"].track.nunique() <= 12
    assert not found.duplicated(["track", "frame"]).any()
    assert set(found.source) == {"movie"}


def test_rates_hold_the_truth(done: tuple[Path, pd.DataFrame]) -> None:
    rates = json.loads((done[0] / "rates.json").read_text())
    for name, true in (("catch of Mo_W", CATCH), ("release of Mo_W", RELEASE), ("turn of Mo_W", TURN)):
        got = rates[name]
        assert got["low"] < true < got["high"], name
        assert got["high"] - got["low"] < 1.6 * true, name
    hops = rates["hops of V_S"]
    assert 0.6 * HOP < hops["value"] < 1.3 * HOP and hops["unit"] == "1/s"
    assert rates["D of V_S by hops"]["value"] == pytest.approx(hops["value"] * (0.2 * A) ** 2 / 4, rel=0.02)


def test_levels_are_those_of_the_movie(done: tuple[Path, pd.DataFrame]) -> None:
    levels = pd.read_csv(done[0] / "levels.csv").set_index("occupant")
    assert levels.brightness["Mo_W"] == pytest.approx(21 / 60, abs=0.02)
    assert levels.brightness["V_S"] == pytest.approx(4.2 / 8, abs=0.04)
    assert levels.width["S2"] == pytest.approx(0.9 / 8, rel=0.15)


def test_the_command_prints_the_rates(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    write_run(tmp_path / "short.atomreel", frames=25, movie=True, dose=5e3)
    code, out, _ = call("reactions", tmp_path / "short.atomreel", "-o", tmp_path / "out")
    assert code == 0 and out.splitlines()[-1] == str(tmp_path / "out")
    assert "release of Mo_W" in out
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert (
        {p.removesuffix(".png") for p in names if p.endswith(".png")}
        == {p.removesuffix(".svg") for p in names if p.endswith(".svg")}
        >= {"states", "rate_matrix", "network", "chapman_kolmogorov", "classes", "class_number", "counts"}
    )
    assert names >= {"classes.parquet", "trajectories.csv", "checks.json", "reactions.html"}
    classes = pd.read_parquet(tmp_path / "out" / "classes.parquet")
    own = classes[classes["sub_class"].notna()]
    assert set(own["kind"]) <= {"Mo_W", "Mo_W+V_S"} and (own["sub_class"] == own["state"]).mean() > 0.9
    assert (
        classes.groupby("class")["kind"]
        .agg(lambda k: k.str.startswith("Mo").mean())
        .round(1)
        .isin([0, 1])
        .all()
    )
    assert "data:image/png" in (tmp_path / "out" / "reactions.html").read_text(encoding="utf-8")


def test_a_stay_of_one_frame_beside_a_track_is_no_noise() -> None:
    """A vacancy at one site for a frame, then a hop away: the first frame, doubtful by itself, belongs to it; one far away does not."""
    place = layer()[1]
    atoms = pd.concat([pd.DataFrame({"frame": f, "y": place[:, 0], "x": place[:, 1]}) for f in range(8)])
    sites = find_sites(atoms.reset_index(drop=True).assign(y_err=0.1, x_err=0.1), shape=(200, 200))
    where = sites.table[["y", "x"]].to_numpy()
    middle = int(np.argmin(np.hypot(*(where - 100).T)))
    far = np.hypot(*(where - where[middle]).T)
    beside, away = int(np.argsort(far)[1]), int(np.argmin(np.abs(far - 5 * A)))
    log = np.tile([0.0, -9.0], (len(where), 8, 1))
    log[middle, 1:] = log[beside, 0] = log[away, 4] = [-5.0, 0.0]
    chance = np.tile([1.0, 0.0], (len(where), 8, 1))
    chance[middle, 1:] = [0.0, 1.0]
    one = np.ones(2)
    levels = Levels(("S2", "V_S"), np.array([1, 0.5]), 0.1 * one, 0.02 * one, 0.5 * one, log)
    seen = np.ones(chance.shape[:2], dtype=bool)
    found = list_defects(sites, [Sublattice(0, "S2", np.arange(len(where)), levels, chance, seen)], [])
    assert found["track"].nunique() == 1
    assert found.sort_values("frame")["site"].tolist() == [beside, *[middle] * 7]


def test_rates_come_per_dose_and_as_cross_sections(tmp_path: Path) -> None:
    """5000 e/Å² a frame of two seconds: 2500 e/Å² a second, so 1/s is 4·10⁴ barn; without a dose there is none of it."""
    found = {"release": rate(30, 1000.0), "D": Estimate(0.1, 0.05, 0.2, "Å²/s", 3, "")}
    more = per_dose(found, dose=5e3, times=2.0 * np.arange(9))
    assert more["release cross-section"].value == pytest.approx(0.03 * 4e4)
    assert more["release per dose"].value == pytest.approx(0.03 / 2500)
    assert more["release per dose"].unit == "1 per e/Å²" and more["D per dose"].unit == "Å² per e/Å²"
    assert "D cross-section" not in more and per_dose(found, dose=None, times=None) == {}
    frames = per_dose({"hop": Estimate(0.01, 0, 1, "1/frame", 1, "")}, dose=100.0, times=None)
    assert frames["hop cross-section"].value == pytest.approx(1e4)


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a finished Run"):
        reactions_of_run(tmp_path, out=tmp_path / "x")
    write_run(tmp_path / "bare", frames=12, material="")
    with pytest.raises(InputError, match="--material"):
        reactions_of_run(tmp_path / "bare", out=tmp_path / "x")
    with pytest.raises(InputError, match="no lattice of"):
        reactions_of_run(tmp_path / "bare", out=tmp_path / "x", material="srtio3")
    with pytest.raises(InputError, match="folder"):
        reactions_of_run(tmp_path / "bare", out=tmp_path / "x.csv")
