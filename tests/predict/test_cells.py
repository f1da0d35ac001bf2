from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from atomreel.nets.spectrum import SIZE, Lattices
from atomreel.predict.cells import Cells, cell_maps, cells_of, common_lattice, lattice_row, measures, no_cells
from atomreel.predict.symmetry import CLASSES, map_symmetry, read_image

SHAPES = {"square": (1, 90), "rectangular": (1.3, 90), "centred": (1, 76), "hexagonal": (1, 60), "oblique": (1.25, 77)}  # fmt: skip
FloatArray = npt.NDArray[np.float64]


def crystal(
    vectors: FloatArray, *, rng: np.random.Generator, shape: tuple[int, int] = (128, 128), counts: float = 20.0,
    disorder: float = 0.03, width: float = 0.18,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Counts of a lattice with these vectors (y, x) [px]: Gaussian atoms added one by one, without the package."""
    a = float(np.hypot(*vectors[0]))
    n = int(1.6 * max(shape) / np.sqrt(abs(np.linalg.det(vectors)))) + 4
    index = np.stack(np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1)), -1).reshape(-1, 2)
    at = np.array(shape) / 2 + rng.uniform(-a, a, 2) + index @ vectors
    at = at + disorder * a * rng.standard_normal(at.shape)
    at = at[((at > -a) & (at < np.array(shape) + a)).all(1)]
    y, x = (np.exp(-((np.arange(s) - c[:, None]) ** 2) / (2 * (width * a) ** 2)) for s, c in zip(shape, at.T, strict=True))  # fmt: skip
    return rng.poisson(counts * (y.T @ x + 0.2)).astype(np.float32)


def basis(ratio: float, gamma: float, *, a: float, turn: float) -> FloatArray:
    t = np.deg2rad([turn, turn + gamma])
    return np.stack([-np.sin(t), np.cos(t)], 1) * a * np.array([[1.0], [ratio]])


def pulls(found: FloatArray, errors: FloatArray, truth: FloatArray) -> FloatArray:
    """(4,) components of the vectors in the truth's basis, less the truth, over their errors; infinite if another lattice."""
    change = np.rint(truth @ np.linalg.inv(found))
    big = np.kron(change, np.eye(2))
    if abs(abs(np.linalg.det(change)) - 1) > 0.1:
        return np.full(4, np.inf)
    return (change @ found - truth).ravel() / np.sqrt(np.diag(big @ errors @ big.T))


@pytest.mark.parametrize(
    ("counts", "disorder", "size", "number"),
    [(1.5, 0.03, 128, 40), (8.0, 0.06, 128, 60), (50.0, 0.02, 128, 60), (4.0, 0.05, 300, 40)],
)
def test_errors_of_the_vectors_are_honest(counts: float, disorder: float, size: int, number: int) -> None:
    """Fixed seeds, all classes, random size and direction: 1σ and 2σ hold what they should, and no more is claimed."""
    rng = np.random.default_rng(int(counts * 100))
    found, claimed = [], []
    for k in range(number):
        shape = list(SHAPES.values())[k % 5]
        truth = basis(*shape, a=rng.uniform(8, 20), turn=rng.uniform(0, 180))
        image = crystal(truth, rng=rng, shape=(size, size), counts=counts, disorder=disorder)
        lattice = read_image(image).lattice
        assert lattice is not None
        found.append(pulls(lattice.vectors, lattice.covariance[2:, 2:], truth))
        claimed.append(lattice.errors["a"] / lattice.a)
    values = np.array(found)
    assert np.isfinite(values).all()
    rms = np.sqrt(np.mean(values**2))
    # four components of one window are not independent: their share has the scatter of about 2.5 per window
    spread = np.sqrt(0.683 * 0.317 / (2.5 * number))
    low, high = 0.683 - (0.13 if disorder > 0.04 else 0.05) - 2 * spread, 0.683 + 0.13 + 2 * spread
    assert low < np.mean(np.abs(values) < 1) < high
    assert np.mean(np.abs(values) < 3) > 0.96 and 0.6 < rms < 1.35
    assert np.median(claimed) < 0.005


def test_cells_of_all_classes_are_reduced_and_right() -> None:
    rng = np.random.default_rng(1)
    for name, (ratio, gamma) in SHAPES.items():
        truth = basis(ratio, gamma, a=12.0, turn=20.0)
        seen = read_image(crystal(truth, rng=rng, shape=(128, 140)), pixel=(0.1, 0.1))
        row = lattice_row(seen.lattice)
        assert seen.name == name and seen.share == 1
        assert row["a_px"] == pytest.approx(12.0, abs=5 * row["a_px_err"])
        assert row["b_A"] == pytest.approx(1.2 * ratio, abs=5 * row["b_A_err"])
        assert row["gamma_deg"] == pytest.approx(gamma, abs=5 * row["gamma_deg_err"])
        assert row["angle_deg"] == pytest.approx(20.0, abs=5 * row["angle_deg_err"])
        assert row["angle_deg_err"] < 0.5


def test_pixels_need_not_be_square() -> None:
    """A lattice that is square on the specimen, scanned with pixels twice as long in x."""
    rng = np.random.default_rng(2)
    specimen = basis(1, 90, a=2.0, turn=17.0)
    image = crystal(specimen / np.array([0.1, 0.2]), rng=rng, counts=30, width=0.15)
    row = lattice_row(read_image(image, pixel=(0.1, 0.2)).lattice)
    assert row["a_A"] == pytest.approx(2.0, abs=4 * row["a_A_err"])
    assert row["b_A"] == pytest.approx(2.0, abs=4 * row["b_A_err"])
    assert row["gamma_deg"] == pytest.approx(90.0, abs=4 * row["gamma_deg_err"])
    assert row["angle_deg"] == pytest.approx(17.0, abs=4 * row["angle_deg_err"])


def test_measures_have_the_scatter_that_they_claim() -> None:
    rng = np.random.default_rng(3)
    vectors = basis(1.3, 80, a=10.0, turn=-35.0)
    root = rng.standard_normal((4, 4)) * 0.02
    cov = root @ root.T
    many = vectors + (rng.standard_normal((4000, 4)) @ root.T).reshape(-1, 2, 2)
    one = measures(Cells(vectors[None], cov[None]))
    all_ = measures(Cells(many, np.broadcast_to(cov, (4000, 4, 4))))
    assert one["gamma"][0] == pytest.approx(80) and one["angle"][0] == pytest.approx(-35)
    for name in ("a", "b", "gamma", "angle"):
        assert all_[name].std() == pytest.approx(one[f"{name}_err"][0], rel=0.05)


def test_the_candidate_that_agrees_with_the_class_is_taken() -> None:
    def found(*shapes: complex, score: tuple[float, ...]) -> Lattices:
        first = torch.full((1, len(shapes)), 10.0 + 0j)
        small = torch.full((1, len(shapes)), 0.005)
        covariance = torch.tensor([1e-4, 0.0, 1e-4]).expand(1, len(shapes), 3)
        strength = torch.full((1, len(shapes), 24), 4.0)
        return Lattices(first, first * torch.tensor([shapes]), covariance, small, small * 200, torch.tensor([score]), strength)  # fmt: skip

    def area(*, name: str, score: tuple[float, ...]) -> float:
        p = torch.zeros(1, 6)
        p[0, CLASSES.index(name)] = 1
        lattices = found(1j, complex(0.5, 0.75**0.5), 1.4j, score=score)
        cells = cells_of(lattices, p, scale=1.0, classes=CLASSES)
        a, b = cells.vectors[0]
        return float(abs(a[0] * b[1] - a[1] * b[0]) / (SIZE / 10) ** 2)

    assert area(name="hexagonal", score=(9.0, 8.0, 7.0)) == pytest.approx(2 / 3**0.5, rel=1e-5)
    assert area(name="square", score=(9.0, 8.0, 7.0)) == pytest.approx(1)
    assert area(name="rectangular", score=(9.0, 8.0, 1.0)) == pytest.approx(1), (
        "too little speaks for the third"
    )
    assert np.isnan(area(name="noise", score=(9.0, 8.0, 7.0)))


def test_windows_of_two_crystals_are_not_averaged() -> None:
    rng = np.random.default_rng(5)
    left = basis(1, 90, a=12.0, turn=10.0) + 0.01 * rng.standard_normal((6, 2, 2))
    right = basis(1, 60, a=15.0, turn=10.0) + 0.01 * rng.standard_normal((3, 2, 2))
    errors = np.broadcast_to(1e-4 * np.eye(4), (9, 4, 4))
    lattice, share = common_lattice(Cells(np.concatenate([left, right]), errors), independent=9)
    assert lattice is not None and share == pytest.approx(2 / 3)
    assert lattice.a == pytest.approx(12.0, abs=0.02)
    assert lattice.errors["a"] == pytest.approx(0.01 / 6**0.5, rel=0.5)
    assert common_lattice(no_cells(3), independent=3) == (None, 0.0)
    assert np.isnan(lattice_row(None)["a_px"])


def test_a_map_carries_the_lattice_of_every_window() -> None:
    rng = np.random.default_rng(6)
    halves = [crystal(basis(1, g, a=12.0, turn=5.0), rng=rng, shape=(128, 256)) for g in (90, 60)]
    field = map_symmetry(np.concatenate(halves, axis=1), window=128, step=64, pixel=(0.1, 0.1))
    gamma, err = field.maps["gamma_deg"][0], field.maps["gamma_deg_err"][0]
    assert np.abs(gamma[[0, 1, 2]] - 90).max() < 4 * np.nanmax(err) and np.abs(
        gamma[[4, 5, 6]] - 60
    ).max() < 4 * np.nanmax(err)
    assert np.allclose(field.maps["a_A"], 0.1 * field.maps["a_px"], equal_nan=True)
    blank = map_symmetry(np.zeros((128, 128)))
    assert np.isnan(blank.maps["a_px"]).all() and set(cell_maps(no_cells(0))) <= set(blank.maps)
