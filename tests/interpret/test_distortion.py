from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, shape_distance, shape_of
from atomreel.interpret.distortion import (
    describe_reach,
    reachable,
    strain_of,
    strain_vector,
    true_range,
    undo,
)

SHAPES = {"hexagonal": (1, 60), "square": (1, 90), "rectangular": (1.3, 90), "centred": (1, 76)}
FloatArray = npt.NDArray[np.float64]


def basis(ratio: float, gamma: float, *, turn: float, a: float = 13.0) -> FloatArray:
    """Rows a, b as (y, x), y down, turned counter-clockwise."""
    t = np.deg2rad([turn, turn + gamma])
    return np.stack([-np.sin(t), np.cos(t)], 1) * a * np.array([[1.0], [ratio]])


def drifted(vectors: FloatArray, s: float, e: float) -> FloatArray:
    """What a slow scan along y makes of it, written out: y′ = (1 + e) y, x′ = x + s y."""
    return np.array([[(1 + e) * y, x + s * y] for y, x in vectors])


def lattice(vectors: FloatArray, *, error: float = 0.02, pixel: tuple[float, float] | None = None) -> Lattice:
    covariance = np.zeros((6, 6))
    covariance[2:, 2:] = error**2 * np.eye(4)
    return Lattice(np.zeros(2), vectors, covariance, pixel=pixel)


def found(one: Lattice, name: str, **options) -> object:  # type: ignore[no-untyped-def]
    return reachable(one, names=(name,), **options)[0]


@pytest.mark.parametrize("name", ["hexagonal", "square"])
@pytest.mark.parametrize(("s", "e"), [(0.015, 0.0), (-0.02, 0.03), (0.0, -0.04), (0.05, 0.02)])
def test_the_drift_that_was_put_in_is_found(name: str, s: float, e: float) -> None:
    for turn in (0.0, 17.0, 33.0, 71.0):
        true = basis(*SHAPES[name], turn=turn)
        reach = found(lattice(drifted(true, s, e)), name, scan="rows")
        assert (reach.s, reach.e) == pytest.approx((s, e), abs=1e-9)
        assert reach.shear == pytest.approx(np.hypot(s, e), abs=1e-9)
        assert np.allclose(np.abs(np.linalg.det(reach.vectors)), np.abs(np.linalg.det(true)))
        sides = lattice(drifted(true[:, ::-1], s, e)[:, ::-1])
        other = found(sides, name, scan="columns")
        assert (other.s, other.e) == pytest.approx((s, e), abs=1e-9)
        assert found(Lattice(np.zeros(2), other.vectors), name).shear == pytest.approx(0, abs=1e-6)


def test_any_distortion_is_measured_as_the_simple_shear_of_the_same_size() -> None:
    """x′ = x + s·y along any axis of a hexagonal or square crystal gives s, and s is 2 sinh(d/2)."""
    for name in ("hexagonal", "square"):
        for turn in (0.0, 20.0, 47.0):
            for s in (0.01, 0.05, 0.12):
                t = np.deg2rad(turn)
                axes = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
                seen = basis(*SHAPES[name], turn=5.0) @ axes @ np.array([[1.0, s], [0.0, 1.0]]) @ axes.T
                reach = found(lattice(seen), name)
                assert reach.shear == pytest.approx(s, abs=1e-9)
                distance = shape_distance(shape_of(reach.vectors), shape_of(basis(*SHAPES[name], turn=0)))
                assert 2 * np.sinh(distance / 2) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scan", ["any", "rows"])
@pytest.mark.parametrize("name", ["rectangular", "centred"])
def test_the_least_distortion_to_a_line_is_that_of_a_search(name: str, scan: str) -> None:
    """All (s, e) on a fine grid, the lattice without each judged by its lengths and angle alone."""
    seen = drifted(basis(*SHAPES[name], turn=28.0), 0.03, -0.02)
    reach = found(lattice(seen), name, scan=scan)
    s, e = np.meshgrid(np.linspace(-0.06, 0.06, 601), np.linspace(-0.06, 0.06, 601))
    y, x = (undo(seen, s[..., None], e[..., None])[..., k] for k in (0, 1))
    a, b = np.stack([y[..., 0], x[..., 0]], -1), np.stack([y[..., 1], x[..., 1]], -1)
    gap = (a * b).sum(-1) if name == "rectangular" else (a**2).sum(-1) - (b**2).sum(-1)
    near = np.abs(gap) < 0.05
    w = (1j - s) / (1 + e)
    size = np.abs(w - 1j) / np.sqrt(w.imag) if scan == "any" else np.hypot(s, e)
    assert reach.shear == pytest.approx(size[near].min(), abs=3e-4)
    assert reach.shear < np.hypot(0.03, 0.02)
    v = reach.vectors
    assert abs(v[0] @ v[1]) < 1e-6 or abs(v[0] @ v[0] - v[1] @ v[1]) < 1e-6 or abs(2 * v[0] @ v[1] - v[0] @ v[0]) < 1e-6  # fmt: skip


