from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from atomreel.core.errors import InputError, MissingExtraError
from atomreel.report.movie import BLUE, RED, paint, write_gif, write_mp4

ROWS = pd.DataFrame({"y": [20.0], "x": [30.0], "kind": ["brighter"], "score": [0.95]})


def inked(picture: np.ndarray, ink: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.abs(picture.astype(int) - ink).max(2) < 12)


def test_a_ring_stands_around_the_defect_in_its_colour() -> None:
    image = np.random.default_rng(0).normal(size=(64, 80))
    picture = paint(image, ROWS)
    assert picture.shape == (410, 512, 3)
    ring = inked(picture, RED)
    assert np.allclose(ring.mean(0) / 6.4 - 0.5, [20, 30], atol=0.3)
    assert len(inked(picture, BLUE)) == 0
    assert len(inked(paint(image, ROWS.assign(kind="dimmer")), BLUE)) == len(ring)


def test_activation_glows_where_it_is() -> None:
    glow = np.zeros((64, 64))
    glow[40:50, 10:20] = 1
    change = paint(np.zeros((64, 64)), ROWS[:0], activation=glow).astype(int) - paint(
        np.zeros((64, 64)), ROWS[:0]
    )
    y, x, _ = np.nonzero(change > 30)
    assert 38 < y.mean() / 8 < 51
    assert 8 < x.mean() / 8 < 21
    with pytest.raises(InputError, match="activation"):
        paint(np.zeros((64, 64)), ROWS, activation=glow[:5])
    with pytest.raises(InputError, match="Y, X"):
        paint(np.zeros(64), ROWS)


def test_a_gif_has_its_frames_and_the_same_bytes_again(tmp_path: Path) -> None:
    frames = [np.full((40, 60, 3), 60 * k, np.uint8) for k in range(3)]
    write_gif(tmp_path / "a.gif", frames)
    write_gif(tmp_path / "b.gif", frames)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
        assert film.size == (60, 40)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with pytest.raises(InputError, match="no frame"):
        write_gif(tmp_path / "c.gif", [])


def test_a_film_needs_ffmpeg_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"atomreel\[movie\]"):
        write_mp4(tmp_path / "a.mp4", [np.zeros((40, 60, 3), np.uint8)])


def test_a_film_is_written_where_ffmpeg_is(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    write_mp4(tmp_path / "a.mp4", [np.full((41, 60, 3), 40 * k, np.uint8) for k in range(5)])
    assert b"ftyp" in (tmp_path / "a.mp4").read_bytes()[:16]
