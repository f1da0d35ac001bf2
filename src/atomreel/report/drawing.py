"""How every figure looks, and how it becomes files and part of the page. Explicit Figure objects, no pyplot."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.files import atomic

INK, GRID = "#1f2428", "#d5d9de"  # replaced by the page's own colours where a figure is part of the page
# Okabe and Ito: distinct for every common kind of colour vision.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#7a7a7a")
BRIGHT = (
    "#4db2ff",
    "#ffb52e",
    "#3fe0a0",
    "#ff8fd0",
    "#ff7a45",
    "#c9a6ff",
    "#f6f07a",
    "#d0d0d0",
)  # on grey images
CLASS_COLOURS = {
    "square": "#0072b2",
    "rectangular": "#56b4e9",
    "centred": "#009e73",
    "hexagonal": "#e69f00",
    "oblique": "#cc79a7",
    "noise": "#7a7a7a",
}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "atomreel",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.4,
    "image.interpolation": "nearest",
    "figure.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure. svg: for the page, in its colours. name: of the files in RUN/figures."""

    name: str
    title: str
    caption: str
    svg: str
    wide: bool = False


@contextmanager
def style() -> Iterator[None]:
    """The look of the report while figures are made and written; the caller's settings come back after it."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def figure(width: float = 5.4, height: float = 2.7, *, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A Figure and its (rows, columns) array of axes, sizes in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def finish(made: Any, folder: Path, name: str, *, title: str, caption: str, wide: bool = False) -> Drawing:
    """Write folder/name.png and .svg, and give the figure as part of the page. Same input, same bytes."""
    made.draw_without_rendering()  # one layout for both files, and so the same one
    made.set_layout_engine("none")
    with atomic(folder / f"{name}.png") as part:
        made.savefig(
            part,
            format="png",
            dpi=160,
            facecolor="white",
            metadata={"Software": None},
            pil_kwargs={"compress_level": 4},
        )
    buffer = io.BytesIO()
    made.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    with atomic(folder / f"{name}.svg") as part:
        part.write_text(text, encoding="utf-8")
    return Drawing(name, title, caption, _inline(text, name), wide)


def picture_axes(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def scale_length(width: float, unit: float, *, calibrated: bool) -> tuple[float, str]:
    """Length [picture px] and words of a scale bar for a picture `width` px wide.

    unit: Å per picture px, or where that is not known movie px per picture px.
    """
    wanted = max(width * unit * 0.25, 1e-9)
    decade = 10 ** np.floor(np.log10(wanted))
    length = float(max(m * decade for m in (1, 2, 5) if m * decade <= wanted * (1 + 1e-9)))
    if not calibrated:
        return length / unit, f"{length:g} px"
    return length / unit, f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"


def draw_scale(axes: Any, shape: tuple[int, ...], unit: float, *, calibrated: bool) -> None:
    """A scale bar in the lower left of a picture of `shape` (Y, X); unit as in `scale_length`."""
    from matplotlib.patches import Rectangle

    height, width = shape
    length, words = scale_length(width, unit, calibrated=calibrated)
    left, bottom = -0.5 + 0.04 * width, height - 0.5 - 0.04 * height
    thick = 0.014 * height
    axes.add_patch(
        Rectangle((left, bottom - thick), length, thick, facecolor="white", edgecolor="black", lw=0.4)
    )
    text = axes.text(
        left,
        bottom - 2.0 * thick,
        words,
        color="white",
        fontsize=9,
        va="bottom",
        ha="left",
        fontweight="bold",
    )
    text.set_path_effects(outline())


def outline() -> list[Any]:
    """A dark rim around text that stands on a picture."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=1.8, foreground="black")]


def plain(text: object) -> str:
    """`text` as a figure can show it: no mathematics mode, no control characters, no glyph the font lacks."""
    known = _glyphs()
    shown = "".join(c if ord(c) in known else "?" for c in str(text).replace("\n", " "))
    return (shown if len(shown) <= 60 else shown[:59] + "…").replace("$", r"\$")


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager, ft2font

    return frozenset(ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _inline(svg: str, name: str) -> str:
    """For the page: names that are unique in it, its ink, its width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<image\b[^>]*?)\sid="[^"]*"', r"\1", svg)  # named by content: twins would share a name
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[\d.]+pt" height="[\d.]+pt"|<svg ', r"<svg \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[\d.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) (?:width|height)="[\d.]+pt"', r"\1", svg, count=1)
    for i, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{i})")
    return svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
