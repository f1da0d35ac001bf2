"""Grains of simulated frames: their number, place, lattice, direction and area are known."""

from __future__ import annotations

import numpy as np
import pytest
from polycrystals import SHAPES, disc, grow, nearest

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.core.tables import check_table
from atomreel.interpret.grains import Grains, find_grains, lattice_vectors
from atomreel.predict.symmetry import map_symmetry


def grains_of(image: np.ndarray, *, window: int = 80, share: float = 0.25) -> Grains:
    field = map_symmetry(image, window=window, step=window * share, flush=True)
    return find_grains(image, field, window=window, pixel=(0.25, 0.25))


def test_two_grains_their_turn_and_their_areas() -> None:
    pulls, areas = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        turn, other = rng.uniform(0, 60), rng.uniform(6, 28) * rng.choice([-1, 1])
        at, away = 112 + rng.uniform(-20, 20, 2), 40 * np.array([np.sin(seed), np.cos(seed)])
        made = grow(rng, turns=(turn, turn + other), region=nearest([at - away, at + away]))
        found = grains_of(made.image)
        table, edge = found.table, found.boundaries
        assert len(table) == 2 and (table.symmetry == "hexagonal").all() and (table.p > 0.7).all()
        which = made.region(table[["y", "x"]].to_numpy())
        assert sorted(which) == [0, 1] and table.cut.all()
        sign = 1 if which[0] == 0 else -1
        assert edge.turn_deg[0] == pytest.approx(sign * other, abs=0.5) and edge["first"].tolist() == [1]
        pulls += [(edge.turn_deg[0] - sign * other) / edge.turn_deg_err[0]]
        pulls += list((table.a_px - 8) / table.a_px_err) + list((table.gamma_deg - 60) / table.gamma_deg_err)
        areas += list((table.area_px2 - made.areas[which]) / table.area_px2_err)
        assert table.area_px2.sum() == pytest.approx(224**2, rel=0.02)
        assert table.area_nm2.tolist() == pytest.approx((table.area_px2 * 0.025**2).tolist())
        assert edge.length_nm[0] == pytest.approx(edge.length_px[0] * 0.025)
        check_table(table, "grains"), check_table(edge, "boundaries")
    assert np.sqrt(np.mean(np.square(pulls))) < 1.4 and np.abs(pulls).max() < 4
    assert np.mean(np.abs(areas) < 2) > 0.8 and 0.2 < np.sqrt(np.mean(np.square(areas))) < 1.6


def test_boundary_windows_are_of_no_grain_and_the_change_lights_up_there() -> None:
    rng = np.random.default_rng(3)
    made = grow(rng, turns=(4.0, 17.0), region=nearest([(112, 70), (112, 154)]))
    field = map_symmetry(made.image, window=80, step=10, flush=True)
    found = find_grains(made.image, field, window=80)
    off = np.abs(field.positions()[1] - 111.5)
    assert (found.labels[:, off < 15] == 0).all() and (found.labels[:, off > 50] > 0).all()
    assert np.nanmin(found.change[:, off < 15]) > 8 and np.nanmax(found.change[:, off > 60]) < 2
    fine = found.area
    assert fine.step == (4.0, 4.0) and fine.shape == (56, 56)
    edge = np.array([row.argmax() for row in fine.maps["grain"] != fine.maps["grain"][:, :1]])
    assert np.abs(edge * 4 - 112).mean() < 5


@pytest.mark.parametrize("shape", ["hexagonal", "square", "oblique"])
def test_three_grains(shape: str) -> None:
    rng = np.random.default_rng(5)
    side = 300
    corners = [(80, 80), (90, 230), (240, 150)]
    made = grow(rng, turns=(2, 16, 33), region=nearest(corners), shape=shape, size=side)
    found = grains_of(made.image)
    assert len(found.table) == 3 and len(found.boundaries) == 3
    which = made.region(found.table[["y", "x"]].to_numpy())
    assert sorted(which) == [0, 1, 2] and (found.table.symmetry == shape).all()
    assert np.abs(found.table.area_px2 - made.areas[which]).max() < 0.05 * side**2 / 3
    turns = np.array([2, 16, 33])[which]
    period = {"hexagonal": 60, "square": 90}.get(shape, 180)
    for row in found.boundaries.itertuples():
        known = turns[row.second - 1] - turns[row.first - 1]
        assert (row.turn_deg - known + period / 2) % period - period / 2 == pytest.approx(0, abs=0.4)


