import crystals
import numpy as np
import pytest

from atomreel.core.lattice import Lattice, Site
from atomreel.core.material import load_material
from atomreel.interpret.naming import expected_ratio, match_sites, name_sites, seen_cell


def lattice(kind, angle=11.0, swap=False):
    light = [weight for _, weight in kind[3]]
    order = [1, 0] if swap else list(range(len(light)))
    base = np.array(kind[3][order[0]][0], dtype=float)
    sites = tuple(
        Site(tuple(float(v) for v in (np.array(kind[3][k][0]) - base) % 1.0), intensity=light[k])
        for k in order
    )
    return Lattice((5, 5), crystals.vectors_of(*kind[:3], angle), sites=sites)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("angle", [0.0, 40.0])
def test_sites_of_a_dichalcogenide_by_brightness(angle, swap):
    names = name_sites(lattice(crystals.DICHALCOGENIDE, angle, swap), load_material("ws2"))
    assert names.names == (("S2", "W") if swap else ("W", "S2"))
    w = names.names.index("W")
    assert names.vacancy[w] == "V_W" and names.vacancy[1 - w] == "V_S2"
    assert names.substitution(w, 0.4) == "Mo_W"
    assert names.substitution(1 - w, 0.55) == "V_S"
    assert names.substitution(w, 3.0) == "substitution_W"


def test_perovskite_and_dumbbells():
    assert name_sites(lattice(crystals.PEROVSKITE), load_material("srtio3")).names == ("Sr", "Ti")
    dumbbell = (27.0, 27.0, 70.53, [((0, 0), 1.0), ((0.25, 0.25), 0.9)])
    assert set(name_sites(lattice(dumbbell), load_material("gaas110")).names) == {"Ga", "As"}


def test_a_lattice_of_another_shape_keeps_letters():
    assert match_sites(lattice(crystals.OBLIQUE), load_material("graphene")) is None
    assert name_sites(lattice(crystals.OBLIQUE), load_material("graphene")).vacancy == ("vacancy_A",)
    assert name_sites(lattice(crystals.HONEYCOMB), None).substitution(1, 2.0) == "substitution_A"


def test_sites_that_look_alike_share_a_letter():
    """Which of two equal sublattices comes first is chance, so a name must not tell them apart."""
    honeycomb, dumbbell = (
        (27.0, 27.0, 60.0, [((1 / 3, 1 / 3), 1.0), ((2 / 3, 2 / 3), light)]) for light in (0.95, 0.4)
    )
    assert name_sites(lattice(honeycomb), None).names == ("A", "A")
    assert set(name_sites(lattice(dumbbell), None).names) == {"A", "B"}


def test_expected_brightness():
    ws2 = load_material("ws2")
    assert expected_ratio(ws2.defect("V_S"), ("S", "S"), ws2) == pytest.approx(0.5)
    assert expected_ratio(ws2.defect("V_S2"), ("S", "S"), ws2) == 0
    assert expected_ratio(ws2.defect("Mo_W"), ("W",), ws2) == pytest.approx((42 / 74) ** 1.7)


@pytest.mark.parametrize(
    ("name", "area", "columns"),
    [("gaas110", 5.653**2 / np.sqrt(8), 2), ("graphene", 2.46**2 * np.sqrt(0.75), 2)],
)
def test_the_seen_cell_is_primitive(name, area, columns):
    vectors, seen = seen_cell(load_material(name))
    assert abs(np.linalg.det(vectors)) == pytest.approx(area, rel=1e-3)
    assert len(seen) == columns
