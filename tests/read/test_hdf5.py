import json

import h5py
import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie


def test_a_field_of_view_in_pm_gives_the_pixel(tmp_path, rng):
    image = rng.random((1, 64, 64, 1)).astype(np.float32)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        data = file.create_dataset("nn_input", data=image)
        data.attrs["scan size"] = "2000"
        data.attrs["metadata"] = json.dumps({"type of data": "HAADF", "acc voltage": 60.0})
        file.create_dataset("defect_coord_0", data=np.array([[b"1", b"2", b"C"]]))
    movie = open_movie(tmp_path / "a.hdf5")
    assert movie.pixel == pytest.approx((20 / 64, 20 / 64))
    assert (movie.voltage, movie.modality, len(movie)) == (60.0, "stem", 1)
    np.testing.assert_array_equal(movie[0].data, image[0, :, :, 0])
    assert {d.kind for d in list_datasets(tmp_path / "a.hdf5")} == {"image", "object"}


def test_several_images_ask_and_groups_are_searched(tmp_path, rng):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/one"] = rng.random((20, 24))
        file["run/two"] = rng.random((3, 20, 24))
    with pytest.raises(InputError, match=r"'run/one' 20×24 image; 1: 'run/two' 3×20×24 movie"):
        open_movie(tmp_path / "a.h5")
    assert len(open_movie(tmp_path / "a.h5", dataset="run/two")) == 3


def test_a_frame_is_read_without_the_rest(tmp_path):
    """A 2 GB movie that was never written opens and gives a frame at once."""
    import tracemalloc

    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("movie", (2000, 1024, 1024), "u1", chunks=(1, 1024, 1024))
    tracemalloc.start()
    frame = open_movie(tmp_path / "big.h5").frames[1234]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.shape == (1024, 1024)
    assert peak < 30e6


def test_empty_and_damaged_files_are_refused(tmp_path, rng):
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(InputError, match="without any array"):
        open_movie(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "cut.h5", "w") as file:
        file["a"] = rng.random((64, 64))
    raw = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        open_movie(tmp_path / "cut.h5")
