import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from atomreel.core.errors import AtomreelError, InputError
from atomreel.read.movie import describe, list_datasets, open_movie, readers, suffix_table


@pytest.fixture
def path(tmp_path, rng):
    tifffile.imwrite(tmp_path / "a.tif", rng.random((3, 20, 24)).astype(np.float32), photometric="minisblack")
    return tmp_path / "a.tif"


def test_what_the_user_gives_wins_and_is_recorded(path, tmp_path):
    (tmp_path / "times.csv").write_text("frame,time_s\n0,0\n1,2\n2,7\n")
    movie = open_movie(path, pixel=0.2, times=tmp_path / "times.csv", exposure=0.5, dose=300, voltage=80)
    assert movie.pixel == (0.2, 0.2)
    np.testing.assert_array_equal(movie.times, [0, 2, 7])
    assert (movie.exposure, movie.dose, movie.voltage) == (0.5, 300.0, 80.0)
    assert movie.sources["pixel"] == "given by the user"
    assert movie.sources["times"] == "given by the user (times.csv)"


@pytest.mark.parametrize(
    "given",
    [{"pixel": 0}, {"pixel": (0.1, -1)}, {"pixel": float("nan")}, {"dose": -1}, {"voltage": float("inf")}],
)
def test_impossible_numbers_are_refused(path, given):
    with pytest.raises(InputError, match="positive"):
        open_movie(path, **given)


def test_describe_is_plain_and_complete(path):
    about = describe(open_movie(path, pixel=(0.2, 0.1), times=[0, 1, 3]))
    assert json.loads(json.dumps(about)) == about
    assert about["shape"] == [20, 24]
    assert about["field_A"] == pytest.approx([4.0, 2.4])
    assert (about["duration_s"], about["frame_time_s"], about["dtype"]) == (3.0, 1.5, "float32")


def test_a_dataset_is_named_or_numbered(path):
    assert list_datasets(path)[0].kind == "movie"
    assert len(open_movie(path, dataset=0)) == len(open_movie(path, dataset="0")) == 3
    with pytest.raises(InputError, match=r"no dataset 'x'; it holds 0: 'a' 3×20×24 movie"):
        open_movie(path, dataset="x")


def test_a_wrong_ending_is_refused_and_an_unknown_one_overruled(tmp_path):
    Image.new("L", (30, 20), 7).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"named \.tif but its content is PNG; rename it"):
        open_movie(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.picture")
    movie = open_movie(tmp_path / "a.picture")
    assert movie.shape == (20, 30)
    assert "content is PNG" in movie.notices[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.tif", b"", "empty"),
        ("text.tif", b"frame,x,y\n0,1,2\n", "text, not an image; a .tif file should be TIFF"),
        ("notes.txt", b"hello", "text, not an image; known formats"),
        ("noise.dm3", bytes(range(256)) * 9, "no known image format; a .dm3 file should be DM3"),
        ("short.npy", b"\x93NUMPY\x01", "cannot be read as NumPy"),
        ("short.h5", b"\x89HDF\r\n\x1a\n", "cannot be read as HDF5"),
        ("short.png", b"\x89PNG\r\n\x1a\n", "cannot be read as PNG"),
        ("short.ser", b"II\x97\x01", "cannot be read as TIA"),
        ("short.npz", b"PK\x03\x04", "cannot be read as NumPy archive"),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_absent_and_forbidden_files(tmp_path, path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        open_movie(tmp_path / "absent.tif")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for call in ("open", "exists"):
        with monkeypatch.context() as patch:
            patch.setattr(type(path), call, forbidden)
            with pytest.raises(InputError, match=r"cannot be opened \(Permission denied\)"):
                open_movie(path)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((20, 20), np.nan), "no finite pixel"),
        (np.full((5, 20, 20), np.inf), "no finite pixel"),
        (np.zeros((1, 500)), "a table or a line"),
        (np.zeros((20, 20), complex), "complex"),
        (np.zeros((4, 4)), "too small"),
        (np.zeros((0, 20)), "empty"),
        (np.array(["a"]), "Python objects or text"),
        (np.zeros((3, 3, 12, 12)), "4D-STEM"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, says):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=says):
        open_movie(tmp_path / "a.npy")


def test_poor_but_usable_images_open(tmp_path):
    stack = np.full((4, 20, 20), np.nan)
    stack[1, 3, 3] = 1.0
    np.save(tmp_path / "mostly.npy", stack)
    assert len(open_movie(tmp_path / "mostly.npy")) == 4
    np.save(tmp_path / "constant.npy", np.ones((20, 20)))
    assert open_movie(tmp_path / "constant.npy").shape == (20, 20)


def test_the_table_of_endings_names_every_reader():
    names = {name for found in suffix_table().values() for name in found}
    assert names == {reader.name for reader in readers()}
    wanted = "dm3 dm4 emd ser mrc tvips hspy zspy tif tiff png jpg jpeg gif npy npz zarr sxm ibw dat"
    assert {f".{ending}" for ending in wanted.split()} <= set(suffix_table())


REFUSED = {
    "-coord.npy": "never unpickled",
    "fei_example_tem_stack.emd": "too small",
    "Aux2(V) 3_Forward_Down_Trace.ibw": "spectrum image",
    ".sxm": "say which",
    ".dat": "say which",
    ".csv": "text, not an image",
    ".cif": "text, not an image",
    ".txt": "text, not an image",
    ".md": "text, not an image",
}


@pytest.mark.data
def test_every_real_file_opens_or_is_refused_with_its_reason(real):
    opened = 0
    for path in sorted(p for p in real.rglob("*") if p.is_file()):
        reason = next((r for ending, r in REFUSED.items() if path.name.endswith(ending)), None)
        if path.suffix == ".ibw":
            pytest.importorskip("igor2")
        if reason:
            with pytest.raises(InputError, match=reason):
                open_movie(path)
            continue
        try:
            movie = open_movie(path)
        except AtomreelError as error:
            pytest.fail(f"{path.relative_to(real)}: {error}")
        assert np.isfinite(movie[len(movie) - 1].data).any()
        opened += 1
    assert opened >= 50


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "frames", "pixel", "voltage", "modality"),
    [
        ("si-graphene-walk/movie.tif", 48, 20 / 256, None, None),
        ("si-graphene-si2c5/0.hdf5", 1, 20 / 256, 60, "stem"),
        ("mos2-se-dm3/example_Se_implanted_MoS2.dm3", 1, 0.126953, 60, "stem"),
        ("perovskite-abf-stack/stem_abf_data_imagestack.hspy", 5, 0.0920240, None, "stem"),
        ("wsse-conversion/partial-16.tif", 1, 0.15625, None, None),
        ("stm-molecules/demo_movie.gif", 85, None, None, None),
    ],
)
def test_calibration_of_real_files(real, name, frames, pixel, voltage, modality):
    movie = open_movie(real / name)
    assert len(movie) == frames
    assert movie.pixel == (None if pixel is None else pytest.approx((pixel, pixel), rel=1e-4))
    assert (movie.voltage, movie.modality) == (voltage, modality)


def test_a_folder_of_images_is_not_a_movie(path):
    with pytest.raises(InputError, match="folder without a Zarr"):
        open_movie(path.parent)
