import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rsciio import blockfile

from atomreel.core.errors import InputError
from atomreel.read.movie import list_datasets, open_movie
from atomreel.read.rosetta import source


def signal(data, *, units="nm", scale=0.02, signal_axes=2, title="HAADF", time=None, **tem):
    axes = []
    for i, n in enumerate(data.shape):
        nav = i < data.ndim - signal_axes
        axes.append(
            {
                "_type": "UniformDataAxis",
                "name": "tyx"[i - data.ndim] if data.ndim <= 3 else f"a{i}",
                "units": units if not nav else ("s" if time else ""),
                "scale": scale if not nav else (time or 1.0),
                "offset": 0.0,
                "size": n,
                "navigate": nav,
                "is_binned": False,
                "index_in_array": i,
            }
        )
    metadata = {
        "General": {"title": title},
        "Signal": {"signal_type": "", "signal_dimension": signal_axes},
        "Acquisition_instrument": {"TEM": tem},
    }
    return {
        "data": data,
        "axes": axes,
        "metadata": metadata,
        "original_metadata": {},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
    }


def write(path, data, plugin, **about):
    import importlib

    importlib.import_module(f"rsciio.{plugin}").file_writer(str(path), signal(data, **about))


@pytest.mark.parametrize(("plugin", "ending"), [("hspy", "hspy"), ("hspy", "hdf5"), ("emd", "emd")])
def test_written_stacks_come_back(tmp_path, rng, plugin, ending):
    data = rng.integers(0, 1000, (4, 20, 24)).astype(np.uint16)
    path = tmp_path / f"a.{ending}"
    write(path, data, plugin, time=0.5)
    movie = open_movie(path)
    assert (len(movie), movie.shape) == (4, (20, 24))
    np.testing.assert_array_equal(movie[2].data, data[2])
    assert movie.pixel == pytest.approx((0.2, 0.2))
    if plugin != "emd":
        np.testing.assert_allclose(movie.times, 0.5 * np.arange(4))


def test_metadata_and_sources(tmp_path, rng):
    path = tmp_path / "a.hspy"
    write(
        path,
        rng.random((16, 16)),
        "hspy",
        beam_energy=80.0,
        dwell_time=1e-5,
        beam_current=0.05,
        acquisition_mode="STEM",
    )
    movie = open_movie(path)
    assert (movie.voltage, movie.modality) == (80.0, "stem")
    assert movie.exposure == pytest.approx(256e-5)
    assert movie.dose == pytest.approx(0.05e-9 * 1e-5 / 1.602176634e-19 / 0.04, rel=1e-6)
    assert set(movie.sources) == {"pixel", "voltage", "modality", "exposure", "dose"}
    override = open_movie(path, pixel=(0.3, 0.31), voltage=60, dose=5, exposure=1)
    assert (override.pixel, override.voltage, override.dose, override.exposure) == ((0.3, 0.31), 60, 5, 1)
    assert {override.sources[k] for k in ("pixel", "voltage", "dose", "exposure")} == {"given by the user"}


@pytest.mark.parametrize(
    ("shape", "axes", "units", "says"),
    [
        ((50,), 1, "eV", "a spectrum"),
        ((9, 9, 50), 1, "eV", "a spectrum image"),
        ((9, 9, 16, 16), 2, "1/nm", "4D-STEM"),
        ((64, 64), 2, "1/nm", "diffraction"),
        ((64, 64), 2, "mrad", "diffraction"),
    ],
)
def test_what_is_no_image_is_refused_by_its_axes(tmp_path, rng, shape, axes, units, says):
    write(tmp_path / "a.hspy", rng.random(shape), "hspy", signal_axes=axes, units=units)
    with pytest.raises(InputError, match=says):
        open_movie(tmp_path / "a.hspy")


def test_a_scale_without_unit_is_not_guessed(tmp_path, rng):
    write(tmp_path / "a.hspy", rng.random((16, 16)), "hspy", units="", scale=0.0093)
    movie = open_movie(tmp_path / "a.hspy")
    assert movie.pixel is None
    assert any("without a unit" in notice for notice in movie.notices)


def test_a_survey_is_passed_over_when_there_is_an_image(tmp_path, rng):
    from pathlib import Path

    both = [signal(rng.random((16, 16)), title=title) for title in ("SI Survey Image", "HAADF")]
    found = [source(one, Path("a.dm3"), "DM3") for one in both]
    assert [s.minor for s in found] == [True, False]


def mrc(path, data, *, mode, lengths=None, stamp=b"MAP ", keep=None):
    nz, ny, nx = data.shape
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, nz)
    struct.pack_into("<3f", head, 40, *(lengths or (nx * 2.0, ny * 2.0, nz)))
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    head[208:212] = stamp
    head[212:216] = b"DA\0\0"
    path.write_bytes((bytes(head) + data.tobytes())[:keep])


