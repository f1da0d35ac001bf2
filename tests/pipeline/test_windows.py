"""Size and step of windows in px, in Å, and of the lattice."""

from __future__ import annotations

import pytest

from atomreel.core.errors import InputError, RecipeError
from atomreel.core.recipe import Symmetry, load_recipe
from atomreel.pipeline.windows import asked_side, choose_windows

FRAME = (400, 500)


def chosen(*told: str) -> Symmetry:
    return load_recipe(overrides=[f"symmetry.{text}" for text in told]).symmetry


def test_by_default_windows_follow_the_lattice_and_reach_both_borders() -> None:
    windows = choose_windows(chosen(), shape=FRAME, pixel=None, lattice_px=12.0)
    assert windows.side == 120 and windows.flush and windows.origin == (59.5, 59.5)
    for length, step in zip(FRAME, windows.step, strict=True):
        count = (length - 120) / step
        assert count == pytest.approx(round(count)) and step <= 30
    small = [
        choose_windows(chosen(), shape=(n, 2 * n), pixel=None, lattice_px=12.0).side
        for n in (290, 200, 150, 60)
    ]
    assert small == [116, 80, 72, 60]  # 0.4 of the frame, six vectors, and never more than there is
    coarser = choose_windows(chosen(), shape=(4000, 4000), pixel=None, lattice_px=12.0)
    assert (4000 - 120) / coarser.step[0] <= 24 + 1e-9  # a map of bounded size, unless a step is asked for


def test_pixels_and_angstrom() -> None:
    pixel = (0.2, 0.1)
    told = choose_windows(chosen("window=64", "step=7.5"), shape=FRAME, pixel=None, lattice_px=12.0)
    assert (told.side, told.step, told.flush) == (64, (7.5, 7.5), False)
    metric = choose_windows(chosen("window_A=10", "step_A=2"), shape=FRAME, pixel=pixel, lattice_px=12.0)
    assert metric.side == 71 and metric.step == pytest.approx((10, 20))  # 10 Å / √(0.1 · 0.2) Å
    mixed = choose_windows(chosen("window=lattice", "step_A=2"), shape=FRAME, pixel=pixel, lattice_px=12.0)
    assert mixed.side == 120 and mixed.step == pytest.approx((10, 20))
    assert choose_windows(chosen("window=900"), shape=FRAME, pixel=None, lattice_px=12.0).side == 400


def test_the_whole_image_takes_the_window_too() -> None:
    assert asked_side(chosen(), None) is None
    assert asked_side(chosen("window=64"), None) == 64
    assert asked_side(chosen("window_A=6.4"), (0.1, 0.1)) == 64


def test_angstrom_need_a_pixel_size_and_one_unit_is_enough() -> None:
    for told in ("window_A=30", "step_A=3"):
        with pytest.raises(InputError, match=r"pixel size is not known.*input\.pixel_A"):
            choose_windows(chosen(told), shape=FRAME, pixel=None, lattice_px=12.0)
    for pair in (("window=64", "window_A=30"), ("step=8", "step_A=3")):
        with pytest.raises(RecipeError, match="give one of them"):
            choose_windows(chosen(*pair), shape=FRAME, pixel=(0.1, 0.1), lattice_px=12.0)
    for told in ("window_A=0.1", "step_A=0.05"):
        with pytest.raises(InputError, match="px here"):
            choose_windows(chosen(told), shape=FRAME, pixel=(0.1, 0.1), lattice_px=12.0)
    for nonsense in ("window=1", "step=0.5", "window=wide", "window_A=-3"):
        with pytest.raises(RecipeError, match="symmetry"):
            chosen(nonsense)


def test_windows_of_too_few_cells_are_doubted() -> None:
    few = choose_windows(chosen("window=40"), shape=FRAME, pixel=None, lattice_px=12.0)
    assert len(few.warnings) == 1 and "3.3 lattice vectors" in few.warnings[0]
    assert not choose_windows(chosen("window=50"), shape=FRAME, pixel=None, lattice_px=12.0).warnings
