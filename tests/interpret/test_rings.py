"""Ring counts against networks whose rings are known: built by hand, or as Voronoi cells of given centres."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.spatial import Voronoi, cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.interpret.graph import find_bonds
from atomreel.interpret.rings import Rings, find_rings, ring_statistics, rings_around
from atomreel.simulate.structures import ring_centres

BOND = 14.2  # px


def table(where: np.ndarray, error: float = 0.3) -> pd.DataFrame:
    return pd.DataFrame({"frame": 0, "y": where[:, 0], "x": where[:, 1], "y_err": error, "x_err": error})


def rings_of(where: np.ndarray, *, error: float = 0.3, draws: int = 20, size: float = 400.0) -> Rings:
    atoms = table(where, error)
    return find_rings(atoms, find_bonds(atoms, draws=draws), shape=(int(size), int(size)))


def graphene(*, size: float = 300.0, turn: float = 13.0) -> tuple[np.ndarray, int, int]:
    """A sheet in bonds around a bond in its middle: positions [px] and the two atoms of that bond (along x before the turn)."""
    vectors = np.array([[0.5 * np.sqrt(3), 1.5], [-0.5 * np.sqrt(3), 1.5]])
    n = np.arange(-40, 41)
    corner = (n[:, None, None] * vectors[0] + n[None, :, None] * vectors[1]).reshape(-1, 2)
    where = (corner[:, None] + np.array([[0.0, -0.5], [0.0, 0.5]])).reshape(-1, 2)
    where = where[np.linalg.norm(where, axis=1) < 0.48 * size / BOND]
    pair = np.argsort(np.linalg.norm(where, axis=1))[:2]
    return where, int(pair[0]), int(pair[1])


def placed(where: np.ndarray, *, size: float = 300.0, turn: float = 13.0) -> np.ndarray:
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return BOND * where @ np.array([[c, s], [-s, c]]) + size / 2


def relaxed(where: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Springs of length 1 on the bonds and weak ones of √3 on second neighbours: shapes rings, keeps who is bonded."""
    other = [set() for _ in where]
    for i, j in bonds.tolist():
        other[i].add(j)
        other[j].add(i)
    second = {tuple(sorted((a, b))) for mates in other for a in mates for b in mates if a < b}
    second = np.array(sorted(second - {tuple(sorted(pair)) for pair in bonds.tolist()}))
    pairs = np.concatenate([bonds, second])
    rest = np.r_[np.ones(len(bonds)), np.full(len(second), np.sqrt(3))]
    stiff = np.r_[np.ones(len(bonds)), np.full(len(second), 0.15)]

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = flat.reshape(-1, 2)
        step = at[pairs[:, 1]] - at[pairs[:, 0]]
        length = np.maximum(np.linalg.norm(step, axis=1), 1e-9)
        pull = (2 * stiff * (length - rest) / length)[:, None] * step
        slope = np.zeros_like(at)
        np.add.at(slope, pairs[:, 1], pull)
        np.add.at(slope, pairs[:, 0], -pull)
        return float((stiff * (length - rest) ** 2).sum()), slope.ravel()

    done = minimize(energy, where.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 400})
    return done.x.reshape(-1, 2)


def near(where: np.ndarray) -> np.ndarray:
    return cKDTree(where).query_pairs(1.1, output_type="ndarray")


def stone_wales() -> np.ndarray:
    where, one, two = graphene()
    bonds = near(where)
    middle = where[[one, two]].mean(0)
    left, right = sorted((one, two), key=lambda i: where[i, 1])
    moved = where.copy()
    moved[left], moved[right] = middle - np.array([0.5, 0.0]), middle + np.array([0.5, 0.0])
    kept = []
    for i, j in bonds.tolist():
        if {i, j} == {left, right} or not {i, j} & {left, right}:
            kept.append((i, j))
            continue
        atom, mate = (i, j) if i in (left, right) else (j, i)
        # each mate goes to the atom of the turned bond on its side
        kept.append((left if where[mate, 0] < middle[0] else right, mate))
        assert atom in (left, right)
    return placed(relaxed(moved, np.array(kept)))


def divacancy() -> np.ndarray:
    where, one, two = graphene()
    bonds = near(where)
    mates = [sorted({int(k) for pair in bonds if i in pair for k in pair} - {one, two}) for i in (one, two)]
    kept = [pair for pair in bonds.tolist() if not set(pair) & {one, two}] + mates
    left = np.setdiff1d(np.arange(len(where)), [one, two])
    number = {int(old): new for new, old in enumerate(left)}
    renamed = np.array([[number[i], number[j]] for i, j in kept])
    return placed(relaxed(where[left], renamed))


def counts(rings: Rings) -> dict[int, int]:
    return dict(Counter(rings.table["size"].tolist()))


