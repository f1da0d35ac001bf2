"""Only what was done is told, and every number in brackets has its reference."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from atomreel.report.methods import CITATIONS, methods
from atomreel.report.results import open_results


def test_whole_run_cites_in_order(whole_run: Path) -> None:
    told = methods(open_results(whole_run))
    numbers = [int(n) for group in re.findall(r"\[([\d, ]+)\]", told.paragraph) for n in group.split(", ")]
    firsts = list(dict.fromkeys(numbers))
    assert firsts == list(range(1, len(told.references) + 1))
    assert "0.16 Å (TIFF resolution tag)" in told.paragraph and "60 kV" in told.paragraph
    symmetry = int(re.search(r"after ref\. \[(\d+)\]", told.paragraph)[1])
    assert "Vasudevan" in told.references[symmetry - 1]
    assert told.text.startswith(told.paragraph) and told.text.endswith(told.references[-1])


def test_nothing_is_told_that_was_not_done(bare_run: Path) -> None:
    told = methods(open_results(bare_run)).paragraph
    for word in ("Bravais", "Strain", "Rates", "kV", "calibrated"):
        assert word not in told


def test_citations_have_year_and_place() -> None:
    for key, text in CITATIONS.items():
        year = re.search(r"\((\d{4})\)|\(\d{4}\)\.?$", text)
        assert year and key.endswith(year[1]), key
        for address in re.findall(r"https?://\S+", text):
            assert address.startswith("https://doi.org/10.")


def test_no_work_is_listed_that_nothing_cites() -> None:
    code = Path(inspect.getsourcefile(methods) or "").read_text(encoding="utf-8")
    assert [key for key in CITATIONS if code.count(key) < 2] == []
