import crystals
import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, reduce_vectors
from atomreel.core.material import load_material
from atomreel.interpret.calibrate import calibrate


def image_of(vectors_A, *, pixel, shear, covariance=None, known=None):
    """The lattice as an image with this pixel size and shear shows it."""
    y, x = vectors_A[:, 0] / pixel[0], vectors_A[:, 1] / pixel[1]
    seen = np.column_stack([y, x + shear * y])
    seen = reduce_vectors(seen) @ seen
    return Lattice(np.zeros(2), seen, np.zeros((6, 6)) if covariance is None else covariance, pixel=known)


@pytest.mark.parametrize("angle", [0.0, 17.0, 44.0, -75.0])
@pytest.mark.parametrize("shear", [0.03, -0.02])
def test_graphene_gives_pixel_and_shear(angle, shear):
    seen = image_of(
        crystals.vectors_of(2.46, 2.46, 60, angle), pixel=(0.101, 0.097), shear=shear, known=(0.1, 0.1)
    )
    found = calibrate(seen, load_material("graphene"))
    assert found.pixel == pytest.approx((0.101, 0.097), rel=1e-6)
    assert found.shear == pytest.approx(shear, abs=1e-6)
    assert found.after == pytest.approx({"a_A": 2.46, "b_A": 2.46, "gamma_deg": 60.0}, rel=1e-6)
    assert found.scale == pytest.approx(np.sqrt(0.101 * 0.097) / 0.1)
    assert found.before["a_A"] != pytest.approx(2.46, abs=1e-3)


def test_square_pixels_leave_a_check():
    seen = image_of(crystals.vectors_of(2.46, 2.46, 60, 11), pixel=(0.1, 0.1), shear=0.02)
    found = calibrate(seen, load_material("graphene"), square_pixels=True)
    assert found.pixel == pytest.approx((0.1, 0.1), rel=1e-6) and found.shear == pytest.approx(0.02, abs=1e-6)
    squeezed = image_of(crystals.vectors_of(2.46, 2.46, 60, 11), pixel=(0.105, 0.1), shear=0.0)
    found = calibrate(squeezed, load_material("graphene"), square_pixels=True)
    assert abs(found.after["gamma_deg"] - 60) + abs(found.after["b_A"] / found.after["a_A"] - 1) > 0.01
    assert found.scale is None and "a_px" in found.before


def test_positions_come_out_undistorted():
    cell = crystals.vectors_of(2.46, 2.46, 60, 17)
    seen = image_of(cell, pixel=(0.101, 0.097), shear=0.03)
    found = calibrate(seen, load_material("graphene"))
    lengths = np.linalg.norm(found.to_angstrom(seen.vectors), axis=1)
    assert lengths == pytest.approx([2.46, 2.46], rel=1e-6)


def test_errors_cover():
    truth, sigma, pulls = crystals.vectors_of(2.46, 2.46, 60, 20), 0.05, []
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(0, sigma, (2, 2))
        seen = image_of(truth, pixel=(0.1, 0.1), shear=0.01)
        noisy = Lattice(np.zeros(2), seen.vectors + noise, np.eye(6) * sigma**2)
        found = calibrate(noisy, load_material("graphene"))
        pulls.append(
            [
                (found.pixel[0] - 0.1) / found.pixel_err[0],
                (found.pixel[1] - 0.1) / found.pixel_err[1],
                (found.shear - 0.01) / found.shear_err,
            ]
        )
    share = (np.abs(pulls) < 1).mean(0)
    assert np.all((share > 0.6) & (share < 0.77)), share


def test_another_material_is_refused():
    square = Lattice(np.zeros(2), crystals.vectors_of(30, 60, 90, 0))
    with pytest.raises(InputError, match="graphene"):
        calibrate(square, load_material("graphene"))
