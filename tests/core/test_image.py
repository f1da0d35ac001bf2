"""Image and Movie: frozen, checked, lazy."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.image import Image, Movie


class Counted:
    """Frames that count how often each was read."""

    def __init__(self, n: int) -> None:
        self.reads: list[int] = []
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> np.ndarray:
        self.reads.append(i)
        return np.full((4, 5), i, np.uint16)


def test_image_is_float32_and_array_like() -> None:
    image = Image(np.arange(6).reshape(2, 3))
    assert image.data.dtype == np.float32 and np.asarray(image).shape == (2, 3)
    assert np.array(image, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("shape", [(3,), (1, 5), (2, 2, 2)])
def test_image_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="two-dimensional"):
        Image(np.zeros(shape))


def test_movie_reads_only_what_is_asked_for() -> None:
    frames = Counted(10)
    movie = Movie(frames, (4, 5), times=np.arange(10) * 0.5)
    part = movie[2:9:3].map(lambda data: data * 2)
    assert frames.reads == []
    assert part[1].data[0, 0] == 10 and frames.reads == [5]
    assert part.times is not None and part.times.tolist() == [1.0, 2.5, 4.0]
    assert [image.data[0, 0] for image in part] == [4, 10, 16]
    assert movie[-1].data[0, 0] == 9
    with pytest.raises(IndexError):
        _ = movie[10]


def test_movie_checks_its_numbers() -> None:
    with pytest.raises(InputError, match="no frames"):
        Movie(Counted(0), (4, 5))
    with pytest.raises(InputError, match="3 values for 2 frames"):
        Movie(Counted(2), (4, 5), times=np.arange(3.0))
    with pytest.raises(InputError, match="increase"):
        Movie(Counted(2), (4, 5), times=np.zeros(2))
    with pytest.raises(InputError, match="shape"):
        _ = Movie(Counted(1), (5, 5))[0]
