"""Lattices sheared by known amounts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.core.lattice import Lattice
from atomreel.interpret.distortion import reachable
from atomreel.predict.sheared import Imaging, class_shears, within_shear
from atomreel.simulate.bravais import CLASSES


def field_of(vectors: np.ndarray, *, error: float = 1e-4, noise: float = 0.0) -> Field:
    """One window per lattice (N, 2, 2), rows a and b as (y, x)."""
    flat = vectors.reshape(1, -1, 2, 2)
    a, b = (np.hypot(flat[..., k, 0], flat[..., k, 1]) for k in (0, 1))
    maps = {f"{n}_{axis}_px": flat[..., i, j] for i, n in enumerate("ab") for j, axis in enumerate("yx")}
    maps |= {"a_px": a, "b_px": b, "a_px_err": error * a, "b_px_err": error * b}
    maps |= {"gamma_deg_err": np.full(a.shape, np.degrees(error)), "p_noise": np.full(a.shape, noise)}
    return Field(maps, origin=(0, 0), step=(1, 1))


def basis(ratio: float, gamma: float, turn: float = 0.3) -> np.ndarray:
    t = np.array([turn, turn + np.radians(gamma)])
    return 10 * np.array([[1.0], [ratio]]) * np.stack([-np.sin(t), np.cos(t)], 1)


def sheared(vectors: np.ndarray, s: float) -> np.ndarray:
    """x′ = x + s·y."""
    return vectors @ np.array([[1.0, s], [0.0, 1.0]])


@pytest.mark.parametrize(("name", "shape"), [("hexagonal", (1, 60)), ("square", (1, 90))])
def test_sheared_symmetric_lattices_are_found_within_the_bound_and_only_there(
    name: str, shape: tuple[float, float]
) -> None:
    amounts = np.array([0.0, 0.01, 0.03, 0.06])
    turns = (0.1, 0.5, 0.9)
    vectors = np.array([sheared(basis(*shape, turn=t), s) for t in turns for s in amounts])
    field = field_of(vectors)
    np.testing.assert_allclose(class_shears(field)[0][name][0], np.tile(amounts, 3), rtol=0.02, atol=1e-6)
    found = within_shear(field, bound=0.02).reshape(3, 4) == CLASSES.index(name)
    assert found.tolist() == [[True, True, False, False]] * 3
    assert (within_shear(field, bound=0.07) == CLASSES.index(name)).all()
    assert (within_shear(field_of(vectors, error=0.03), bound=0.0) == CLASSES.index(name)).all()


def test_less_symmetric_classes_come_after_and_noise_stays() -> None:
    some = np.array([basis(1.3, 90), basis(1, 76), basis(1.25, 77), basis(1, 90)])
    names = [CLASSES[int(k)] for k in within_shear(field_of(some), bound=0.01)[0]]
    assert names == ["rectangular", "centred", "oblique", "square"]
    assert (within_shear(field_of(some, noise=0.8), bound=0.01) == CLASSES.index("noise")).all()
    lost = some.copy()
    lost[1] = np.nan
    assert within_shear(field_of(lost), bound=0.01)[0, 1] == CLASSES.index("noise")


def test_pixels_that_are_not_square_are_no_shear() -> None:
    seen = basis(1, 60) / np.array([0.1, 0.12])
    assert within_shear(
        field_of(seen[None]), bound=0.01, imaging=Imaging(pixel=(0.1, 0.12))
    ) == CLASSES.index("hexagonal")
    assert within_shear(field_of(seen[None]), bound=0.01) != CLASSES.index("hexagonal")
    with pytest.raises(InputError, match="shear"):
        within_shear(field_of(seen[None]), bound=-0.1)


def scanned(vectors: np.ndarray, s: float, e: float) -> np.ndarray:
    """(y, x) → (y·(1 + e), x + s·y): what drift does while a frame is scanned line by line."""
    return np.stack([vectors[:, 0] * (1 + e), vectors[:, 1] + s * vectors[:, 0]], 1)


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize(
    ("name", "shape"), [("hexagonal", (1, 60)), ("square", (1, 90)), ("rectangular", (1.3, 90)), ("centred", (1, 76))]
)  # fmt: skip
def test_the_shears_of_a_known_scan_are_those_of_whole_frames(
    axis: Literal["rows", "columns"], name: str, shape: tuple[float, float]
) -> None:
    """Window by window as `reachable` has it for one lattice, which searches all cells; and no more than what was done."""
    rng = np.random.default_rng(4)
    drifts = rng.uniform(-0.06, 0.06, (12, 2))
    one = [scanned(basis(*shape, turn=rng.uniform(0, 3)), s, e) for s, e in drifts]
    vectors = np.array(one)[..., ::-1] if axis == "columns" else np.array(one)
    shears, error = class_shears(field_of(vectors), imaging=Imaging(scan=axis))
    assert (shears[name][0] <= np.hypot(*drifts.T) + 1e-6).all()
    for k, v in enumerate(vectors):
        lattice = Lattice(np.zeros(2), v, np.eye(6) * 1e-8)
        for reach in reachable(lattice, scan=axis):
            if reach.shear < 0.08:
                assert shears[reach.name][0, k] == pytest.approx(reach.shear, rel=2e-3, abs=1e-6)
    any_way = class_shears(field_of(vectors))[0][name]
    assert not np.allclose(shears[name], any_way, rtol=1e-4, atol=0) and (error < 1e-3).all()


def test_known_drift_is_undone_before_the_bound() -> None:
    seen = scanned(basis(1, 60), 0.05, -0.03)[None]
    assert within_shear(field_of(seen), bound=0.005) != CLASSES.index("hexagonal")
    told = Imaging(scan="rows", drift=(0.05, -0.03))
    assert class_shears(field_of(seen), imaging=told)[0]["hexagonal"] == pytest.approx(0, abs=1e-6)
    assert within_shear(field_of(seen), bound=0.005, imaging=told) == CLASSES.index("hexagonal")
    near = Imaging(scan="rows", drift=(0.04, -0.03))
    assert within_shear(field_of(seen), bound=0.005, imaging=near) != CLASSES.index("hexagonal")
    unsure = Imaging(scan="rows", drift=(0.04, -0.03), drift_err=(0.004, 0.0))
    assert within_shear(field_of(seen), bound=0.005, imaging=unsure) == CLASSES.index("hexagonal")
