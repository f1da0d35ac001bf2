"""Bonds, numbers of neighbours and their probabilities, against structures built by hand."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.core.material import load_material
from atomreel.core.tables import check_table
from atomreel.interpret.graph import classify_coordination, find_bonds

BOND = 14.2  # px: graphene at 0.1 Å per pixel
HONEYCOMB = (np.array([[0.0, np.sqrt(3)], [-1.5, np.sqrt(3) / 2]]), np.array([[0.0, 0.0], [-1.0, 0.0]]))
SQUARE = (np.array([[0.0, 1.0], [1.0, 0.0]]), np.zeros((1, 2)))
TRIANGULAR = (np.array([[0.0, 1.0], [np.sqrt(0.75), 0.5]]), np.zeros((1, 2)))


def lattice(
    cell: tuple[np.ndarray, np.ndarray], *, spacing: float = BOND, turn: float = 0.0, size: int = 260
) -> np.ndarray:
    vectors, basis = cell
    n = np.arange(-60, 61)
    corner = (n[:, None, None] * vectors[0] + n[None, :, None] * vectors[1]).reshape(-1, 2)
    where = spacing * (corner[:, None] + basis).reshape(-1, 2)
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    where = where @ np.array([[c, s], [-s, c]]) + size / 2 + 0.123
    return where[((where >= 0) & (where <= size - 1)).all(1)]


def table(where: np.ndarray, error: float = 0.5, **more: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"frame": 0, "y": where[:, 0], "x": where[:, 1], "y_err": error, "x_err": error, **more}
    )


def inner(where: np.ndarray, *, margin: float = 2.2 * BOND, size: int = 260) -> np.ndarray:
    return ((where > margin) & (where < size - 1 - margin)).all(1)


@pytest.mark.parametrize(("cell", "number"), [(HONEYCOMB, 3), (SQUARE, 4), (TRIANGULAR, 6)])
@pytest.mark.parametrize("turn", [0.0, 17.0])
def test_neighbours_in_crystals(
    cell: tuple[np.ndarray, np.ndarray], number: int, turn: float, rng: np.random.Generator
) -> None:
    where = lattice(cell, turn=turn)
    noisy = where + rng.normal(0, 0.05 * BOND, where.shape)
    graph = find_bonds(table(noisy, 0.01 * BOND), shape=(260, 260), draws=20)
    middle = inner(where)
    assert middle.sum() > 50 and not graph.atoms["edge"][middle].any()
    assert (graph.atoms["neighbours"][middle] == number).mean() > 0.98
    assert graph.nearest == pytest.approx(BOND, rel=0.1) and graph.unit == "px"


def test_the_bond_table_says_lengths_and_angles() -> None:
    where = np.array([[50.0, 50.0], [50.0, 60.0], [40.0, 60.0], [200.0, 200.0]])
    graph = find_bonds(table(where, 0.3), (0.2, 0.2), reach=1.3)
    check_table(graph.bonds, "bonds")
    assert graph.bonds[["first", "second"]].to_numpy().tolist() == [[0, 1], [1, 2]]
    np.testing.assert_allclose(graph.bonds["length_px"], 10.0)
    np.testing.assert_allclose(graph.bonds["length_A"], 2.0)
    np.testing.assert_allclose(graph.bonds["length_px_err"], 0.3 * np.sqrt(2))
    np.testing.assert_allclose(graph.bonds["length_A_err"], 0.06 * np.sqrt(2))
    np.testing.assert_allclose(graph.bonds["angle_deg"], [0.0, 90.0], atol=1e-9)
    assert graph.atoms["neighbours"].tolist() == [1, 2, 1, 0]


def test_pixels_that_are_not_square() -> None:
    where = lattice(SQUARE)
    squeezed = table(where * (1.0, 0.6))
    assert (find_bonds(squeezed).atoms["neighbours"][inner(where)] == 2).all()
    graph = find_bonds(squeezed, (0.1, 0.1 / 0.6), shape=(260, 156))
    assert (graph.atoms["neighbours"][inner(where)] == 4).all() and graph.unit == "A"


def silicon(kind: str, rng: np.random.Generator, *, noise: float) -> pd.DataFrame:
    """Graphene with one Si in place of one C (three bonds) or of two (four bonds)."""
    where = lattice(HONEYCOMB, turn=float(rng.uniform(0, 60)))
    first = int(np.argmin(np.linalg.norm(where - 130, axis=1)))
    if kind == "three-fold":
        gone, place = [first], where[first]
        near = np.argsort(np.linalg.norm(where - place, axis=1))[1:4]
        where[near] += 0.18 * (where[near] - place)  # Si–C bonds are longer than C–C
    else:
        second = int(np.argsort(np.linalg.norm(where - where[first], axis=1))[1])
        gone, place = [first, second], where[[first, second]].mean(0)
    where = np.concatenate([np.delete(where, gone, axis=0), place[None]])
    names = np.array(["C"] * (len(where) - 1) + ["Si"])
    return table(where + rng.normal(0, noise, where.shape), noise, species=names)


@pytest.mark.parametrize("kind", ["three-fold", "four-fold"])
def test_silicon_in_graphene_is_told_apart(kind: str) -> None:
    """At errors of a tenth of an Å, the worst of real images, nearly all are right."""
    right, claimed, widest = [], [], []
    for seed in range(60):
        atoms = silicon(kind, np.random.default_rng(seed), noise=1.0)
        graph = find_bonds(atoms, (0.1, 0.1), shape=(260, 260), draws=60)
        answer = classify_coordination(atoms, graph).iloc[0]
        right.append(answer["coordination"] == kind)
        claimed.append(answer["p_three" if kind == "three-fold" else "p_four"])
        widest.append(answer["widest_deg"])
        assert answer["atom"] == len(atoms) - 1
    assert np.mean(right) >= 0.95
    assert 0.85 < np.mean(claimed) < np.mean(right) + 0.03, (
        "without knowing the structure the claim is cautious"
    )
    assert np.median(widest) == pytest.approx({"three-fold": 125, "four-fold": 100}[kind], abs=16)


def test_bond_lengths_around_silicon_cover_the_truth() -> None:
    """Mean Si–C length of the four-fold site, √(1.5² + 0.75) bonds long before errors."""
    truth, z = 0.1 * BOND * np.sqrt(1.0**2 + 0.75), []
    for seed in range(300):
        atoms = silicon("four-fold", np.random.default_rng(seed), noise=0.4)
        graph = find_bonds(atoms, (0.1, 0.1), shape=(260, 260), draws=1)
        row = classify_coordination(atoms, graph).iloc[0]
        z.append((row["length_A"] - truth) / row["length_A_err"])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.09)
    assert np.mean(np.abs(z) < 2) == pytest.approx(0.954, abs=0.04)


def test_probabilities_are_calibrated() -> None:
    """Pairs whose true distance is spread evenly about the limit: of those claimed at p, the share p is bonded."""
    rng = np.random.default_rng(5)
    n, error, limit = 4000, 1.0, 1.6 * BOND
    distance = rng.uniform(limit - 6, limit + 6, n)
    start = np.stack(
        [np.repeat(np.arange(n // 20) * 90.0, 20), np.tile(np.arange(20) * 90.0, n // 20)], axis=1
    )
    true = np.concatenate([start, start + np.stack([np.zeros(n), distance], axis=1)])
    seen = true + rng.normal(0, error, true.shape)
    graph = find_bonds(table(seen, error), (0.1, 0.1), material=load_material("graphene"), draws=200)
    p, bonded = graph.number_p[:n, 1], distance < limit
    for low, high in ((0.02, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.98)):
        bin_ = (p > low) & (p <= high)
        assert bin_.sum() > 150
        assert bonded[bin_].mean() == pytest.approx(p[bin_].mean(), abs=0.09)
    gap = np.hypot(*(seen[n:] - seen[:n]).T)
    expected = [0.5 * (1 + erf((limit - d) / (error * sqrt(2) * sqrt(2)))) for d in gap]
    assert np.abs(p - expected).max() < 0.2 and np.abs(p - expected).mean() < 0.03


def test_frames_are_kept_apart_and_rows_without_position_pass() -> None:
    where = lattice(HONEYCOMB)
    one = table(where)
    two = pd.concat([one, one.assign(frame=1)], ignore_index=True)
    two.loc[3, ["y", "x"]] = np.nan
    before = two.copy()
    graph = find_bonds(two, draws=5)
    pd.testing.assert_frame_equal(two, before)
    assert (
        not (graph.bonds["first"] == 3).any()
        and graph.atoms["neighbours"][3] == 0
        and (graph.atoms["neighbours"].isna().sum() == 0)
    )
    frames = two["frame"].to_numpy()
    ends = graph.bonds[["first", "second"]].to_numpy()
    assert (frames[ends[:, 0]] == frames[ends[:, 1]]).all()
    second = graph.bonds[graph.bonds["frame"] == 1]
    assert len(second) == len(find_bonds(one, draws=5).bonds)


def test_without_errors_there_are_no_probabilities() -> None:
    graph = find_bonds(table(lattice(HONEYCOMB)).drop(columns=["y_err", "x_err"]), draws=3)
    assert graph.atoms["p"].isna().all() and graph.bonds["p"].isna().all() and len(graph.bonds)


def test_the_same_seed_gives_the_same_answer() -> None:
    atoms = table(lattice(HONEYCOMB), 2.0)
    first, second, other = (find_bonds(atoms, draws=30, rng=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.bonds, second.bonds)
    assert not first.bonds["p"].equals(other.bonds["p"])


def test_few_or_no_atoms() -> None:
    nothing = find_bonds(table(np.zeros((0, 2))))
    assert (
        nothing.bonds.empty
        and nothing.atoms.empty
        and list(nothing.bonds) == list(find_bonds(table(np.zeros((1, 2)))).bonds)
    )
    assert classify_coordination(table(np.zeros((0, 2)), species="C"), nothing).empty


def test_bad_input() -> None:
    atoms = table(lattice(HONEYCOMB), species="C")
    with pytest.raises(InputError, match="columns x are missing"):
        find_bonds(atoms.drop(columns="x"))
    with pytest.raises(InputError, match="pass pixel"):
        find_bonds(atoms, material=load_material("graphene"))
    with pytest.raises(InputError, match="reach"):
        find_bonds(atoms, reach=0.5)
    with pytest.raises(InputError, match="negative"):
        find_bonds(atoms.assign(y_err=-1.0))
    graph = find_bonds(atoms, draws=1)
    with pytest.raises(InputError, match="species"):
        classify_coordination(atoms.drop(columns="species"), graph)
    with pytest.raises(InputError, match="made of"):
        classify_coordination(atoms.iloc[1:], graph)
