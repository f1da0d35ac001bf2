import numpy as np
import pytest
import torch

from atomreel.core.errors import InputError
from atomreel.core.material import Material, Site, load_material
from atomreel.simulate import multislice
from atomreel.simulate.hrtem import Optics, image_waves, phase_object


@pytest.mark.parametrize(
    ("name", "count"), [("graphene", 4), ("ws2", 6), ("srtio3", 5), ("au110", 8), ("au111", 24)]
)
def test_upright_cells_hold_the_right_number_of_atoms(name, count):
    material = load_material(name)
    block = multislice.upright_cell(material)
    assert len(block) == count
    per_volume = len(material.sites) / abs(np.linalg.det(material.vectors()))
    if material.kind == "crystal":
        assert len(block) / block.cell.volume == pytest.approx(per_volume)
    apart = block.get_all_distances(mic=True)
    assert apart[np.triu_indices(count, 1)].min() > 1.2


def test_thickness_is_in_whole_repeats():
    assert multislice.upright_cell(load_material("srtio3"), thickness=40).cell.lengths()[2] == pytest.approx(
        10 * 3.905
    )


def test_oblique_cells_are_refused():
    odd = Material("odd", "odd", "layer", (3.0, 4.1, 9.0, 90.0, 90.0, 81.3), (Site("C", "C", (0, 0, 0)),))
    with pytest.raises(InputError, match="rectangular"):
        multislice.upright_cell(odd)


def test_tiling_repeats_and_turns():
    y, x = np.mgrid[:20, :16]
    cell = np.cos(2 * np.pi * y / 20) + 0.5 * np.cos(2 * np.pi * x / 16)  # 4 Å × 3.2 Å at 0.2 Å
    field = multislice.tile_image(cell, (50, 60), cell_pixel=(0.2, 0.2), pixel=0.1, origin=(0.7, 0.3))
    yy, xx = np.mgrid[:50, :60] * 0.1
    assert field == pytest.approx(
        np.cos(2 * np.pi * (yy - 0.7) / 4) + 0.5 * np.cos(2 * np.pi * (xx - 0.3) / 3.2), abs=5e-3
    )
    turned = multislice.tile_image(cell, (50, 60), cell_pixel=(0.2, 0.2), pixel=0.1, angle=90)
    assert turned == pytest.approx(np.cos(2 * np.pi * xx / 4) + 0.5 * np.cos(2 * np.pi * yy / 3.2), abs=5e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_graphene_as_a_phase_object_agrees_with_multislice(tmp_path):
    """Images of graphene, 80 kV: rms difference below 2 % of the contrast, mean phase within 1 %."""
    pytest.importorskip("abtem")
    sheet = multislice.upright_cell(load_material("graphene")) * (6, 4, 1)
    wave, pixel = multislice.exit_wave(sheet, voltage=80, pixel=0.1, cache=tmp_path)
    at = np.stack([sheet.positions[:, 1] / pixel[0], sheet.positions[:, 0] / pixel[1]], axis=1)
    ours = phase_object(
        {"C": at}, {"C": np.ones(len(at))}, wave.shape, pixel=pixel[0], voltage=80, thermal=0.0
    )
    assert np.angle(ours).mean() == pytest.approx(np.angle(wave).mean(), rel=0.01)
    optics = [Optics(80, defocus=60, cs=10, focal_spread=25)] * 2
    theirs, mine = image_waves(torch.from_numpy(np.stack([wave, ours])), pixel[0], optics).numpy()
    assert (theirs - mine).std() < 0.02 * theirs.std()
    again, _ = multislice.exit_wave(sheet, voltage=80, pixel=0.1, cache=tmp_path)
    assert np.array_equal(again, wave) and len(list(tmp_path.rglob("*.npz"))) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_scanned_image_is_brightest_at_the_heaviest_column(tmp_path):
    pytest.importorskip("abtem")
    block = multislice.upright_cell(load_material("srtio3"))
    image, pixel = multislice.scan_image(
        block, voltage=200, semiangle=20, angles=(60, 90), phonons=1, pixel=0.09, cache=tmp_path
    )
    columns = {"Sr": (0.0, 0.0), "Ti": (0.5, 0.5), "O": (0.5, 0.0)}
    value = {}
    for name, (fy, fx) in columns.items():
        value[name] = image[
            round(fy * image.shape[0]) % image.shape[0], round(fx * image.shape[1]) % image.shape[1]
        ]
    assert value["Sr"] > 1.3 * value["Ti"] > 1.3 * value["O"] > 0
    assert pixel[0] * image.shape[0] == pytest.approx(3.905)
