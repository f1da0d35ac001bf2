"""PNG, JPEG, GIF and the like through Pillow: no calibration, colour made grey."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.read.source import LazyFrames, Reader, Source, sort_out

MAGIC = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "GIF": b"GIF8",
    "BMP": b"BM",
}
SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
}
MAX_PIXELS = 2**31
_LOCK = threading.Lock()


@contextmanager
def _large_allowed() -> Iterator[None]:
    """Pillow refuses large pictures through a module variable; ours are checked before decoding instead."""
    from PIL import Image

    with _LOCK:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@dataclass(frozen=True)
class _Pages:
    """Frames of one open picture file; going forward decodes each once."""

    picture: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, i: int) -> npt.NDArray[Any]:
        with self.lock:
            self.picture.seek(i)
            picture = self.picture
            if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
                picture = picture.convert("RGB")
            elif picture.mode == "1":
                picture = picture.convert("L")
            return np.array(picture)


def read(path: Path) -> list[Source]:
    from PIL import Image

    with _large_allowed():
        picture = Image.open(path)
        size = (picture.height, picture.width)
        try:
            if size[0] * size[1] > MAX_PIXELS:
                raise InputError(
                    f"{path.name}: {size[0]} × {size[1]} pixels cannot be decoded at once; crop it"
                )
            count = int(getattr(picture, "n_frames", 1))
        except Exception:
            picture.close()
            raise
    notices = []
    if picture.mode not in ("L", "1", "I", "F", "I;16", "I;16B", "I;16L"):
        notices.append(f"colour ({picture.mode}) turned into grey (ITU-R BT.601 luma)")
    if picture.format == "JPEG":
        notices.append("JPEG compression changes intensities and leaves 8 × 8 blocks")
    if picture.format == "GIF" and count > 1:
        notices.append("the times in a GIF are for display and were not taken as frame times")
    pages = _Pages(picture)
    weakref.finalize(pages, picture.close)
    kind = sort_out(((count,) if count > 1 else ()) + size, np.dtype(np.uint8))[0]
    frames = LazyFrames(count, pages, path.name)
    if kind in ("image", "movie"):
        frames[0]  # a picture cut off in its first frame is found here
    else:
        picture.close()
    shape = ((count,) if count > 1 else ()) + size
    return [Source(path.stem, shape, picture.mode, kind, frames, size, notices=tuple(notices))]


def _begins(magic: bytes, path: Path, head: bytes) -> bool:
    return head.startswith(magic)


READERS = tuple(
    Reader(name, SUFFIXES[name], partial(_begins, magic), read, "pillow") for name, magic in MAGIC.items()
)
