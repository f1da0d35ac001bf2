"""Figures as files and as parts of the page."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomreel.report.drawing import COLOURS, INK, figure, finish, plain, scale_length, style


@given(st.floats(2, 1e5), st.floats(1e-4, 1e3), st.booleans())
def test_scale_bars_are_round_and_fit(width: float, unit: float, calibrated: bool) -> None:
    length, words = scale_length(width, unit, calibrated=calibrated)
    assert 0.099 * width <= length <= 0.2501 * width
    number, name = words.split()
    size = float(number) * (10 if name == "nm" else 1)
    assert size == pytest.approx(length * unit, rel=1e-5)
    assert f"{size / 10 ** math.floor(math.log10(size) + 1e-9):.3g}" in ("1", "2", "5")
    assert name in (("Å", "nm") if calibrated else ("px",))


def test_files_and_the_part_of_the_page(tmp_path: Path) -> None:
    settings = [key for key in mpl.rcParams if key != "backend"]  # to ask for the backend is to choose it
    before = [mpl.rcParams[key] for key in settings]
    with style():
        made, ((ax,),) = figure()
        ax.plot([0, 1], [0, 1], color=COLOURS[0])
        ax.set_xlabel(plain("$x_1$ < 原"))
        drawing = finish(made, tmp_path, "one", title="One", caption="")
    assert [mpl.rcParams[key] for key in settings] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "one.svg"]
    assert INK in (tmp_path / "one.svg").read_text() and INK not in drawing.svg
    root = ElementTree.fromstring(drawing.svg)
    assert "width" not in root.attrib and "viewBox" in root.attrib
    assert "currentColor" in drawing.svg and "var(--c0)" in drawing.svg
    assert all(e.attrib["id"].startswith("one-") for e in root.iter() if "id" in e.attrib)
    assert "$x_1$ &lt; ?" in drawing.svg  # no mathematics, no missing glyph


def test_long_names_are_cut() -> None:
    assert len(plain("x" * 500)) == 60
