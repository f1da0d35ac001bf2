from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.network import draw_network
from atomreel.report.reactionpage import Section, number_table, write_reaction_page


def test_the_page_holds_everything_and_needs_nothing(tmp_path: Path) -> None:
    drawn = draw_network(
        ("a", "b"), [[0, 1.0], [2.0, 0]], (np.zeros((2, 2)), np.ones((2, 2))), unit="1/s", folder=tmp_path
    )
    table = number_table(
        "Rates", pd.DataFrame({"what": ["a→b"], "high_end": [0.012345]}), note="of two states"
    )
    sections = [
        Section("one", "One <part>", tables=(table,), drawings=(drawn,)),
        Section("empty", "Nothing here"),
    ]
    file = tmp_path / "reactions.html"
    for _ in range(2):
        write_reaction_page(
            file, name="a&b.atomreel", summary="3 tracks", notes=["mind this"], sections=sections
        )
        text = file.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "One &lt;part&gt;" in text and "a&amp;b.atomreel" in text
    assert "0.0123" in text and "high end" in text and "of two states" in text and "mind this" in text
    assert "Nothing here" not in text and 'id="figure-network"' in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text.replace('xlink:href="', ""))
