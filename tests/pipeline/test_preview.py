"""Small grey frames for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from atomreel.pipeline.preview import LONGEST, factor, shrink


@pytest.mark.parametrize("shape", [(640, 640), (641, 100), (2000, 1999), (16, 16)])
def test_a_preview_fits_and_keeps_means(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    f = factor(shape)
    small = shrink(data)
    assert max(small.shape) <= LONGEST and small.shape == (shape[0] // f, shape[1] // f)
    assert small[0, 0] == pytest.approx(data[:f, :f].mean(), rel=1e-5)


def test_the_preview_of_a_run(finished: Path) -> None:
    group = zarr.open_group(finished / "preview.zarr", mode="r")
    assert group["frames"].shape == (3, 72, 72) and group["frames"].dtype == np.uint8
    assert group.attrs["index"] == [0, 2, 4] and group.attrs["scale"] == 1.0
    assert group["frames"][:].min() == 0 and group["frames"][:].max() == 255
    assert group["residual"].shape == (72, 72) and group["residual"].dtype == np.float32
    assert abs(float(group["residual"][:].mean())) < 2
