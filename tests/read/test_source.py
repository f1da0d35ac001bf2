import logging
import warnings

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.read.source import (
    LazyFrames,
    angstrom,
    collected,
    from_array,
    modality_of,
    positive,
    seconds,
    sort_out,
    to_grey,
)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.1, "nm", 1.0),
        (2, "pm", 0.02),
        (1e-4, "µm", 1.0),
        (1e-4, "\\u00B5m", 1.0),
        (1.5, "Å", 1.5),
        (1.5, "\u212b", 1.5),
        (2e-10, "m", 2.0),
        (1, "furlong", None),
        (0, "nm", None),
        (-1, "nm", None),
        (float("nan"), "nm", None),
        ("x", "nm", None),
        (1, None, None),
    ],
)
def test_lengths_become_angstrom_or_nothing(value, unit, expected):
    found = angstrom(value, unit)
    assert found == (None if expected is None else pytest.approx(expected))


def test_times_become_seconds_or_nothing():
    assert seconds(20, "ms") == pytest.approx(0.02)
    assert seconds(1, "nm") is None
    assert positive("3.5") == 3.5
    assert positive(None) is None
    assert positive(-1) is None


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((64, 64), "f4", "image"),
        ((5, 64, 64), "u1", "movie"),
        ((1, 64, 64, 1), "f4", "image"),
        ((64, 64, 3), "u1", "image"),
        ((7, 64, 64, 4), "u1", "movie"),
        ((16, 16, 64, 64), "u2", "4D-STEM"),
        ((2, 3, 4, 64, 64), "u2", "volume"),
        ((64, 64), "c8", "complex"),
        ((64, 64), "O", "object"),
        ((64, 64), "U5", "object"),
        ((1, 4096), "f4", "table"),
        ((4096,), "f4", "table"),
        ((606, 3), "f4", "table"),
        ((4, 4), "f4", "tiny"),
        ((0, 64), "f4", "empty"),
        ((), "f4", "table"),
    ],
)
def test_an_array_is_sorted_by_shape_and_type(shape, dtype, kind):
    assert sort_out(shape, np.dtype(dtype))[0] == kind


def test_grey_is_luma_and_ignores_alpha(rng):
    rgba = rng.integers(0, 255, (9, 10, 4)).astype(np.uint8)
    expected = 0.299 * rgba[..., 0] + 0.587 * rgba[..., 1] + 0.114 * rgba[..., 2]
    np.testing.assert_allclose(to_grey(rgba), expected, rtol=1e-5)
    fields = np.zeros((9, 10), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    fields["G"] = 100
    np.testing.assert_allclose(to_grey(fields), 58.7, rtol=1e-5)
    assert to_grey(np.eye(9, dtype=bool)).dtype == np.uint8


def test_a_source_walks_frames_lazily():
    class Counting:
        shape, dtype = (4, 16, 16), np.dtype("f4")
        asked: list[object] = []  # noqa: RUF012

        def __getitem__(self, index):
            self.asked.append(index)
            return np.full((16, 16), index[0], "f4")

    array = Counting()
    source = from_array("a", array, where="f")
    assert array.asked == []
    assert source.frames is not None
    assert source.frames[2][0, 0] == 2
    assert array.asked == [(2,)]


def test_any_failure_of_a_frame_is_one_line():
    def fail(i):
        raise RuntimeError("zlib:\n data error")

    with pytest.raises(
        InputError, match=r"^f\.tif: frame 1 cannot be read \(RuntimeError: zlib: data error\)"
    ):
        LazyFrames(3, fail, "f.tif")[1]
    with pytest.raises(IndexError):
        LazyFrames(3, fail, "f.tif")[3]


def test_warnings_and_log_lines_are_collected_and_filters_restored():
    said: list[str] = []
    logger = logging.getLogger("some_reader")
    before = list(warnings.filters), logger.propagate, list(logger.handlers)
    with collected(said, "some_reader"):
        warnings.warn("odd tag", UserWarning, stacklevel=1)
        logger.warning("odd %s", "axis")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert sorted(said) == ["odd axis", "odd tag"]
    assert (list(warnings.filters), logger.propagate, list(logger.handlers)) == before


def test_modality_from_names():
    assert modality_of("06-HAADF") == "stem"
    assert modality_of("Ceta") == "hrtem"
    assert modality_of("SI Survey Image (active)") is None