@pytest.mark.parametrize(("dtype", "mode"), [("<i2", 1), ("<f4", 2), ("<u2", 6)])
def test_mrc_stacks(tmp_path, rng, dtype, mode):
    data = rng.integers(0, 1000, (3, 20, 24)).astype(dtype)
    mrc(tmp_path / "a.mrc", data, mode=mode)
    movie = open_movie(tmp_path / "a.mrc")
    np.testing.assert_array_equal(movie[1].data, data[1])
    assert movie.pixel == pytest.approx((2.0, 2.0))


def test_mrc_without_real_pixel_size_says_so(tmp_path, rng):
    data = rng.integers(0, 1000, (1, 20, 24)).astype("<i2")
    mrc(tmp_path / "a.mrc", data, mode=1, lengths=(24.0, 20.0, 1.0))
    movie = open_movie(tmp_path / "a.mrc")
    assert movie.pixel is None
    assert any("exactly 1 Å" in notice for notice in movie.notices)


def test_a_cut_mrc_keeps_its_whole_frames(tmp_path, rng):
    data = rng.integers(0, 1000, (4, 20, 24)).astype("<i2")
    mrc(tmp_path / "a.mrc", data, mode=1, keep=-100)
    movie = open_movie(tmp_path / "a.mrc")
    assert len(movie) == 3
    np.testing.assert_array_equal(movie[2].data, data[2])
    assert movie.pixel == pytest.approx((2.0, 2.0))
    assert any("cut off: 3 of 4" in notice for notice in movie.notices)


def test_a_long_mrc_is_not_read(tmp_path):
    """2 GB on paper (sparse): one frame costs one frame."""
    path = tmp_path / "big.mrc"
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, 1024, 1024, 1000, 6, 0, 0, 0, 1024, 1024, 1000)
    struct.pack_into("<3f", head, 40, 2048.0, 2048.0, 1000.0)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    head[208:216] = b"MAP DA\0\0"
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(1024 + 1000 * 2 * 1024**2)
    open_movie(path)  # imports done
    tracemalloc.start()
    frame = open_movie(path).frames[777]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.shape == (1024, 1024)
    assert peak < 40e6


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 3000), flip=st.integers(0, 1100), value=st.integers(0, 255))
def test_a_damaged_mrc_gives_a_movie_or_an_input_error(tmp_path_factory, at, flip, value):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "damaged.mrc"
    mrc(path, np.ones((3, 20, 24), "<i2"), mode=1)
    raw = bytearray(path.read_bytes()[:at])
    if flip < len(raw):
        raw[flip] = value
    path.write_bytes(bytes(raw))
    usable(path)


def usable(path):
    try:
        movie = open_movie(path)
        for i in range(min(len(movie), 5)):
            assert movie[i].shape == movie.shape
    except InputError as error:
        assert "\n" not in str(error)


def test_ser_series(tmp_path, rng):
    """A TIA series of two 2-D images, written byte by byte (header version 0x0210)."""
    frames = rng.integers(0, 1000, (2, 20, 24)).astype("<u2")
    dimension = struct.pack("<iddii4si1s", 2, 0.0, 0.5, 0, 4, b"Time", 1, b"s")
    head = struct.pack("<hhhiiiiii", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 2, 2, 30 + len(dimension), 1)
    start = 30 + len(dimension) + 2 * 4 * 2
    body, data_at, tag_at = b"", [], []
    for k, frame in enumerate(frames):
        data_at.append(start + len(body))
        body += struct.pack("<ddiddi", 0, 2e-11, 0, 0, 2e-11, 0)
        body += struct.pack("<hii", 2, 24, 20) + frame.tobytes()
        tag_at.append(start + len(body))
        body += struct.pack("<HHI", 0x4152, 0, 1_000_000 + k)
    table = struct.pack("<4i", *data_at, *tag_at)
    (tmp_path / "a_1.ser").write_bytes(head + dimension + table + body)
    movie = open_movie(tmp_path / "a_1.ser")
    assert len(movie) == 2
    np.testing.assert_array_equal(movie[1].data, frames[1][::-1])  # TIA stores the lowest line first
    assert movie.pixel == pytest.approx((0.2, 0.2))


def test_tvips(tmp_path, rng):
    data = rng.integers(0, 1000, (3, 20, 24)).astype(np.uint16)
    path = tmp_path / "a_000.tvips"
    write(path, data, "tvips", time=0.5)
    movie = open_movie(path)
    assert len(movie) == 3
    for i in range(3):
        np.testing.assert_array_equal(movie[i].data, data[i])
    assert movie.pixel is None  # the format keeps whole nm only


