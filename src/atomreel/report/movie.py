"""Frames painted with what was found in them, as GIF, and as MP4 where ffmpeg is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw

from atomreel.core.errors import InputError, MissingExtraError
from atomreel.core.files import atomic

Pixels = npt.NDArray[np.uint8]
SIDE = 512  # px of the longer side of a painted frame
RED, BLUE, OTHER = (255, 90, 60), (70, 160, 255), (255, 200, 40)
INKS = {"brighter": RED, "dimmer": BLUE}
GLOW = np.array([255.0, 180.0, 0.0])


def paint(
    image: npt.ArrayLike, table: pd.DataFrame, *, activation: npt.ArrayLike | None = None, label: str = ""
) -> Pixels:
    """One frame (Y, X) as (H, W, 3) bytes: grey between its 0.5 and 99.5 percentiles, rings at y, x of `table` (kind sets the colour,
    score the width), and an activation map (Y, X) from 0 to 1 glowing over it. The longer side has 512 px.

    Raises InputError for shapes that do not fit.
    """
    data = np.asarray(image, dtype=float)
    if data.ndim != 2:
        raise InputError(f"a frame to paint must be (Y, X), got {data.shape}")
    low, high = np.percentile(data, [0.5, 99.5])
    grey = np.clip((data - low) / max(high - low, 1e-12), 0, 1)
    rgb = np.repeat(255 * grey[..., None], 3, 2)
    if activation is not None:
        glow = np.clip(np.asarray(activation, dtype=float), 0, 1)
        if glow.shape != data.shape:
            raise InputError(f"activation of shape {glow.shape} for a frame of {data.shape}")
        rgb = rgb + 0.55 * glow[..., None] * (GLOW - rgb)
    zoom = SIDE / max(data.shape)
    size = (max(1, round(data.shape[1] * zoom)), max(1, round(data.shape[0] * zoom)))
    picture = Image.fromarray(rgb.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for y, x, kind, score in zip(*(table[name] for name in ("y", "x", "kind", "score")), strict=True):
        cy, cx, r = (y + 0.5) * zoom, (x + 0.5) * zoom, 0.022 * SIDE
        width = 3 if score >= 0.9 else 2 if score >= 0.7 else 1
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), outline=INKS.get(kind, OTHER), width=width)
    if label:
        pen.text((6, 4), label, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return np.asarray(picture, dtype=np.uint8)


def write_gif(path: Path | str, frames: Sequence[Pixels], *, seconds: float = 0.2) -> Path:
    """An animated GIF of (H, W, 3) frames that loops. Same frames, same bytes. Raises InputError without a frame."""
    if not frames:
        raise InputError(f"{path}: no frame to write")
    pictures = [Image.fromarray(one).quantize(128, dither=Image.Dither.NONE) for one in frames]
    with atomic(path) as part:
        pictures[0].save(
            part,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 * seconds),
            loop=0,
        )
    return Path(path)


def write_mp4(path: Path | str, frames: Sequence[Pixels], *, seconds: float = 0.2) -> Path:
    """An H.264 film of (H, W, 3) frames. Raises MissingExtraError without imageio-ffmpeg, InputError without a frame."""
    if not frames:
        raise InputError(f"{path}: no frame to write")
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtraError("imageio-ffmpeg", extra="movie", purpose="an MP4") from error
    height, width = (n - n % 2 for n in frames[0].shape[:2])  # the codec wants even sides
    with atomic(path) as part:
        writer: Any = imageio_ffmpeg.write_frames(
            str(part), (width, height), fps=1 / seconds, codec="libx264", macro_block_size=2,
            output_params=["-f", "mp4"], quality=7,
        )  # fmt: skip
        writer.send(None)
        for one in frames:
            writer.send(np.ascontiguousarray(one[:height, :width]))
        writer.close()
    return Path(path)
