import numpy as np
import pytest
import zarr

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie


@pytest.fixture
def stack(rng):
    return rng.integers(0, 1000, (5, 20, 24)).astype(np.uint16)


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_folder(tmp_path, stack, version):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, data=stack, chunks=(1, 20, 24), zarr_format=version)
    array.attrs.update(
        {"pixel_A": [0.2, 0.1], "times_s": [0, 1, 2, 5, 6], "voltage_kV": 60, "modality": "stem"}
    )
    movie = open_movie(path)
    np.testing.assert_array_equal(movie[3].data, stack[3])
    assert (movie.pixel, movie.voltage, movie.modality) == ((0.2, 0.1), 60.0, "stem")
    np.testing.assert_array_equal(movie.times, [0, 1, 2, 5, 6])
    assert movie.sources["pixel"] == "Zarr attribute pixel_A"


def test_a_group_of_several_asks_and_one_is_opened(tmp_path, stack):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("frames", data=stack)
    group.create_array("index", data=np.arange(5))
    np.testing.assert_array_equal(open_movie(tmp_path / "g.zarr")[1].data, stack[1])
    group.create_group("more").create_array("mean", data=stack.mean(0))
    with pytest.raises(InputError, match=r"'frames'.*'more/mean'"):
        open_movie(tmp_path / "g.zarr")
    assert open_movie(tmp_path / "g.zarr", dataset="more/mean").shape == (20, 24)


def test_a_multiscale_is_its_finest_level_with_its_scale(tmp_path, stack):
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=stack)
    group.create_array("1", data=stack[:, ::2, ::2])
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    levels = [
        {
            "path": str(k),
            "coordinateTransformations": [{"type": "scale", "scale": [1, 0.03 * 2**k, 0.02 * 2**k]}],
        }
        for k in (0, 1)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    movie = open_movie(tmp_path / "m.zarr")
    assert movie.pixel == pytest.approx((0.3, 0.2))
    assert len(list_datasets(tmp_path / "m.zarr")) == 1


def test_a_zip(tmp_path, stack):
    store = zarr.storage.ZipStore(tmp_path / "a.zip", mode="w")
    zarr.create_array(store, data=stack)
    store.close()
    np.testing.assert_array_equal(open_movie(tmp_path / "a.zip")[2].data, stack[2])


def test_only_the_chunks_of_a_frame_are_read(tmp_path, stack):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=stack, chunks=(1, 20, 24), zarr_format=3)
    for i in (1, 3):
        (path / "c" / str(i) / "0" / "0").unlink()  # zarr reads missing chunks as zero
    movie = open_movie(path)
    np.testing.assert_array_equal(movie[2].data, stack[2])
    assert movie[1].data.sum() == 0


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="folder without a Zarr"):
        open_movie(tmp_path)
    (tmp_path / "zarr.json").write_text("{not json")
    with pytest.raises(InputError, match="cannot be read as Zarr"):
        open_movie(tmp_path)


def test_a_zspy_stack(tmp_path, stack):
    """Written as HyperSpy does (RosettaSciIO's own writer needs zarr 2, its reader does not)."""
    root = zarr.open_group(tmp_path / "a.zspy", mode="w", zarr_format=2)
    root.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    group = root.create_group("Experiments").create_group("stack")
    group.create_array("data", data=stack, chunks=(1, 20, 24))
    axes = (("t", "s", 0.5, True), ("y", "nm", 0.02, False), ("x", "nm", 0.02, False))
    for i, (name, units, scale, navigate) in enumerate(axes):
        axis = {"_type": "UniformDataAxis", "name": name, "units": units, "scale": scale, "offset": 0.0}
        group.create_group(f"axis-{i}").attrs.update(
            {**axis, "size": stack.shape[i], "navigate": navigate, "is_binned": False}
        )
    about = group.create_group("metadata")
    about.create_group("General").attrs["title"] = "HAADF stack"
    about.create_group("Signal").attrs["signal_type"] = ""
    for name in ("original_metadata", "learning_results"):
        group.create_group(name)
    movie = open_movie(tmp_path / "a.zspy")
    np.testing.assert_array_equal(movie[3].data, stack[3])
    assert movie.pixel == pytest.approx((0.2, 0.2))
    np.testing.assert_allclose(movie.times, [0, 0.5, 1, 1.5, 2])
    assert movie.modality == "stem"
