import zlib

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie


def write(path, images, *, mark="[Paramco32]", select=3, keep=None):
    count, ny, nx = images.shape
    head = (
        f"{mark}\r\nNum.X / Num.X={nx}\r\nNum.Y / Num.Y={ny}\r\nChannels / Channels={count}\r\n"
        f"Channelselectval / Channelselectval={select}\r\nLength x[A]=60.0\r\nLength y[A]=40.0\r\n"
        "Sec/Image:=157.286\r\nDrift_X / Drift_X[Å/sec]=0\r\n"
    ).encode("latin-1")
    dtype = "<i2" if mark == "[Parameter]" else "<f4"
    data = np.concatenate([[7], images.ravel()]).astype(dtype).tobytes()
    data = zlib.compress(data + bytes(500)) if mark == "[Paramco32]" else data
    path.write_bytes((head.ljust(16384, b"\0") + data)[:keep])


@pytest.mark.parametrize("mark", ["[Paramco32]", "[Paramet32]", "[Parameter]"])
def test_all_versions_give_pixels_and_calibration(tmp_path, rng, mark):
    images = rng.integers(-1000, 1000, (2, 20, 30))
    path = tmp_path / "a.dat"
    write(path, images, mark=mark)
    assert [d.name for d in list_datasets(path)] == ["topography", "current"]
    movie = open_movie(path, dataset="current")
    np.testing.assert_array_equal(movie[0].data, images[1])
    assert movie.pixel == pytest.approx((2.0, 2.0))
    assert (movie.exposure, movie.modality) == (157.286, "stm")


def test_channels_without_contrast_are_passed_over(tmp_path, rng):
    images = np.stack([rng.integers(0, 100, (20, 30)), np.zeros((20, 30), int)])
    write(tmp_path / "a.dat", images)
    movie = open_movie(tmp_path / "a.dat")
    np.testing.assert_array_equal(movie[0].data, images[0])
    assert "'current'" in movie.notices[0]


def test_cut_files(tmp_path, rng):
    images = rng.integers(-1000, 1000, (2, 20, 30))
    path = tmp_path / "a.dat"
    write(path, images, mark="[Paramet32]", keep=-100)
    np.testing.assert_array_equal(open_movie(path)[0].data, images[0])
    for keep in (100, 16384, 16500):
        write(path, images, keep=keep)
        with pytest.raises(InputError):
            open_movie(path)


@pytest.mark.data
def test_the_real_corral(real):
    """77.4 Å across; adatoms stand out of a flat surface."""
    movie = open_movie(next((real / "stm-corrals").glob("*.dat")), dataset="topography")
    assert movie.shape == (512, 512)
    assert movie.pixel == pytest.approx((77.393 / 512, 77.393 / 512))
    data = movie[0].data
    assert (data > np.median(data) + 4 * data.std()).mean() < 0.05
    assert np.percentile(data, 99) > np.median(data) + data.std()