def test_one_grain_is_one_label() -> None:
    """All shapes, doses down to a few counts per atom, coarse and fine steps; never two labels, never a hole."""
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        shape = list(SHAPES)[seed % 5]
        counts = float(np.exp(rng.uniform(np.log(3), np.log(60))))
        made = grow(rng, turns=(rng.uniform(0, 180),), region=lambda at: np.zeros(len(at), int), shape=shape, counts=counts)  # fmt: skip
        found = grains_of(made.image, window=100, share=(0.25, 0.1)[seed % 2])
        assert found.table.symmetry.tolist() == [shape], (seed, shape, counts)
        assert (found.labels == 1).mean() > 0.9 and not len(found.boundaries)
        assert found.table.area_px2.tolist() == [224**2]


def test_noise_has_no_grains() -> None:
    for seed in range(9):
        rng = np.random.default_rng(200 + seed)
        image = rng.poisson(5, (224, 224)).astype(np.float32)
        if seed % 3 == 1:  # atoms scattered at random
            image += grow(rng, turns=(0.0,), region=lambda at: np.zeros(len(at), int), disorder=0.6).image
        if seed % 3 == 2:  # one value everywhere
            image = np.full_like(image, seed)
        found = grains_of(image, share=0.2)
        assert not found.labels.any() and not len(found.table) and not found.area.maps["grain"].any()


def test_a_grain_in_the_void_has_its_area() -> None:
    """Windows reach over its rim by half of their size; the area must not."""
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        made = grow(rng, turns=(seed * 11.0,), region=disc((120, 110), 60 + 5 * seed), size=260)
        found = grains_of(made.image)
        assert len(found.table) == 1 and not found.table.cut[0]
        assert found.table.area_px2[0] == pytest.approx(made.areas[0], rel=0.1)
        errors.append((found.table.area_px2[0] - made.areas[0]) / found.table.area_px2_err[0])
    assert np.abs(errors).max() < 2.5


def test_a_slow_distortion_is_no_boundary_and_a_step_in_spacing_is_one() -> None:
    rng = np.random.default_rng(9)
    x = np.tile(np.arange(16) * 20.0 + 40, (16, 1))
    for bend, step, count in ((3.0, 0.0, 1), (0.0, 0.1, 2)):
        turn = np.radians(10 + bend * x / 340)
        a = np.where(x > 190, 8 * (1 + step), 8.0)
        rows = {"a": (turn, a), "b": (turn + np.pi / 3, a)}
        maps = {f"p_{name}": np.full(x.shape, float(name == "hexagonal")) for name in ("hexagonal", "noise")}
        for name, (angle, length) in rows.items():
            maps[f"{name}_y_px"] = -length * np.sin(angle) + rng.normal(0, 0.01, x.shape)
            maps[f"{name}_x_px"] = length * np.cos(angle) + rng.normal(0, 0.01, x.shape)
            maps[f"{name}_px_err"] = np.full(x.shape, 0.01)
        maps |= {name: np.full(x.shape, 0.1) for name in ("gamma_deg_err", "angle_deg_err")}
        field = Field(maps, origin=(39.5, 39.5), step=(20.0, 20.0))
        image = rng.poisson(9, (380, 380)).astype(np.float32)
        labels = find_grains(image + 20 * wave(turn, a), field, window=80).labels
        assert len(np.unique(labels[labels > 0])) == count
        assert lattice_vectors(field)[1] == pytest.approx(0.1)


def wave(turn: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Three waves of a hexagonal lattice that turns and stretches over a frame, from values on a grid 20 px apart."""
    from scipy.ndimage import zoom

    full = [zoom(np.pad(v, 2, mode="edge"), 380 / 20, order=1)[:380, :380] for v in (turn, a)]
    y, x = np.mgrid[:380, :380].astype(float)
    image = np.zeros((380, 380))
    for k in range(3):
        q = full[0] + np.pi / 6 + k * np.pi / 3
        image += np.cos(2 * np.pi / (full[1] * np.sqrt(0.75)) * (x * np.cos(q) - y * np.sin(q)))
    return image + 3


def test_a_single_window_and_what_cannot_be_used() -> None:
    made = grow(np.random.default_rng(0), turns=(8.0,), region=lambda at: np.zeros(len(at), int), size=80)
    assert len(grains_of(made.image).table) == 1
    field = map_symmetry(made.image, window=60, step=10)
    with pytest.raises(InputError, match="tolerance"):
        find_grains(made.image, field, window=60, tolerance=0)
    poor = Field({"p_noise": field.maps["p_noise"]}, origin=field.origin, step=field.step)
    with pytest.raises(InputError, match="lacks a_y_px"):
        find_grains(made.image, poor, window=60)
