"""The movie that a run sees: ranges, regions, frames that hold nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.recipe import Input
from atomreel.pipeline.source import clean_or_blank, describe_source, has_content, open_source, spread


def test_frames_and_region(movie: Path) -> None:
    whole = open_source(movie, Input())
    part = open_source(movie, Input(frames="1::2", roi="8:40,16:72", frame_time_s=0.5))
    assert part.frames == (1, 3) and part.origin == (8, 16) and part.movie.shape == (32, 56)
    np.testing.assert_array_equal(part.movie[1].data, whole.movie[3].data[8:40, 16:72])
    assert part.movie.times is not None and part.movie.times.tolist() == [0.5, 1.5]
    assert "source_frames" not in describe_source(whole)
    about = describe_source(part)
    assert about["source_frames"] == [1, 3]
    assert about["frames"] == 2 and about["origin"] == [8, 16] and "frame_time_s" in about["sources"]["times"]


def test_what_is_too_small_or_empty(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 16"):
        open_source(movie, Input(roi="0:12,0:72"))
    data = np.full((4, 32, 32), np.nan, np.float32)
    data[3] = 1
    np.save(tmp_path / "a.npy", data)
    with pytest.raises(InputError, match="not one finite pixel"):
        open_source(tmp_path / "a.npy", Input(frames=":3"))
    source = open_source(tmp_path / "a.npy", Input())
    cleaned, notices = source.clean(0)
    assert not cleaned.any() and "not one finite pixel" in notices[0]


def test_a_frame_with_anything_in_it_is_cleaned() -> None:
    data = np.full((20, 20), np.nan, np.float32)
    assert not has_content(data)
    data[19, 19] = 3
    assert has_content(data) and clean_or_blank(data)[0].max() == 3


@pytest.mark.parametrize(("count", "most", "found"), [(1, 5, [0]), (3, 5, [0, 1, 2]), (100, 3, [0, 50, 99])])
def test_frames_are_spread_with_both_ends(count: int, most: int, found: list[int]) -> None:
    assert spread(count, most=most) == found
