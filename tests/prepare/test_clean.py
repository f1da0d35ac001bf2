import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw

from atomreel.core.errors import InputError, RecipeError
from atomreel.prepare.clean import clean_frame, find_data_bar, parse_frames, parse_roi, read_mask


def columns(rng, *, sigma=1.5, n=128, dose=50.0):
    y, x = np.mgrid[:n, :n]
    image = np.full((n, n), 0.1)
    for cy, cx in rng.uniform(4, n - 4, (60, 2)):
        image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return rng.poisson(image * dose).astype(np.float32)


def test_missing_pixels_stay_inside_the_measured_range(rng):
    image = columns(rng)
    holes = rng.random(image.shape) < 0.05
    holes[:, :3] = True
    broken = np.where(holes, rng.choice([np.nan, np.inf, -np.inf], image.shape), image)
    mended, notices = clean_frame(broken, stuck=False)
    assert mended.dtype == np.float32
    assert np.array_equal(mended[~holes], image[~holes])
    assert image[~holes].min() <= mended.min() and mended.max() <= image[~holes].max()
    assert f"{holes.sum()} pixels" in notices[0]
    assert np.isnan(broken).any()  # the input is as it was


@pytest.mark.parametrize("dose", [0.5, 5.0, 500.0])
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_columns_and_counts_are_no_stuck_pixels(rng, sigma, dose):
    image = columns(rng, sigma=sigma, dose=dose)
    mended, _ = clean_frame(image)
    assert np.array_equal(mended, image)


def test_stuck_pixels_are_found_and_mended(rng):
    image = columns(rng)
    broken = image.copy()
    spots = [(10, 20), (64, 64), (0, 5), (127, 100)]
    for y, x in spots:
        broken[y, x] = 5000
    mended, notices = clean_frame(broken)
    changed = np.argwhere(mended != broken)
    assert sorted(map(tuple, changed.tolist())) == sorted(spots)
    assert mended.max() <= image.max()
    assert any("4 stuck" in notice for notice in notices)


def test_constant_and_saturated_frames_are_reported(rng):
    assert "constant" in clean_frame(np.full((20, 20), 7))[1][0]
    clipped = np.minimum(columns(rng), 40)
    assert any("saturated" in notice for notice in clean_frame(clipped)[1])
    assert not any("saturated" in notice for notice in clean_frame(columns(rng))[1])


@pytest.mark.parametrize(
    "bad",
    [
        np.full((8, 8), np.nan),
        np.ones((4, 4), complex),
        np.ones((4, 4), object),
        np.ones((1, 9)),
        np.ones((3, 3, 3)),
    ],
    ids=["nan", "complex", "object", "line", "volume"],
)
def test_unusable_frames_are_refused(bad):
    with pytest.raises(InputError):
        clean_frame(bad)


@pytest.mark.parametrize(("ground", "ink"), [(0, 255), (255, 0), (40, 230)])
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("jpeg", [False, True])
def test_data_bar_is_found(rng, ground, ink, top, jpeg):
    image = np.clip(columns(rng, n=256, dose=80) + rng.normal(60, 15, (256, 256)), 0, 255).astype(np.uint8)
    bar = Pillow.new("L", (256, 24), ground)
    draw = ImageDraw.Draw(bar)
    draw.text((6, 6), "HV 80 kV  mag 5.1 Mx   2 nm", fill=ink)
    draw.rectangle([190, 8, 240, 13], fill=ink)
    parts = [np.asarray(bar), image]
    full = np.vstack(parts if top else parts[::-1])
    if jpeg:
        full = iio.imread(iio.imwrite("<bytes>", full, extension=".jpg", quality=90), extension=".jpg")
    keep = find_data_bar(full)
    assert keep is not None
    expected = (24, 280) if top else (0, 256)
    assert abs(keep.start - expected[0]) <= 1 and abs(keep.stop - expected[1]) <= 1


def test_vacuum_and_padding_are_kept(rng):
    image = columns(rng, n=256)
    vacuum = image.copy()
    vacuum[200:] = rng.poisson(2, (56, 256))
    padded = image.copy()
    padded[-30:] = 0
    assert find_data_bar(image) is None
    assert find_data_bar(vacuum) is None
    assert find_data_bar(padded) is None


@pytest.mark.data
def test_no_real_image_loses_rows(real):
    pictures = [*real.glob("*/*.jpg"), *real.glob("*/*.png"), *real.glob("*/*.tif")]
    assert pictures
    for path in pictures:
        data = np.asarray(
            tifffile.imread(path, key=0) if path.suffix == ".tif" else iio.imread(path), dtype=float
        )
        if data.ndim == 3:
            data = data.mean(axis=-1)
        assert find_data_bar(data) is None, path.name


def test_roi():
    assert parse_roi("0:10, 5:20", shape=(10, 20)) == (slice(0, 10), slice(5, 20))
    assert parse_roi("4:,:6") == (slice(4, None), slice(None, 6))
    for text in ("1:5", "a:b,1:2", "5:1,0:9", "0:99,0:9", "-3:9,0:9", "0:4:2,0:9"):
        with pytest.raises(RecipeError, match="region"):
            parse_roi(text, shape=(10, 20))


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 5))
def test_frames_round_trip(start, length, step):
    assert parse_frames(f"{start}:{start + length}:{step}") == slice(start, start + length, step)


def test_frames():
    assert list(range(9))[parse_frames("7", count=9)] == [7]
    assert list(range(9))[parse_frames("-2:")] == [7, 8]
    for text in ("x", "1.5:3", "3:1", "20:", "0:9:-1", "1:2:3:4"):
        with pytest.raises(RecipeError, match="frames"):
            parse_frames(text, count=9)


def test_mask(tmp_path):
    mask = np.zeros((6, 5), np.uint8)
    mask[2:4] = 255
    np.save(tmp_path / "m.npy", mask)
    tifffile.imwrite(tmp_path / "m.tif", mask)
    iio.imwrite(tmp_path / "m.png", mask)
    for suffix in ("npy", "tif", "png"):
        assert np.array_equal(read_mask(tmp_path / f"m.{suffix}", shape=(6, 5)), mask > 0)
    with pytest.raises(InputError, match="shape"):
        read_mask(tmp_path / "m.npy", shape=(5, 6))
    np.save(tmp_path / "empty.npy", mask * 0)
    with pytest.raises(InputError, match="every pixel"):
        read_mask(tmp_path / "empty.npy")
    with pytest.raises(InputError, match="cannot be read"):
        read_mask(tmp_path / "absent.png")
