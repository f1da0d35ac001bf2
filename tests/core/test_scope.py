import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomreel.core.errors import InputError, RecipeError, UnknownNameError
from atomreel.core.scope import LOGARITHMIC, NUMBERS, Scope, load_scope, make_scope


def test_a_number_is_a_range_of_no_width():
    scope = Scope(voltage=80)
    assert scope.range("voltage") == (80.0, 80.0)
    assert scope.draw("voltage", np.random.default_rng(0)) == 80.0


@given(st.integers(0, 2**32), st.floats(1, 4))
def test_what_is_drawn_lies_inside(seed, lean):
    scope, rng = Scope(), np.random.default_rng(seed)
    drawn = {name: scope.draw(name, rng, lean=lean) for name in NUMBERS}
    assert scope.contains(drawn)


def test_same_seed_same_sample():
    assert Scope().sample(7) == Scope().sample(7)
    assert Scope().sample(7) != Scope().sample(8)


@pytest.mark.parametrize("name", ["dose", "cs"])
def test_distribution_is_uniform_on_its_scale(name):
    rng = np.random.default_rng(1)
    scope = Scope()
    values = np.array([scope.draw(name, rng) for _ in range(4000)])
    low, high = scope.range(name)
    if name in LOGARITHMIC:
        values, low, high = np.log(values), np.log(low), np.log(high)
    share = (values - low) / (high - low)
    assert np.histogram(share, 4, (0, 1))[0] == pytest.approx(1000, abs=120)  # > 4 σ


def test_outside_is_said_by_name():
    said = Scope(voltage=(60, 80)).outside({"voltage": 300.0, "cs": 0.0})
    assert said == ["voltage 300 is outside 60 to 80"]


def test_round_trip():
    scope = Scope(materials=("ws2",), modality="stem", counts=(1, 9))
    assert make_scope(scope.to_dict()) == scope


def test_wrong_values_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'voltage'"):
        make_scope({"voltag": 80})
    with pytest.raises(RecipeError, match="low must not be above high"):
        Scope(cs=(3, 1))
    with pytest.raises(RecipeError, match=r"a number or \[low, high\]"):
        Scope(cs="much")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="above 0"):
        Scope(dose=0)


def test_files(tmp_path):
    path = tmp_path / "scope.toml"
    path.write_text("[scope]\nvoltage = [60, 80]\n")
    assert load_scope(path).range("voltage") == (60, 80)
    path.write_text("voltage = 60\n")
    assert load_scope(path).range("voltage") == (60, 60)
    path.write_text("no toml")
    with pytest.raises(InputError):
        load_scope(path)


def test_what_is_stated_is_what_the_microscopes_have():
    """By hand: what the docstring of Scope lists under each of them, and what all of them share."""
    shared = {"materials", "modality", "nn_px", "drift", "damage", "faceted"}
    stm = set(Scope(modality="stm").stated())
    assert stm == shared | {"noise", "lobe", "jitter"}
    stem, hrtem = set(Scope(modality="stem").stated()), set(Scope(modality="hrtem").stated())
    assert {"counts", "fwhm", "jitter", "voltage"} <= stem and not {"dose", "noise", "defocus"} & stem
    assert {"dose", "cs", "mtf_c3", "voltage"} <= hrtem and not {"counts", "noise", "jitter"} & hrtem
    assert stem | hrtem | stm == set(Scope().stated()) == set(Scope().to_dict())