def test_a_perfect_sheet_has_hexagons_only() -> None:
    where, *_ = graphene()
    rings = rings_of(placed(where))
    check_table(rings.table, "rings")
    bonds = len(near(where))
    # Euler: faces = bonds − atoms + 1 once loose ends are gone, which take one bond and one atom each
    assert counts(rings) == {6: bonds - len(where) + 1}
    np.testing.assert_allclose(rings.table["area_px2"], 1.5 * np.sqrt(3) * BOND**2, rtol=1e-9)
    assert all(len(set(ring)) == 6 and ring[0] == ring.min() for ring in rings.members)
    assert (rings.table["p"] > 0.99).all()


def test_a_stone_wales_defect_is_two_pentagons_and_two_heptagons() -> None:
    where = stone_wales()
    rings = rings_of(where)
    perfect = counts(rings_of(placed(graphene()[0])))
    assert counts(rings) == {5: 2, 6: perfect[6] - 4, 7: 2}
    odd = rings.table[rings.table["size"] != 6]
    assert np.linalg.norm(odd[["y", "x"]].to_numpy() - 150, axis=1).max() < 2.2 * BOND
    stats = ring_statistics(rings).set_index("size")
    assert stats.loc[5, "count"] == stats.loc[7, "count"] == 2 and stats["count"].sum() == perfect[6]


def test_a_divacancy_is_a_pentagon_an_octagon_and_a_pentagon() -> None:
    rings = rings_of(divacancy())
    perfect = counts(rings_of(placed(graphene()[0])))
    assert counts(rings) == {5: 2, 6: perfect[6] - 4, 8: 1}
    five = rings.table[rings.table["size"] == 5][["y", "x"]].to_numpy()
    eight = rings.table[rings.table["size"] == 8][["y", "x"]].to_numpy()
    np.testing.assert_allclose(five.mean(0), eight[0], atol=0.02 * BOND)


@pytest.mark.parametrize("seed", range(6))
def test_ring_counts_of_a_boundary_are_exact(seed: int) -> None:
    """Vertices of Voronoi cells, pulled to equal bonds: the rings are the cells, whoever finds them."""
    rng = np.random.default_rng(seed)
    centres = ring_centres((0.0, 0.0, 44.0, 44.0), rng, spacing=np.sqrt(3), count=2)
    cells = Voronoi(centres)
    inside = ((cells.vertices > 3) & (cells.vertices < 41)).all(1)
    number = np.cumsum(inside) - 1
    ridges = np.array([r for r in cells.ridge_vertices if min(r) >= 0])
    ridges = ridges[inside[ridges].all(1)]
    where = relaxed(cells.vertices[inside], number[ridges])
    length = np.linalg.norm(np.diff(where[number[ridges]], axis=1)[:, 0], axis=1)
    assert length.min() > 0.6 and length.max() < 1.5
    # the relaxed sheet may curl up at its rim
    deep = ((where > 6) & (where < 38)).all(1)
    truth = {frozenset(number[r].tolist()) for r in cells.regions if r and min(r) >= 0 and inside[r].all()}
    truth = {ring for ring in truth if deep[list(ring)].all()}
    rings = rings_of(placed(where, size=0.0), error=0.2)
    found = [frozenset(ring.tolist()) for ring in rings.members if deep[ring].all()]
    assert set(found) == truth and len(found) == len(truth) > 200
    assert sum(len(ring) == 5 for ring in truth) >= 2, "there is a boundary to be found"


def test_rings_around_an_atom_of_the_turned_bond() -> None:
    where = stone_wales()
    atom = int(np.argmin(np.linalg.norm(where - 150, axis=1)))
    around = rings_around(rings_of(where), atom)
    assert sorted(around["size"]) == [5, 7, 7]
    step = around[["y", "x"]].to_numpy() - where[atom]
    turn = np.diff(np.degrees(np.arctan2(-step[:, 0], step[:, 1])), append=np.nan)[:2] % 360
    assert ((turn > 60) & (turn < 180)).all(), "counter-clockwise on screen"
    assert rings_around(rings_of(where), 10**6).empty


def test_loose_ends_bridges_and_holes_are_no_rings() -> None:
    angle = np.deg2rad(np.arange(0, 360, 60))
    hexagon = BOND * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    chain = np.stack([np.zeros(3), BOND * np.array([2.0, 3.0, 4.0])], axis=1)
    both = np.concatenate([hexagon, chain, hexagon + np.array([0.0, 6 * BOND])]) + 100
    rings = rings_of(both)
    assert counts(rings) == {6: 2}
    sheet, *_ = graphene()
    ring = sheet[np.linalg.norm(sheet - (0.0, 1.0), axis=1) > 3.5]
    assert max(counts(rings_of(placed(ring)))) <= 12
    assert counts(rings_of(placed(ring)))[6] < counts(rings_of(placed(sheet)))[6]


