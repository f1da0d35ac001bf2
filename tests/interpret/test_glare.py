import numpy as np
import pytest

from atomreel.interpret.glare import SHARE, brightness_error


def test_neighbours_of_a_bright_column_are_known_less_well():
    points = np.array([[0.0, 0], [0, 10], [0, 20], [0, 30]])
    excess = np.array([-1.0, 6.0, 0.5, np.nan])
    error = brightness_error(points, excess, np.array([0.2, 0.3, 0.2, np.nan]), spacing=10.0)
    light = SHARE * np.array([6.0, 0.5, 6.0, 0.5])
    assert error == pytest.approx(np.hypot([0.2, 0.3, 0.2, 0.0], light))


def test_dim_and_far_columns_send_no_light():
    points = np.array([[0.0, 0], [0, 10], [40, 0]])
    assert brightness_error(
        points, np.array([0.0, -5.0, 9.0]), np.full(3, 0.1), spacing=10.0
    ) == pytest.approx(0.1)
    assert len(brightness_error(np.zeros((0, 2)), np.zeros(0), np.zeros(0), spacing=1.0)) == 0
    assert brightness_error(np.zeros((1, 2)), np.ones(1), np.ones(1), spacing=1.0) == pytest.approx(1.0)
