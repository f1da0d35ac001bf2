import json

import h5py
import numpy as np
import pytest

from atomreel.read.movie import open_movie
from atomreel.read.source import Source
from atomreel.read.velox import with_frame_facts


@pytest.mark.data
def test_a_real_stack_has_its_own_times(real, tmp_path):
    """A real Velox stack holds two 3 × 3 frames; with larger frames put in, its facts are read."""
    path = tmp_path / "velox.emd"
    path.write_bytes((real / "native-formats" / "em" / "fei_example_tem_stack.emd").read_bytes())
    frames = np.arange(2 * 16 * 16, dtype=np.int16).reshape(16, 16, 2)
    with h5py.File(path, "r+") as file:
        group = next(iter(file["Data/Image"].values()))
        del group["Data"]
        group.create_dataset("Data", data=frames, chunks=(16, 16, 1))
    movie = open_movie(path)
    np.testing.assert_array_equal(movie[1].data, frames[..., 1])
    np.testing.assert_allclose(np.diff(movie.times), 0.799976)
    assert movie.exposure == pytest.approx(0.8)
    assert movie.pixel == pytest.approx((0.08172883192, 0.08172883192))
    assert movie.sources["times"] == "Velox time stamp of each frame"
    assert (movie.voltage, movie.modality) == (300.0, "hrtem")


def column(stamp, **about):
    custom = {"Detectors[X].TimeStamp": {"type": "int64", "value": str(stamp)}}
    raw = json.dumps({"CustomProperties": custom, **about}).encode()
    return np.frombuffer(raw.ljust(2000, b"\0"), np.uint8)


def write(path, stamps, *, groups=1, **about):
    with h5py.File(path, "w") as file:
        for k in range(groups):
            table = np.stack([column(s, **about) for s in stamps], axis=1)
            file[f"Data/Image/{k}/Metadata"] = table
            file[f"Data/Image/{k}/Data"] = np.zeros((16, 16, len(stamps)))
    return [Source("a", (len(stamps), 16, 16), "f8", "movie", frames=np.zeros((len(stamps), 16, 16)))]


def test_pauses_are_kept(tmp_path):
    found = write(tmp_path / "a.emd", [5_000_000, 5_500_000, 9_000_000], Scan={"FrameTime": "0.4"})
    (source,) = with_frame_facts(found, tmp_path / "a.emd")
    np.testing.assert_allclose(source.times, [0, 0.5, 4.0])
    assert source.exposure == 0.4


def test_stamps_that_do_not_increase_or_have_no_owner_are_left_alone(tmp_path):
    found = write(tmp_path / "a.emd", [5, 5, 6])
    assert with_frame_facts(found, tmp_path / "a.emd")[0].times is None
    found = write(tmp_path / "b.emd", [5, 6, 7], groups=2)
    assert with_frame_facts(found, tmp_path / "b.emd")[0].times is None
