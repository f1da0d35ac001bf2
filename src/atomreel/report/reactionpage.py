"""One self-contained page about the reactions of a Run: what turns into what, how fast, how sure, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from atomreel.core.files import write_text
from atomreel.report.drawing import Drawing
from atomreel.report.page import render
from atomreel.report.tables import PageTable


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, heading, a sentence, tables and figures. A section without content is left out."""

    anchor: str
    title: str
    text: str = ""
    tables: tuple[PageTable, ...] = ()
    drawings: tuple[Drawing, ...] = ()


def write_reaction_page(
    file: Path, *, name: str, summary: str, notes: Sequence[str], sections: Sequence[Section]
) -> None:
    """Write the page to `file`. It needs no network and no other file; the same input gives the same bytes."""
    shown = [s for s in sections if s.text or s.tables or s.drawings]
    contents = {"name": name, "summary": summary, "notes": list(notes), "sections": shown}
    page = render("reactions.html", contents)
    write_text(file, page)


def number_table(title: str, table: pd.DataFrame, *, note: str = "") -> PageTable:
    """A table with numbers in three digits."""
    rows = tuple(
        tuple(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row)
        for row in table.itertuples(index=False, name=None)
    )
    return PageTable(title, tuple(str(c).replace("_", " ") for c in table.columns), rows, note)