def test_the_border_does_not_bias_the_shares() -> None:
    """Windows cut from a large sheet of pentagons to octagons: weighted shares hit the sheet's own, plain ones do not."""
    rng = np.random.default_rng(3)
    centres = ring_centres((0.0, 0.0, 90.0, 90.0), rng, spacing=np.sqrt(3), count=1, order=0.35)
    cells = Voronoi(centres)
    inside = ((cells.vertices > 3) & (cells.vertices < 87)).all(1)
    number = np.cumsum(inside) - 1
    ridges = np.array([r for r in cells.ridge_vertices if min(r) >= 0])
    where = relaxed(cells.vertices[inside], number[ridges[inside[ridges].all(1)]])
    all_rings = rings_of(BOND * where, draws=1, size=90 * BOND)
    truth = counts(all_rings)
    large = sum(n for size, n in truth.items() if size >= 7) / len(all_rings.members)
    plain, weighted, side = [], [], 6.0
    for _ in range(250):
        corner = rng.uniform(4, 86 - side, 2)
        own = where[((where >= corner) & (where <= corner + side)).all(1)] - corner
        rings = find_rings(
            table(BOND * own),
            find_bonds(table(BOND * own), draws=1),
            shape=(round(side * BOND), round(side * BOND)),
        )
        is_large = (rings.table["size"] >= 7).to_numpy()
        plain.append((is_large.sum(), len(is_large)))
        weighted.append(((rings.table["weight"] * is_large).sum(), rings.table["weight"].sum()))
    share = [np.sum(v, axis=0)[0] / np.sum(v, axis=0)[1] for v in (plain, weighted)]
    assert abs(share[1] - large) < 0.5 * abs(share[0] - large)
    assert share[1] == pytest.approx(large, abs=0.02)


def test_probabilities_fall_as_errors_grow_and_are_cautious() -> None:
    """Share of the true rings found again in noise against the mean claim of those that were found."""
    where = stone_wales()
    truth = {frozenset(ring.tolist()) for ring in rings_of(where).members}
    means = []
    for error in (0.5, 1.5, 2.5):
        right, claimed = [], []
        for seed in range(4):
            noisy = where + np.random.default_rng(seed).normal(0, error, where.shape)
            rings = rings_of(noisy, error=error, draws=60)
            right += [frozenset(ring.tolist()) in truth for ring in rings.members]
            claimed += rings.table["p"].tolist()
        means.append((np.mean(claimed), np.mean(right)))
        assert np.mean(claimed) <= np.mean(right) + 0.02
    assert means[0][0] > means[1][0] > means[2][0] and means[0][1] > 0.999


def test_positions_of_rings_cover_the_truth() -> None:
    where = placed(graphene(size=160)[0], size=160)
    truth = {frozenset(m.tolist()): where[m].mean(0) for m in rings_of(where).members}
    z = []
    for seed in range(60):
        noisy = where + np.random.default_rng(seed).normal(0, 0.5, where.shape)
        rings = rings_of(noisy, error=0.5, draws=1)
        for row, member in zip(rings.table.itertuples(), rings.members, strict=True):
            z.append((row.y - truth[frozenset(member.tolist())][0]) / row.y_err)
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.04)


def test_frames_and_pixel_sizes() -> None:
    where = placed(graphene(size=160)[0], size=160)
    two = pd.concat([table(where), table(where + 3.0).assign(frame=4)], ignore_index=True)
    rings = find_rings(two, find_bonds(two, (0.1, 0.1), draws=2))
    own = rings.table.groupby("frame")["ring"].agg(["min", "max", "count"])
    assert (own["min"] == 0).all() and (own["max"] + 1 == own["count"]).all() and own["count"].nunique() == 1
    np.testing.assert_allclose(rings.table["area_A2"], 0.01 * rings.table["area_px2"])
    assert set(ring_statistics(rings)["frame"]) == {0, 4}


def test_nothing_and_bad_input() -> None:
    few = table(np.array([[1.0, 1.0], [1.0, 15.0], [200.0, 9.0]]))
    empty = find_rings(few, find_bonds(few, draws=1))
    assert empty.table.empty and empty.members == () and ring_statistics(empty).empty
    with pytest.raises(InputError, match="made of"):
        find_rings(few.iloc[1:], find_bonds(few, draws=1))
    with pytest.raises(InputError, match="largest"):
        find_rings(few, find_bonds(few, draws=1), largest=2)
    with pytest.raises(InputError, match="sizes"):
        ring_statistics(empty, sizes=(7, 4))
    without = few.drop(columns=["y_err", "x_err"])
    assert find_rings(without, find_bonds(without)).table.empty
