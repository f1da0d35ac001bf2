import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie


@pytest.mark.parametrize("dtype", ["u1", "i1", ">u2", "<i4", "u8", "f2", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_number_type_keeps_its_values(tmp_path, rng, dtype, order):
    stack = rng.integers(0, 2 if dtype == "?" else 100, (3, 17, 23)).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(stack, order=order))
    movie = open_movie(tmp_path / "a.npy")
    assert len(movie) == 3
    np.testing.assert_array_equal(movie[1].data, stack[1].astype(np.float32))


def test_a_huge_file_is_not_read(tmp_path):
    """20,000 × 20,000 pixels (0.8 GB, sparse on disk) open within a few MB, and so does one region."""
    import tracemalloc

    path = tmp_path / "big.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<u2", "fortran_order": False, "shape": (20_000, 20_000)}
        )
        stream.truncate(stream.tell() + 800_000_000)
    tracemalloc.start()
    movie = open_movie(path)
    region = movie.frames[0][9_000:9_100, 3_000:3_100].copy()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert movie.shape == (20_000, 20_000)
    assert region.sum() == 0
    assert peak < 20e6


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    np.save(tmp_path / "o.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", a=np.array([Bomb()], dtype=object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(InputError, match="never unpickled"):
            open_movie(tmp_path / name)


def test_a_cut_movie_keeps_its_whole_frames(tmp_path, rng):
    stack = rng.random((5, 32, 32)).astype(np.float32)
    path = tmp_path / "cut.npy"
    np.save(path, stack)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 100)
    movie = open_movie(path)
    assert len(movie) == 4
    assert "cut off: 4 of 5" in movie.notices[0]
    np.testing.assert_array_equal(movie[3].data, stack[3])


def test_an_archive_of_several_asks_which(tmp_path, rng):
    images = {name: rng.random((16, 16)) for name in ("before", "after")}
    np.savez_compressed(tmp_path / "two.npz", **images, label=np.array(["x"]))
    with pytest.raises(InputError, match=r"2 images.*'before'.*'after'"):
        open_movie(tmp_path / "two.npz")
    movie = open_movie(tmp_path / "two.npz", dataset="after")
    np.testing.assert_allclose(movie[0].data, images["after"], rtol=1e-6)
    assert [d.kind for d in list_datasets(tmp_path / "two.npz")] == ["image", "image", "object"]
