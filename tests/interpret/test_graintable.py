"""Sums over grains."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.field import Field
from atomreel.interpret.disorientation import right_handed
from atomreel.interpret.graintable import area_error, boundary_table, cell_areas, grain_table


def field_of(owner: np.ndarray, *, step: float = 4.0) -> Field:
    return Field({"grain": owner}, origin=((step - 1) / 2,) * 2, step=(step, step))


def test_cells_share_out_the_whole_frame() -> None:
    areas = cell_areas(field_of(np.zeros((6, 8), int)), (22, 32))
    assert areas.sum() == pytest.approx(22 * 32) and areas[0, 0] == 16 and areas[-1, 0] == pytest.approx(8)


def test_errors_of_areas_grow_with_the_boundary_and_are_none_without() -> None:
    owner = np.ones((40, 40), int)
    assert area_error(field_of(owner), 1, spacing=8) == 0
    half, void = owner.copy(), owner.copy()
    half[:, 20:], void[:, 20:] = 2, 0
    both, rim = (area_error(field_of(v), 1, spacing=8) for v in (half, void))
    assert 0 < both < rim < 0.2 * 40 * 20 * 16
    assert area_error(field_of(half), 2, spacing=8) == pytest.approx(both)
    short = np.where(np.arange(40)[:, None] < 10, half, 1)
    assert area_error(field_of(short), 2, spacing=8) != pytest.approx(both)


def test_lattices_are_averaged_whatever_their_basis_and_metric_with_pixels_that_are_not_square() -> None:
    rng = np.random.default_rng(0)
    a, b = np.array([0.0, 10.0]), np.array([-14.0, 0.0])
    bases = [np.stack(pair) for pair in ((a, b), (-a, b), (b, a), (a, -b), (b, -a))]
    vectors = np.array([bases[k % 5] for k in range(36)]).reshape(6, 6, 2, 2)
    vectors = right_handed(vectors + rng.normal(0, 0.05, vectors.shape))
    maps = {"p_rectangular": np.full((6, 6), 0.9), "p_noise": np.full((6, 6), 0.1)}
    maps |= {name: np.full((6, 6), 0.05) for name in ("a_px_err", "b_px_err")}
    maps |= {name: np.full((6, 6), 0.3) for name in ("gamma_deg_err", "angle_deg_err")}
    field = Field(maps, origin=(39.5, 39.5), step=(20.0, 20.0))
    labels = np.ones((6, 6), np.int32)
    area = field_of(np.ones((45, 45), np.int32))
    about = {"labels": labels, "area": area, "shape": (180, 180), "window": 80, "pixel": (0.5, 0.7)}
    row = grain_table(field, vectors, **about).iloc[0]
    assert row.symmetry == "rectangular" and row.p == pytest.approx(0.9) and row.windows == 36 and row.cut
    assert row.a_px == pytest.approx(10, abs=0.05) and row.b_px == pytest.approx(14, abs=0.05)
    assert row.a_A == pytest.approx(7, abs=0.05) and row.b_A == pytest.approx(7, abs=0.05)
    assert row.gamma_deg == pytest.approx(90, abs=0.3) and row.angle_deg == pytest.approx(0, abs=0.3)
    assert 0.05 / 6 < row.a_px_err < 0.05 and row.area_nm2 == pytest.approx(180**2 * 0.0035)
    assert not len(boundary_table(vectors, labels=labels, area=area, table=grain_table(field, vectors, **about), pixel=None))  # fmt: skip
