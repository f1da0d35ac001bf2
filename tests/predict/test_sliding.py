"""Where windows stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.core.errors import InputError
from atomreel.predict.sliding import window_grid


def test_windows_of_whole_steps_are_cut_where_they_stand() -> None:
    frame = torch.arange(50 * 70.0).reshape(50, 70)
    grid = window_grid((50, 70), window=32, step=16)
    assert grid.shape == (2, 3) and grid.origin == (15.5, 15.5) and grid.step == (16, 16)
    windows = torch.cat(list(grid.cut(frame, most=4)))
    assert [len(part) for part in grid.cut(frame, most=4)] == [4, 2]
    assert windows.shape == (6, 32, 32)
    assert torch.equal(windows[4], frame[16:48, 16:48])


@pytest.mark.parametrize("step", [1, 2.5, 7.3, 16, (5, 11.25), 500])
def test_any_step_stays_in_the_frame_and_near_its_place(step: float | tuple[float, float]) -> None:
    grid = window_grid((100, 83), window=20, step=step)
    for starts, length, own in zip((grid.tops, grid.lefts), (100, 83), grid.step, strict=True):
        places = own * np.arange(len(starts))
        assert np.abs(np.array(starts) - places).max() <= 0.5 and starts[0] == 0
        assert starts[-1] <= length - 20 < places[-1] + own  # no further window would fit


def test_flush_windows_end_at_both_borders_with_the_least_change_of_step() -> None:
    grid = window_grid((100, 83), window=20, step=16, flush=True)
    assert grid.tops[-1] == 80 and grid.lefts[-1] == 63
    assert grid.step == (16, 63 / 4)  # 80 / 16 = 5 steps as asked, 63 px need 4 of them
    whole = window_grid((20, 64), window=20, step=8, flush=True)
    assert whole.shape == (1, 7) and whole.step[0] == 8


def test_a_window_larger_than_the_frame_is_cut_and_nonsense_refused() -> None:
    assert window_grid((30, 40), window=128, step=16).side == 30
    for window, step in ((1, 4), (16, 0.5), (16, float("nan")), (16, (4, 0))):
        with pytest.raises(InputError, match="window"):
            window_grid((64, 64), window=window, step=step)
