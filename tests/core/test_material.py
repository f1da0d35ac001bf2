import tomllib

import numpy as np
import pytest
import tomli_w

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.core.material import Defect, Material, Site, load_material, make_material, material_names

ALL = material_names()


def test_the_list():
    assert {
        "ws2",
        "mos2",
        "mose2",
        "wse2",
        "graphene",
        "srtio3",
        "si110",
        "gaas110",
        "au100",
        "au110",
        "au111",
    } <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_contract(name):
    """Every shipped material: cell, distances, elements, defects, projection."""
    material = load_material(name)
    atoms = material.to_ase()
    assert atoms.cell.volume == pytest.approx(abs(np.linalg.det(material.vectors())))
    apart = atoms.get_all_distances(mic=True)
    assert apart[np.triu_indices(len(atoms), 1)].min() > 1.2  # Å: no two sites on top of each other
    pattern = material.project()
    assert sum(len(a) for a in pattern.atoms) == len(material.sites) * pattern_share(material, pattern)
    assert pattern.nearest > 1.2 and any(pattern.visible)
    assert material.source and material.title
    assert material.layer_group or material.plane_group
    for defect in material.defects:
        assert defect.name.count("_") == 1
        assert defect.action != "replace" or defect.species


@pytest.mark.parametrize("name", ALL)
def test_a_material_as_a_table_and_back(name):
    material = load_material(name)
    table = tomllib.loads(tomli_w.dumps(material.to_dict()))
    assert make_material(table) == material


def pattern_share(material, pattern):
    """Whole cells: area of the projected cell times its repeat over the volume of the cell."""
    area = abs(np.linalg.det(pattern.vectors))
    return round(area * pattern.repeat / abs(np.linalg.det(material.vectors())), 6)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("graphene", 2.46 / np.sqrt(3)), ("au100", 4.078 / 2), ("au110", 4.078 * np.sqrt(3 / 8)), ("au111", 4.078 / np.sqrt(6)),
     ("si110", 5.431 / 4), ("srtio3", 3.905 / np.sqrt(2)), ("ws2", 3.153 / np.sqrt(3))],
)  # fmt: skip
def test_nearest_columns_by_hand(name, nearest):
    assert load_material(name).project().nearest == pytest.approx(nearest, abs=2e-3)


def test_oxygen_is_hidden_and_sulphur_is_not():
    oxide, sulphide = load_material("srtio3").project(), load_material("ws2").project()
    assert dict(zip(oxide.labels, oxide.visible, strict=True)) == {"Sr": True, "Ti": True, "O": False}
    assert dict(zip(sulphide.labels, sulphide.visible, strict=True)) == {"W": True, "S2": True}


def test_another_zone_of_the_same_crystal():
    assert load_material("au100", zone=(1, 1, 0)).project().nearest == pytest.approx(
        load_material("au110").project().nearest
    )


def test_projection_is_a_picture_and_not_its_mirror_image():
    """Looking against the beam at a chiral arrangement: x to the right, y (up) is −(first coordinate)."""
    sites = (Site("Au", "Au", (0, 0, 0)), Site("Pt", "Pt", (0.25, 0, 0)), Site("W", "W", (0, 0.4, 0)))
    material = Material("t", "t", "layer", (10.0, 10.0, 10.0, 90.0, 90.0, 90.0), sites)
    pattern = material.project()
    place = dict(zip(pattern.labels, pattern.basis, strict=True))
    cell = pattern.vectors

    def near(a, b):
        d = (place[b] - place[a]) @ np.linalg.inv(cell)
        return (d - np.rint(d)) @ cell

    assert near("Au", "Pt") == pytest.approx([0, 2.5])  # +a: to the right
    assert near("Au", "W") == pytest.approx([-4.0, 0])  # +b: up


def test_refusals(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'ws2'"):
        load_material("ws")
    with pytest.raises(InputError, match="no such file"):
        load_material(tmp_path / "x.toml")
    path = tmp_path / "x.toml"
    path.write_text('title = "x"\nkind = "layer"\ncell = [3, 3, 3, 90, 90, 90]\nsites = []\n')
    with pytest.raises(InputError, match="no sites"):
        load_material(path)
    path.write_text(path.read_text() + "colour = 3\n")
    with pytest.raises(UnknownNameError, match="colour"):
        load_material(path)
    (tmp_path / "x.cif").write_text("nothing")
    with pytest.raises(InputError, match="a cell and atoms are needed"):
        load_material(tmp_path / "x.cif")
    with pytest.raises(InputError, match="no such file"):
        load_material(tmp_path / "none.cif", zone=(1, 1, 0))


def test_defects_must_fit_the_sites():
    site = (Site("C", "C", (0, 0, 0)),)
    cell = (3.0, 3.0, 3.0, 90.0, 90.0, 90.0)
    with pytest.raises(UnknownNameError, match="defect action"):
        Material("t", "t", "layer", cell, site, defects=(Defect("V_C", "melt", "C"),))
    with pytest.raises(UnknownNameError, match="site of defect"):
        Material("t", "t", "layer", cell, site, defects=(Defect("V_N", "remove", "N"),))
    with pytest.raises(InputError, match="common factor"):
        Material("t", "t", "layer", cell, site, zone=(0, 0, 2))


@pytest.mark.data
def test_a_cif_with_its_zone_axis(real):
    material = load_material(real / "tungsten-bronze" / "BSSN5137.cif", zone=(0, 0, 1))
    pattern = material.project()
    a, b = np.linalg.norm(pattern.vectors, axis=1)
    assert a == pytest.approx(12.588, abs=0.01) and b == pytest.approx(12.588, abs=0.01)
    assert "O" not in {label for label, seen in zip(pattern.labels, pattern.visible, strict=True) if seen}
    assert {"Ba", "Sn"} <= set(pattern.labels)
