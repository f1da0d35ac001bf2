import pytest

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.kinetics.beam import (
    cross_section,
    describe_knock_on,
    knock_on,
    knock_on_table,
    knock_on_threshold,
    parse_displacement,
)
from atomreel.kinetics.intervals import Estimate, rate


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


def test_table_of_elements_and_voltages():
    table = knock_on_table(["S", "W"], [80, 100], displacement_eV={"S": 6.5})
    assert table.element.tolist() == ["S", "S", "W", "W"] and table.voltage_kV.tolist() == [80, 100, 80, 100]
    assert table.energy_eV.tolist() == [knock_on(v, e) for e in ("S", "W") for v in (80, 100)]
    assert table.displaced.tolist() == [False, True, False, False]
    assert (
        table.threshold_kV[0] == pytest.approx(knock_on_threshold(6.5, "S")) and table.threshold_kV.isna()[2]
    )
    assert list(knock_on_table(["C"], [80])) == ["element", "voltage_kV", "energy_eV"]
    for bad in ([], [80]), (["C"], []):
        with pytest.raises(InputError, match="elements and voltages"):
            knock_on_table(*bad)
    with pytest.raises(UnknownNameError):
        knock_on_table(["C"], [80], displacement_eV={"Xx": 6.5})


def test_words_of_the_command(call):
    code, out, _ = call("beam", "S", "W", "--kv", 80, "--kv", 100, "--displacement", "S=6.5")
    assert code == 0 and [line.rstrip() for line in out.splitlines()] == describe_knock_on(
        ["S", "W"], [80, 100], displacement_eV={"S": 6.5}
    )
    assert "7.51*" in out and "1.31" in out and "from 87.5 kV on" in out
    assert parse_displacement(["S=6.5", " W = 20 "]) == {"S": 6.5, "W": 20.0}
    for bad in ("S", "S=x"):
        with pytest.raises(InputError, match="ELEMENT=eV"):
            parse_displacement([bad])


def test_cross_section_is_events_per_electrons_through_an_area():
    """37 events in 200 s at 5·10⁴ e⁻/Å² per s: 10⁷ e⁻/Å² in all, so 3.7·10⁻⁶ Å² = 370 barn; the interval scales with it."""
    seen = rate(37, 200.0)
    found = cross_section(seen, 5e4)
    assert found.value == pytest.approx(370) and found.unit == "barn" and found.count == 37
    assert found.low / found.value == pytest.approx(seen.low / seen.value)
    per_frame = cross_section(Estimate(0.01, 0.0, float("inf"), "1/frame", 1, ""), 1e3)  # 1e-5 Å²
    assert per_frame.value == pytest.approx(1000) and per_frame.high == float("inf")
    with pytest.raises(InputError, match="Å²/s"):
        cross_section(Estimate(1.0, 0.5, 2.0, "Å²/s", 1, ""), 1e4)
    with pytest.raises(InputError, match="dose rate"):
        cross_section(seen, 0.0)
