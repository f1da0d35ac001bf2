import pytest

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.kinetics.beam import knock_on, knock_on_threshold


def test_known_values():
    assert knock_on(100, "S") == pytest.approx(7.5, abs=0.05)
    assert knock_on(100, "W") == pytest.approx(1.31, abs=0.01)  # not the 1.6 that the paper prints


def test_threshold_is_the_inverse():
    assert knock_on_threshold(knock_on(80, "C"), "C") == pytest.approx(80)


def test_bad_input():
    with pytest.raises(UnknownNameError):
        knock_on(80, "Xx")
    with pytest.raises(InputError):
        knock_on(-1, "C")