def test_a_blockfile_is_known_and_refused_for_what_it_holds(tmp_path, rng):
    """It holds a diffraction pattern per pixel, whoever wrote it."""
    scan = signal(rng.integers(0, 99, (4, 5, 16, 16)).astype(np.uint8))
    for axis in scan["axes"]:
        axis |= {"units": "nm", "scale": 1.0} if axis["navigate"] else {"units": "cm", "scale": 0.1}
    blockfile.file_writer(str(tmp_path / "a.blo"), scan)
    with pytest.raises(InputError, match="4D-STEM"):
        open_movie(tmp_path / "a.blo")
    assert list_datasets(tmp_path / "a.blo")[0].shape == (4, 5, 16, 16)


def dm4_tag(name, value):
    """One tag of a DM4 file: big-endian lengths of 8 bytes, little-endian contents."""
    if isinstance(value, dict | list):
        kind, body = 20, dm4_group(value)
    else:
        info, raw = {
            str: lambda: ((20, 4, len(value)), value.encode("utf-16-le")),
            int: lambda: ((5,), struct.pack("<I", value)),
            float: lambda: ((6,), struct.pack("<f", value)),
            np.ndarray: lambda: ((20, 4, value.size), value.astype("<u2").tobytes()),
        }[type(value)]()
        kind, body = 21, b"%%%%" + struct.pack(f">{len(info) + 1}Q", len(info), *info) + raw
    return struct.pack(">BH", kind, len(name)) + name.encode() + struct.pack(">Q", len(body)) + body


def dm4_group(tree):
    items = tree.items() if isinstance(tree, dict) else [("", value) for value in tree]
    return struct.pack(">BBQ", 1, 0, len(items)) + b"".join(dm4_tag(key, value) for key, value in items)


def dm4(path, data):
    scales = [(0.02, "nm"), (0.03, "nm"), (0.5, "s")][: data.ndim]  # x first
    axes = [{"Origin": 0.0, "Scale": scale, "Units": unit} for scale, unit in scales]
    image = {
        "ImageData": {
            "Calibrations": {"Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""}, "Dimension": axes},
            "Data": data.ravel(),
            "DataType": 10,
            "Dimensions": list(data.shape[::-1]),
            "PixelDepth": 2,
        },
        "ImageTags": {"Microscope Info": {"Voltage": 80000.0}},
        "Name": "HAADF",
    }
    body = dm4_group({"ImageList": [image]})
    path.write_bytes(struct.pack(">IQI", 4, len(body), 1) + body + bytes(8))


def test_dm4_stacks(tmp_path, rng):
    """Written byte by byte: values, order, both scales, times and voltage."""
    data = rng.integers(0, 1000, (3, 20, 24)).astype(np.uint16)
    dm4(tmp_path / "a.dm4", data)
    movie = open_movie(tmp_path / "a.dm4")
    assert (len(movie), movie.shape) == (3, (20, 24))
    for i in range(3):
        np.testing.assert_array_equal(movie[i].data, data[i])
    assert movie.pixel == pytest.approx((0.3, 0.2))
    np.testing.assert_allclose(movie.times, [0, 0.5, 1])
    assert (movie.voltage, movie.modality) == (80.0, "stem")
    dm4(tmp_path / "b.dm4", data[0])
    np.testing.assert_array_equal(open_movie(tmp_path / "b.dm4")[0].data, data[0])


@pytest.mark.parametrize("ending", ["dm4", "hspy", "emd"])
def test_a_frame_of_a_long_stack_costs_one_frame(tmp_path, rng, ending):
    data = np.broadcast_to(rng.integers(0, 1000, (512, 512)).astype(np.uint16), (60, 512, 512)).copy()
    data[:, 0, 0] = np.arange(60)
    path = tmp_path / f"a_000.{ending}"
    if ending == "dm4":
        dm4(path, data)
    else:
        write(path, data, ending, time=0.5)
    assert open_movie(path)[41].data[0, 0] == 41  # imports done
    tracemalloc.start()
    frame = open_movie(path).frames[41]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame[0, 0] == 41
    assert peak < data.nbytes / 3


@pytest.mark.data
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.floats(0, 1))
def test_a_cut_dm3_gives_a_movie_or_an_input_error(real, tmp_path_factory, at):
    raw = (real / "native-formats" / "em" / "multi_signal.dm3").read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.dm3"
    path.write_bytes(raw[: int(at * len(raw))])
    usable(path)


@pytest.mark.data
def test_real_dm3(real):
    movie = open_movie(real / "native-formats" / "em" / "multi_signal.dm3")
    assert movie.pixel == pytest.approx((0.177516, 0.177516), rel=1e-5)
    assert any("'Plot'" in notice for notice in movie.notices)
    assert [d.kind for d in list_datasets(real / "native-formats" / "em" / "multi_signal.dm3")] == [
        "image",
        "spectrum",
    ]
