"""Pairing, separation and angle of dumbbells against structures built by hand, with coverage of the errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.interpret.dumbbells import axis_angle, dumbbell_statistics, find_dumbbells

PIXEL = 0.1  # Å
INTRA = 5.431 / 4  # Å, silicon along [110]


def unit_vector(angle: float) -> np.ndarray:
    """(y, x) with y down, counter-clockwise as seen on screen."""
    return np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])


def silicon(*, angle: float = 90.0, size: float = 300.0) -> np.ndarray:
    """(M, 2, 2) ends of dumbbells [px] whose axis lies at `angle`; the second end lies in that direction."""
    along, across = unit_vector(angle), unit_vector(angle - 90)
    n = np.arange(-20, 21)
    grid = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2)
    corner = grid[:, :1] * 3.840 * across + grid[:, 1:] * 5.431 * along
    centre = np.concatenate([corner, corner + 1.920 * across + 2.7155 * along]) / PIXEL + size / 2
    centre = centre[((centre > 15) & (centre < size - 15)).all(1)]
    half = 0.5 * INTRA / PIXEL * along
    return np.stack([centre - half, centre + half], axis=1)


def table(
    ends: np.ndarray, error: float, rng: np.random.Generator | None = None, **more: object
) -> pd.DataFrame:
    where = ends.reshape(-1, 2)
    if rng is not None:
        where = where + rng.normal(0, error, where.shape)
    return pd.DataFrame(
        {"frame": 0, "y": where[:, 0], "x": where[:, 1], "y_err": error, "x_err": error, "score": 0.9, **more}
    )


@pytest.mark.parametrize("angle", [-60.0, 0.0, 12.5, 45.0, 90.0])
def test_silicon_dumbbells(angle: float, rng: np.random.Generator) -> None:
    ends = silicon(angle=angle)
    found = find_dumbbells(table(ends, 0.2, rng), (PIXEL, PIXEL))
    check_table(found.table, "dumbbells")
    pairs = {tuple(sorted(p)) for p in found.table[["first", "second"]].to_numpy().tolist()}
    assert pairs == {(2 * i, 2 * i + 1) for i in range(len(ends))} and not len(found.unpaired)
    assert found.within == pytest.approx(INTRA, rel=0.02) and found.between == pytest.approx(2.352, rel=0.03)
    stats = dumbbell_statistics(found.table).iloc[0]
    assert stats["count"] == len(ends)
    assert abs(stats["separation_A"] - INTRA) < 3 * stats["separation_A_err"] < 0.02
    assert abs((stats["angle_deg"] - angle + 90) % 180 - 90) < 3 * stats["angle_deg_err"] < 1
    assert not found.table["directed"].any() and found.table["angle_deg"].between(-90, 90).all()
    assert (found.table["angle_deg"] > -90).all()
    np.testing.assert_allclose(found.table["score"], 0.81)


def test_errors_of_separation_and_angle_cover_the_truth() -> None:
    """Ends with errors of their own, different in y and x: from sharp to a sixth of the separation."""
    rng = np.random.default_rng(11)
    ends = silicon(angle=25.0)
    z: dict[str, list[float]] = {"separation_A": [], "angle_deg": [], "y": [], "x": []}
    for _ in range(12):
        sigma = rng.uniform(0.2, 1.6, (2 * len(ends), 2))
        atoms = table(ends, 0.0).assign(y_err=sigma[:, 0], x_err=sigma[:, 1])
        atoms[["y", "x"]] += rng.normal(0, 1, sigma.shape) * sigma
        got = find_dumbbells(atoms, (PIXEL, PIXEL)).table
        truth = ends.mean(1)[got["first"].to_numpy() // 2]
        z["separation_A"] += ((got["separation_A"] - INTRA) / got["separation_A_err"]).tolist()
        z["angle_deg"] += (((got["angle_deg"] - 25 + 90) % 180 - 90) / got["angle_deg_err"]).tolist()
        for k, name in enumerate(("y", "x")):
            z[name] += ((got[name] - truth[:, k]) / got[f"{name}_err"]).tolist()
    for name, values in z.items():
        assert len(values) > 800
        assert np.mean(np.abs(values) < 1) == pytest.approx(0.683, abs=0.04), name
        assert np.mean(np.abs(values) < 2) == pytest.approx(0.954, abs=0.025), name
        assert abs(np.mean(values)) < 0.1, f"{name} is biased"


def test_the_mean_separation_is_not_biased_by_noise_across() -> None:
    rng = np.random.default_rng(2)
    ends, mean, raw = silicon(angle=0.0, size=900.0), [], []
    for _ in range(12):
        atoms = table(ends, 1.0, rng)
        got = find_dumbbells(atoms, (PIXEL, PIXEL)).table
        mean.append(got["separation_A"].mean())
        step = np.diff(atoms[["y", "x"]].to_numpy()[got[["first", "second"]].to_numpy()], axis=1)[:, 0]
        raw.append(PIXEL * np.hypot(*step.T).mean())
    assert abs(np.mean(mean) - INTRA) < 0.35 * abs(np.mean(raw) - INTRA)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_what_all_ends_share_does_not_average_out(share: float, rng: np.random.Generator) -> None:
    """Separations stretched in common, by as much as is claimed: the mean is off by more than its own error says."""
    z = []
    for _ in range(60):
        ends = silicon(size=260.0)
        middle = ends.mean(1, keepdims=True)
        ends = middle + (ends - middle) * (1 + share * rng.normal())
        got = find_dumbbells(table(ends, 0.2, rng), (PIXEL, PIXEL)).table
        stats = dumbbell_statistics(got, systematic=share).iloc[0]
        assert stats["separation_A_total"] >= stats["separation_A_err"]
        z.append((stats["separation_A"] - INTRA) / stats["separation_A_total"])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.17)
    assert np.mean(np.abs(z) < 2) == pytest.approx(0.954, abs=0.09)


@pytest.mark.parametrize("angle", [-150.0, 20.0, 180.0])
def test_ends_that_differ_give_a_direction(angle: float, rng: np.random.Generator) -> None:
    ends = silicon(angle=angle)
    height = np.tile([1.0, 1.6], len(ends)) + rng.normal(0, 0.05, 2 * len(ends))
    atoms = table(ends, 0.2, rng, intensity=height, intensity_err=0.05)
    got = find_dumbbells(atoms, (PIXEL, PIXEL)).table
    assert got["directed"].all()
    assert np.abs((got["angle_deg"] - angle + 180) % 360 - 180).max() < 6
    assert (got["first"] % 2 == 0).all() and got["ratio"].median() == pytest.approx(1.6, rel=0.03)
    z = (got["ratio"] - 1.6) / got["ratio_err"]
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.12)
    assert dumbbell_statistics(got)["angle_deg"][0] == pytest.approx(angle, abs=1) or angle == 180.0
    axis = find_dumbbells(atoms, (PIXEL, PIXEL), directed=False).table
    assert axis["angle_deg"].between(-90, 90).all() and not axis["directed"].any()


def test_alike_ends_with_noisy_heights_are_not_directed(rng: np.random.Generator) -> None:
    ends = silicon()
    atoms = table(ends, 0.2, rng, intensity=rng.normal(1, 0.1, 2 * len(ends)), intensity_err=0.1)
    assert not find_dumbbells(atoms).table["directed"].any()


def test_sublattices_of_a_movie_give_a_direction_and_a_lost_position_is_no_obstacle() -> None:
    """Ends 20 % apart that scatter by 11 %: frames must not be laid upon each other, nor a NaN stop it."""
    frames = []
    for i in range(3):
        rng = np.random.default_rng(i)
        ends = silicon(angle=30.0)
        height = np.tile([90.0, 110.0], len(ends)) + 11 * rng.standard_normal(2 * len(ends))
        frames.append(table(ends + 0.7 * i, 0.2, rng, intensity=height, intensity_err=11.0).assign(frame=i))
    atoms = pd.concat(frames, ignore_index=True)
    assert find_dumbbells(atoms, (PIXEL, PIXEL)).table["directed"].all()
    atoms.loc[5, "y"] = np.nan
    assert find_dumbbells(atoms, (PIXEL, PIXEL)).table["directed"].all()


def test_lost_and_extra_columns_stay_unpaired(rng: np.random.Generator) -> None:
    ends = silicon()
    atoms = table(ends, 0.2, rng)
    lost = rng.choice(len(atoms), len(atoms) // 12, replace=False)
    kept = atoms.drop(index=lost).reset_index()
    found = find_dumbbells(kept, (PIXEL, PIXEL))
    pairs = np.sort(kept["index"].to_numpy()[found.table[["first", "second"]].to_numpy()], axis=1)
    assert (pairs[:, 0] % 2 == 0).all() and (np.diff(pairs, axis=1) == 1).all()
    partner = lost ^ 1
    alone = set(partner.tolist()) - set(lost.tolist())
    assert set(kept["index"].to_numpy()[found.unpaired].tolist()) == alone


@pytest.mark.parametrize("kind", ["honeycomb", "square", "random"])
def test_what_is_no_dumbbell_is_not_paired(kind: str, rng: np.random.Generator) -> None:
    n = np.arange(14)
    grid = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2).astype(float)
    if kind == "honeycomb":
        cell = grid @ np.array([[1.5, np.sqrt(0.75)], [0.0, np.sqrt(3)]])
        where = 14 * np.concatenate([cell, cell + np.array([1.0, 0.0])])
    else:
        where = 14 * grid if kind == "square" else rng.uniform(0, 250, (300, 2))
    found = find_dumbbells(table(where + rng.normal(0, 0.7, where.shape), 0.7))
    assert found.table.empty and len(found.unpaired) == len(where)
    assert len(found.warnings) == 1 and "fit_twins" in found.warnings[0]
    check_table(found.table, "dumbbells")


def test_a_limit_finds_the_few_pairs_among_single_atoms() -> None:
    where = np.array([[20.0, 20.0], [20.0, 26.0], [80.0, 20.0], [140.0, 20.0], [200.0, 20.0], [203.0, 24.0]])
    got = find_dumbbells(table(where, 0.1), longest=8.0).table
    assert got[["first", "second"]].to_numpy().tolist() == [[0, 1], [5, 4]] or len(got) == 2
    np.testing.assert_allclose(np.sort(got["separation_px"]), [5.0, 6.0], atol=0.01)


def test_frames_order_and_missing_things(rng: np.random.Generator) -> None:
    atoms = table(silicon(), 0.2, rng)
    movie = pd.concat([atoms, atoms.assign(frame=1)], ignore_index=True)
    movie.loc[5, ["y", "x"]] = np.nan
    before = movie.copy()
    both = find_dumbbells(movie, (PIXEL, PIXEL))
    pd.testing.assert_frame_equal(movie, before)
    count = both.table["frame"].value_counts()
    assert count[1] == len(atoms) // 2 and count[0] == count[1] - 1 and 5 in both.unpaired
    assert list(dumbbell_statistics(both.table)["frame"]) == [0, 1]
    plain = find_dumbbells(atoms[["y", "x"]])
    assert plain.table["separation_px_err"].isna().all() and len(plain.table) == count[1]
    assert "separation_A" not in plain.table
    shuffled = atoms.sample(frac=1, random_state=3)
    again = find_dumbbells(shuffled, (PIXEL, PIXEL)).table
    np.testing.assert_allclose(
        np.sort(again["separation_A"]), np.sort(both.table["separation_A"][both.table["frame"] == 1])
    )


def test_axes_are_counter_clockwise_on_screen() -> None:
    steps = np.array([[0.0, 1.0], [-1.0, 1.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, -1.0]])
    np.testing.assert_allclose(axis_angle(steps), [0, 45, 90, 90, -45, 0], atol=1e-9)


def test_few_atoms_and_bad_input() -> None:
    atoms = table(silicon(), 0.2)
    for few in (0, 1, 2):
        assert find_dumbbells(atoms.iloc[:few]).table.empty
    assert len(find_dumbbells(atoms.iloc[:2], longest=20).table) == 1
    one = dumbbell_statistics(find_dumbbells(atoms.iloc[:2], longest=20).table)
    assert np.isnan(one["separation_px_err"][0]) and one["count"][0] == 1
    with pytest.raises(InputError, match="columns x are missing"):
        find_dumbbells(atoms.drop(columns="x"))
    with pytest.raises(InputError, match="longest"):
        find_dumbbells(atoms, longest=0)
    with pytest.raises(InputError, match="negative"):
        find_dumbbells(atoms.assign(x_err=-0.1))
    with pytest.raises(InputError, match="intensity"):
        find_dumbbells(atoms, directed=True)
    with pytest.raises(InputError, match="missing"):
        dumbbell_statistics(atoms)
    with pytest.raises(InputError, match="systematic"):
        dumbbell_statistics(find_dumbbells(atoms).table, systematic=-0.1)
