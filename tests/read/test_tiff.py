import gc

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie


@pytest.fixture
def stack(rng):
    return rng.integers(0, 60_000, (5, 20, 24)).astype(np.uint16)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_are_frames(tmp_path, stack, compression, byteorder):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, compression=compression, byteorder=byteorder, photometric="minisblack")
    movie = open_movie(path)
    assert (len(movie), movie.shape) == (5, (20, 24))
    for i in (4, 0, 2):
        np.testing.assert_array_equal(movie[i].data, stack[i].astype(np.float32))
    assert movie.pixel is None


def test_uncompressed_frames_are_memory_mapped(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    frame = open_movie(tmp_path / "a.tif").frames[1]
    assert isinstance(frame, np.memmap) or isinstance(frame.base, np.memmap)


def test_only_the_asked_page_is_decoded(tmp_path, stack, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, compression="zlib", photometric="minisblack")
    movie = open_movie(path)
    asked = []
    real = tifffile.TiffPage.asarray
    monkeypatch.setattr(
        tifffile.TiffPage, "asarray", lambda page, **kw: asked.append(page.index) or real(page, **kw)
    )
    monkeypatch.setattr(
        tifffile.TiffFrame, "asarray", lambda page, **kw: asked.append(page.index) or real(page, **kw)
    )
    movie.frames[3]
    assert asked == [3]


def test_imagej_scale_and_interval(tmp_path, stack):
    path = tmp_path / "ij.tif"
    tifffile.imwrite(
        path,
        stack,
        imagej=True,
        resolution=(1 / 0.02, 1 / 0.04),
        metadata={"unit": "nm", "axes": "TYX", "finterval": 0.25},
    )
    movie = open_movie(path)
    assert movie.pixel == pytest.approx((0.4, 0.2))
    np.testing.assert_allclose(movie.times, 0.25 * np.arange(5))
    assert "ImageJ" in movie.sources["pixel"]
    assert "ImageJ" in movie.sources["times"]


def test_microscope_tags_of_a_maker(tmp_path, stack):
    """FEI/Thermo: an INI text in tag 34682, pixel size in m."""
    about = (
        "[Beam]\nHV=80000\n[Scan]\nPixelWidth=2.5e-11\nPixelHeight=2.5e-11\nDwelltime=1e-05\n"
        "HorFieldsize=6e-10\n[EScan]\nDwell=1e-05\n[Stage]\nStageX=0\nStageY=0\nStageZ=0\nStageR=0\nStageT=0\n"
    )
    tifffile.imwrite(
        tmp_path / "f.tif",
        stack[0],
        photometric="minisblack",
        metadata=None,
        extratags=[(34682, 2, 0, about, True)],
    )
    movie = open_movie(tmp_path / "f.tif")
    assert movie.pixel == pytest.approx((0.25, 0.25))
    assert "maker" in movie.sources["pixel"]


def test_plain_resolution_tags_count_only_when_atomic(tmp_path, stack):
    tifffile.imwrite(tmp_path / "p.tif", stack[0], resolution=(5e8, 4e8), resolutionunit="CENTIMETER")
    assert open_movie(tmp_path / "p.tif").pixel == pytest.approx((0.25, 0.2))
    tifffile.imwrite(tmp_path / "d.tif", stack[0], resolution=(300, 300), resolutionunit="INCH")
    assert open_movie(tmp_path / "d.tif").pixel is None


def test_ome_scale_interval_and_channels(tmp_path, stack):
    path = tmp_path / "a.ome.tif"
    two = np.stack([stack, stack + 1], axis=1)
    tifffile.imwrite(
        path,
        two,
        photometric="minisblack",
        metadata={
            "axes": "TCYX",
            "PhysicalSizeX": 12.0,
            "PhysicalSizeXUnit": "pm",
            "PhysicalSizeY": 13.0,
            "PhysicalSizeYUnit": "pm",
            "TimeIncrement": 40.0,
            "TimeIncrementUnit": "ms",
        },
    )
    assert [d.name for d in list_datasets(path)] == ["channel 1", "channel 2"]
    with pytest.raises(InputError, match=r"'channel 1'.*'channel 2'"):
        open_movie(path)
    movie = open_movie(path, dataset="channel 2")
    assert movie.pixel == pytest.approx((0.13, 0.12))
    np.testing.assert_allclose(movie.times, 0.04 * np.arange(5))
    np.testing.assert_array_equal(movie[3].data, two[3, 1].astype(np.float32))


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_colour_becomes_grey_with_a_notice(tmp_path, rng, photometric):
    rgb = rng.integers(0, 255, (3, 20, 24, 3)).astype(np.uint8)
    if photometric == "minisblack":  # planar
        rgb = np.moveaxis(rgb, -1, 1)
        tifffile.imwrite(tmp_path / "c.tif", rgb[0], photometric="rgb", planarconfig="separate")
        expected = np.tensordot([0.299, 0.587, 0.114], rgb[0], axes=(0, 0))
    else:
        tifffile.imwrite(tmp_path / "c.tif", rgb, photometric="rgb")
        expected = rgb[0] @ [0.299, 0.587, 0.114]
    movie = open_movie(tmp_path / "c.tif")
    assert any("grey" in n for n in movie.notices)
    np.testing.assert_allclose(movie[0].data, expected, rtol=1e-4)


def test_a_pyramid_is_its_full_size(tmp_path, rng):
    image = rng.integers(0, 255, (64, 64)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "p.tif") as tiff:
        tiff.write(image, subifds=1, photometric="minisblack")
        tiff.write(image[::2, ::2], subfiletype=1, photometric="minisblack")
    assert open_movie(tmp_path / "p.tif").shape == (64, 64)


def test_pages_of_two_sizes_ask_which(tmp_path, rng):
    with tifffile.TiffWriter(tmp_path / "two.tif") as tiff:
        tiff.write(np.zeros((32, 32), np.uint8), photometric="minisblack", metadata=None)
        tiff.write(np.zeros((48, 32), np.uint8), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match="holds 2 images"):
        open_movie(tmp_path / "two.tif")
    assert open_movie(tmp_path / "two.tif", dataset=1).shape == (48, 32)


@pytest.mark.parametrize("imagej", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_cut_last_frame_is_dropped_with_a_notice(tmp_path, stack, imagej, compression):
    path = tmp_path / "cut.tif"
    if imagej:
        tifffile.imwrite(path, stack, imagej=True, compression=compression, metadata={"axes": "TYX"})
    else:
        with tifffile.TiffWriter(path) as tiff:
            for frame in stack:
                tiff.write(frame, compression=compression, contiguous=False, photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[4]
        end = last.dataoffsets[-1] + last.databytecounts[-1]
    with path.open("r+b") as stream:
        stream.truncate(end - 10)
    movie = open_movie(path)
    assert len(movie) == 4
    assert any("cut off" in notice for notice in movie.notices)
    np.testing.assert_array_equal(movie[3].data, stack[3].astype(np.float32))


def test_complex_and_cut_images_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((32, 32), np.complex64))
    with pytest.raises(InputError, match="complex"):
        open_movie(tmp_path / "c.tif")
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.float32))
    with path.open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(InputError):
        open_movie(path)


def test_the_file_is_closed_with_its_frames(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib", photometric="minisblack")
    movie = open_movie(tmp_path / "a.tif")
    handle = movie.frames.read.tiff.filehandle
    del movie
    gc.collect()
    assert handle.closed


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiff")
    data = np.random.default_rng(3).integers(0, 255, (4, 24, 24)).astype(np.uint8)
    tifffile.imwrite(folder / "plain.tif", data, photometric="minisblack", metadata=None)
    tifffile.imwrite(folder / "ij.tif", data, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "zip.ome.tif", data, compression="zlib", photometric="minisblack")
    return folder, [(p.name, p.read_bytes()) for p in sorted(folder.iterdir())]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 2), at=st.floats(0, 1), flip=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_file_gives_a_movie_or_an_input_error(samples, which, at, flip, value):
    folder, contents = samples
    name, raw = contents[which]
    raw = bytearray(raw[: int(at * len(raw))])
    if flip < len(raw) and flip > 8:
        raw[flip] = value
    path = folder / f"damaged-{name}"
    path.write_bytes(bytes(raw))
    try:
        movie = open_movie(path)
        for image in movie:
            assert image.shape == movie.shape
    except InputError as error:
        assert "\n" not in str(error)
