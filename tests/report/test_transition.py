from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.transition import draw_transition


def table() -> pd.DataFrame:
    shear = np.linspace(0, 0.1, 12)
    return pd.DataFrame(
        {"frame": range(12), "shear": shear, "shear_err": 0.002, "curve": shear, "curve_err": 0.001}
    )


def test_the_passage_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    with_, without = tmp_path / "with", tmp_path / "without"
    with_.mkdir(), without.mkdir()
    drawing = draw_transition(table(), level=0.02, passed=(1.5, 2.2, 3.0), folder=with_)
    draw_transition(table(), level=0.5, passed=(np.nan, np.nan, np.nan), folder=without)
    assert "shear s (%)" in drawing.svg and "passes the bound" in drawing.svg
    assert "passes the bound" not in (without / "transition.svg").read_text(encoding="utf-8")
    assert (with_ / "transition.png").stat().st_size > 5000


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        draw_transition(table(), level=0.02, passed=(1.5, 2.2, 3.0), folder=tmp_path / name)
    assert (tmp_path / "a/transition.svg").read_bytes() == (tmp_path / "b/transition.svg").read_bytes()
