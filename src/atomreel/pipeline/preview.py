"""Small grey frames for the report, so that it can be written again without the input."""

from __future__ import annotations

import numpy as np

from atomreel.core.image import FloatArray
from atomreel.core.run import RunFolder
from atomreel.pipeline.store import read_arrays, write_arrays
from atomreel.pipeline.survey import Plan

LONGEST = 640  # px


def factor(shape: tuple[int, int]) -> int:
    """Pixels of the frame per preview pixel, a whole number so that every preview pixel is a plain mean."""
    return -(-max(shape) // LONGEST)


def shrink(data: FloatArray) -> FloatArray:
    """Block means, (Y, X) → (Y // f, X // f)."""
    f = factor((data.shape[0], data.shape[1]))
    height, width = (n // f for n in data.shape)
    blocks = data[: height * f, : width * f].reshape(height, f, width, f)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def write_preview(plan: Plan, folder: RunFolder) -> None:
    """preview.zarr: frames uint8 (K, Y', X') on one grey scale, the fit's residual of the first of them."""
    size = plan.recipe.run.chunk
    frames = [read_arrays(folder, i // size, f"preview/{i}")[f"preview/{i}"] for i in plan.preview]
    low, high = (
        float(v) for v in np.percentile(np.concatenate([f.ravel()[::7] for f in frames]), (0.5, 99.7))
    )
    high = high if high > low else low + 1
    grey = np.stack(
        [np.round(255 * np.clip((f - low) / (high - low), 0, 1)).astype(np.uint8) for f in frames]
    )
    arrays = {"frames": grey, **read_arrays(folder, plan.preview[0] // size, "residual")}
    attrs = {"index": list(plan.preview), "scale": float(factor(plan.movie.shape)), "low": low, "high": high}
    write_arrays(folder.path / "preview.zarr", arrays, attrs=attrs)
