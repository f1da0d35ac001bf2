import numpy as np
import pytest
from PIL import Image

from atomreel.core.errors import InputError
from atomreel.read.movie import open_movie


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png_keeps_its_values(tmp_path, rng, dtype):
    image = rng.integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    Image.fromarray(image).save(tmp_path / "a.png")
    movie = open_movie(tmp_path / "a.png")
    np.testing.assert_array_equal(movie[0].data, image)
    assert movie.notices == ()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_png_becomes_grey(tmp_path, mode):
    picture = Image.new("RGB", (30, 20), (200, 100, 50))
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.png")
    movie = open_movie(tmp_path / "a.png")
    np.testing.assert_allclose(movie[0].data, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, atol=1)
    assert any("grey" in notice for notice in movie.notices)


def test_a_gif_is_a_movie_in_any_order(tmp_path):
    frames = [Image.new("L", (30, 20), 40 * i) for i in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    movie = open_movie(tmp_path / "a.gif")
    assert len(movie) == 5
    assert movie.times is None
    assert any("times in a GIF" in notice for notice in movie.notices)
    for i in (3, 1, 4, 0):
        np.testing.assert_allclose(movie[i].data, 40 * i, atol=1)


def test_jpeg_says_that_it_is_one(tmp_path):
    Image.new("L", (30, 20), 77).save(tmp_path / "a.jpg")
    movie = open_movie(tmp_path / "a.jpg")
    assert any("JPEG" in notice for notice in movie.notices)
    np.testing.assert_allclose(movie[0].data, 77, atol=2)


def test_pillow_limit_is_lifted_only_while_opening(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_movie(tmp_path / "a.png").shape == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp"])
@pytest.mark.parametrize("keep", [12, 0.5])
def test_a_cut_picture_is_refused_in_one_line(tmp_path, rng, ending, keep):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(rng.integers(0, 255, (64, 64)).astype(np.uint8)).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: keep if keep > 1 else int(keep * len(raw))])
    with pytest.raises(InputError) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)
