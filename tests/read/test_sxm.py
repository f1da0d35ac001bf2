import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie

HEADER = """:NANONIS_VERSION:
2
:SCANIT_TYPE:
              FLOAT            MSBFIRST
:ACQ_TIME:
      12.5
:SCAN_PIXELS:
       {nx}       {ny}
:SCAN_RANGE:
           2.000000E-9           3.000000E-9
:SCAN_ANGLE:
            {angle}
:SCAN_DIR:
{direction}
:DATA_INFO:
\tChannel\tName\tUnit\tDirection\tCalibration\tOffset
\t14\tZ\tm\tboth\t9.000E-9\t0.000E+0
\t0\tCurrent\tA\tforward\t1.000E-9\t0.000E+0

:SCANIT_END:


"""


def write(path, scene, *, direction="down", angle="0.000E+0", keep=None):
    """What the microscope stores: lines in order of acquisition, backward ones from right to left."""
    ny, nx = scene.shape
    lines = scene[::-1] if direction == "up" else scene
    blocks = [lines, lines[:, ::-1], 2 * lines]
    raw = HEADER.format(nx=nx, ny=ny, direction=direction, angle=angle).encode() + b"\x1a\x04"
    raw += b"".join(block.astype(">f4").tobytes() for block in blocks)
    path.write_bytes(raw[:keep])


@pytest.mark.parametrize("direction", ["down", "up"])
def test_forward_and_backward_show_the_same_scene(tmp_path, rng, direction):
    scene = rng.random((20, 30)).astype(np.float32)
    path = tmp_path / "a.sxm"
    write(path, scene, direction=direction)
    assert [d.name for d in list_datasets(path)] == ["Z forward", "Z backward", "Current forward"]
    for name, factor in (("Z forward", 1), ("Z backward", 1), ("Current forward", 2)):
        np.testing.assert_array_equal(open_movie(path, dataset=name)[0].data, factor * scene)


def test_calibration_and_its_sources(tmp_path, rng):
    write(tmp_path / "a.sxm", rng.random((20, 30)), angle="1.351E+2")
    movie = open_movie(tmp_path / "a.sxm", dataset=0)
    assert movie.pixel == pytest.approx((30 / 20, 20 / 30))
    assert (movie.exposure, movie.modality) == (12.5, "stm")
    assert "SCAN_RANGE" in movie.sources["pixel"]
    assert any("rotated by 135.1°" in notice for notice in movie.notices)


def test_several_channels_ask_and_flat_ones_do_not_count(tmp_path, rng):
    write(tmp_path / "a.sxm", rng.random((20, 30)))
    with pytest.raises(InputError, match=r"3 images.*'Z forward'.*'Z backward'"):
        open_movie(tmp_path / "a.sxm")


def test_cut_files_keep_what_is_whole(tmp_path, rng):
    scene = rng.random((20, 30)).astype(np.float32)
    write(tmp_path / "a.sxm", scene, keep=-10)
    assert [d.name for d in list_datasets(tmp_path / "a.sxm")] == ["Z forward", "Z backward"]
    movie = open_movie(tmp_path / "a.sxm", dataset=0)
    np.testing.assert_array_equal(movie[0].data, scene)
    for keep in (300, 500, 800):
        write(tmp_path / "a.sxm", scene, keep=keep)
        with pytest.raises(InputError, match="copy it again"):
            open_movie(tmp_path / "a.sxm")


def test_an_unfinished_scan_has_nan_lines(tmp_path, rng):
    scene = rng.random((20, 30)).astype(np.float32)
    scene[12:] = np.nan
    write(tmp_path / "a.sxm", scene)
    assert np.isnan(open_movie(tmp_path / "a.sxm", dataset=0)[0].data[12:]).all()


@pytest.mark.data
@pytest.mark.parametrize("name", ["A151216.123306-02602.sxm", "Au_mica_2023_Y_A_diPAMY_195.sxm"])
def test_real_backward_scans_lie_on_the_forward_ones(real, name):
    """One file was scanned up, the other down; mirrored wrongly the two do not correlate."""
    both = [
        open_movie(real / "native-formats" / "sxm" / name, dataset=f"Current {way}")[0].data
        for way in ("forward", "backward")
    ]
    forward, backward = (image - image.mean(axis=1, keepdims=True) for image in both)
    right = np.corrcoef(forward.ravel(), backward.ravel())[0, 1]
    wrong = np.corrcoef(forward.ravel(), backward[:, ::-1].ravel())[0, 1]
    assert right > 0.9
    assert right > wrong + 0.2
