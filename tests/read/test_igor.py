import builtins
import struct

import numpy as np
import pytest

from atomreel.core.errors import InputError, MissingExtraError
from atomreel.read.movie import open_movie

pytest.importorskip("igor2")


def write(path, data, *, steps=(1e-10, 2e-10, 0.0), units=(b"m", b"m", b"")):
    """An Igor version 5 wave (WaveMetrics technical note 3): 64 + 320 bytes, then column-major numbers."""
    shape = (*data.shape, 0, 0, 0)[:4]
    wave = struct.pack("<iIIi2h6sh32sii4i", 0, 0, 0, data.size, 4, 0, b"", 1, b"Height", 0, 0, *shape)
    wave += struct.pack("<4d4d4s", *steps, 0.0, 0, 0, 0, 0, b"m")
    wave += b"".join(u.ljust(4, b"\0") for u in (*units, b""))
    wave = wave.ljust(320, b"\0")
    head = struct.pack("<hhiiii", 5, 0, 320 + 8 * data.size, 0, 0, 0).ljust(64, b"\0")
    total = sum(struct.unpack("<192h", head + wave))
    head = head[:2] + struct.pack("<h", (-total + 2**15) % 2**16 - 2**15) + head[4:]
    path.write_bytes(head + wave + data.astype("<f8").tobytes(order="F"))


def test_a_wave_is_turned_to_rows_and_columns(tmp_path, rng):
    scene = rng.random((20, 30))  # y down, x right
    path = tmp_path / "a.ibw"
    write(path, scene[::-1].T)
    movie = open_movie(path)
    np.testing.assert_allclose(movie[0].data, scene, rtol=1e-6)
    assert movie.pixel == pytest.approx((2.0, 1.0))
    assert movie.modality == "stm"


def test_spectra_and_cut_files_are_refused(tmp_path, rng):
    write(tmp_path / "cube.ibw", rng.random((8, 9, 50)), steps=(1e-10, 1e-10, 0.01), units=(b"m", b"m", b"V"))
    with pytest.raises(InputError, match="spectrum image"):
        open_movie(tmp_path / "cube.ibw")
    path = tmp_path / "cut.ibw"
    write(path, rng.random((20, 30)))
    raw = path.read_bytes()
    for keep in (2, 100, 400, 2000):
        path.write_bytes(raw[:keep])
        with pytest.raises(InputError):
            open_movie(path)


def test_without_the_library_the_extra_is_named(tmp_path, rng, monkeypatch):
    write(tmp_path / "a.ibw", rng.random((20, 30)))
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("igor2"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'atomreel\[spm\]'"):
        open_movie(tmp_path / "a.ibw")


@pytest.mark.parametrize("at", [5, 6, 15, 64 + 13, 64 + 69, 64 + 75])
def test_absurd_sizes_are_refused_at_once(tmp_path, rng, at):
    """The library would try to read them: minutes, or for ever."""
    path = tmp_path / "a.ibw"
    write(path, rng.random((20, 30)))
    raw = bytearray(path.read_bytes())
    raw[at] = 0x70
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="cut off or damaged"):
        open_movie(path)