def test_errors_of_the_shear_have_the_scatter_that_they_claim() -> None:
    rng = np.random.default_rng(1)
    for name, scan in (
        ("hexagonal", "any"),
        ("hexagonal", "rows"),
        ("centred", "rows"),
        ("rectangular", "any"),
    ):
        seen = drifted(basis(*SHAPES[name], turn=28.0), 0.03, -0.02)
        truth = found(lattice(seen), name, scan=scan)
        replicates = [
            found(lattice(seen + 0.02 * rng.standard_normal((2, 2))), name, scan=scan) for _ in range(300)
        ]
        pulls = np.array([(r.shear - truth.shear) / r.shear_err for r in replicates])
        assert 0.88 < pulls.std() < 1.12 and abs(pulls.mean()) < 0.2
        assert 0.63 < np.mean(np.abs(pulls) < 1) < 0.74
        assert truth.shear_err < 0.004


def test_a_class_at_the_bound_is_kept_and_one_well_beyond_is_not() -> None:
    """Of 300 noisy lattices sheared by just the bound nearly all are consistent; of those beyond by 5 σ none."""
    rng = np.random.default_rng(2)

    def share(s: float) -> float:
        seen = [drifted(basis(1, 60, turn=rng.uniform(0, 60)), s, 0.0) for _ in range(300)]
        noisy = [lattice(v + 0.02 * rng.standard_normal((2, 2))) for v in seen]
        return float(np.mean([found(one, "hexagonal", scan="rows").consistent for one in noisy]))

    assert share(0.02) > 0.98
    assert share(0.02 + 6 * 0.0025) < 0.02


def test_words_for_a_drifted_hexagonal_crystal_and_for_others() -> None:
    seen = lattice(drifted(basis(1, 60, turn=33.0), 0.014, 0.0))
    words = describe_reach("oblique", reachable(seen))
    assert words == "oblique as imaged; hexagonal within 2 % shear (1.4 ± 0.3 %)"
    true = lattice(basis(1.25, 77, turn=10.0))
    assert describe_reach("oblique", reachable(true)).startswith(
        "oblique as imaged; no more symmetric class within 2 % shear (square at 32 ± 0."
    )
    square = reachable(lattice(drifted(basis(1, 90, turn=0.0), 0.0, 0.015)))
    assert describe_reach("rectangular", square).startswith("rectangular as imaged; square within 2 % shear")
    assert describe_reach("square", square) == "square as imaged"
    near = reachable(lattice(drifted(basis(1.3, 90, turn=20.0), 0.01, 0.0)))
    assert "rectangular within 2 %" in describe_reach("oblique", near)


def test_drift_that_is_known_is_undone_and_its_error_counts() -> None:
    seen = lattice(drifted(basis(1, 60, turn=12.0), 0.05, -0.03))
    assert not found(seen, "hexagonal", scan="rows").consistent
    known = found(seen, "hexagonal", scan="rows", drift=(0.05, -0.03), bound=0.0)
    assert known.consistent and known.shear == pytest.approx(0, abs=1e-9)
    unsure = found(seen, "hexagonal", scan="rows", drift=(0.05, -0.03), drift_err=(0.02, 0.02), bound=0.0)
    assert unsure.shear_err == pytest.approx(np.hypot(0.02, known.shear_err), rel=0.1)


def test_pixels_that_are_not_square_are_no_shear() -> None:
    specimen = basis(1, 60, turn=25.0, a=2.5)
    seen = lattice(specimen / np.array([0.1, 0.16]), pixel=(0.1, 0.16))
    assert found(seen, "hexagonal").shear == pytest.approx(0, abs=1e-9)
    low, high = true_range(seen)["a"]
    assert low < 2.5 < high


def test_the_range_of_true_cells_holds_the_true_one() -> None:
    true = basis(1.2, 82, turn=50.0)
    for t in np.linspace(0, 6, 12):
        one = lattice(drifted(true, 0.0199 * np.sin(t), 0.0199 * np.cos(t)), error=1e-5)
        ranges = true_range(one)
        for key, value in (("a", 13.0), ("b", 15.6), ("gamma", 82.0)):
            low, high = ranges[key]
            assert low < value < high and high - low < 0.07 * value


def test_a_shear_followed_through_zero_keeps_its_sign() -> None:
    """One cell is followed: (s, e) grows from −5 to 5 % where the nearest cell alone would give the size."""
    shears = np.linspace(-0.05, 0.05, 11)
    true = basis(1, 60, turn=8.0)
    _, change = strain_vector(drifted(true, shears[0], 0.0), target="hexagonal")
    values = np.array(
        [strain_vector(drifted(true, s, 0), target="hexagonal", change=change)[0] for s in shears]
    )
    assert np.allclose(values[:, 0], shears, atol=2e-4) and np.abs(values[:, 1]).max() < 2e-3
    value, covariance, _ = strain_of(lattice(drifted(true, 0.02, 0.01)), target="hexagonal")
    assert np.hypot(*value) == pytest.approx(np.hypot(0.02, 0.01), abs=3e-4)
    rng = np.random.default_rng(4)
    noisy = np.array(
        [
            strain_of(
                lattice(drifted(true, 0.02, 0.01) + 0.02 * rng.standard_normal((2, 2))), target="hexagonal"
            )[0]
            for _ in range(300)
        ]
    )
    assert np.allclose(np.sqrt(np.diag(covariance)), noisy.std(0), rtol=0.15)


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="bound"):
        reachable(lattice(basis(1, 60, turn=0)), bound=-0.01)
