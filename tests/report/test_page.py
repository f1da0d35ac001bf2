"""The page: self-contained, the same every time, safe with any name, alive in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from atomreel.core.errors import RunError
from atomreel.core.files import read_table, write_table
from atomreel.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
]


def data_of(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_one_file_that_needs_nothing_else(whole_run: Path) -> None:
    page = (whole_run / "report.html").read_text(encoding="utf-8")
    assert len(page) < 15e6
    loads = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', page)
    assert loads and all(link.startswith(("#", "data:")) for link in loads)
    assert "@import" not in page and not re.search(r"url\((?!#|&#34;#)", page)
    identifiers = re.findall(r'\sid="([^"]*)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_every_part_is_there(whole_run: Path) -> None:
    page = (whole_run / "report.html").read_text(encoding="utf-8")
    parts = [
        "frames",
        "distrust",
        "read",
        "symmetry",
        "lattice",
        "defects",
        "curves",
        "histograms",
        "quality",
        "methods",
    ]
    assert [p for p in parts if f'<section id="{p}">' not in page] == []
    for words in (
        "8,976",
        "TIFF resolution tag",
        "Frame 17: 3 % of the pixels are saturated.",
        "0.14 … 0.97",
    ):
        assert words in page
    pictures = {p.stem for p in (whole_run / "figures").glob("*.png")}
    assert pictures == {p.stem for p in (whole_run / "figures").glob("*.svg")}
    assert {"grains", "symmetry-doubt", "grains-over-time"} <= pictures
    assert {"frame", "symmetry", "strain", "tracks", "cell", "residual", "defects-gallery"} <= pictures
    assert {"drift", "phases-over-time", "table-bond_lengths", "table-pair_distances"} <= pictures


def test_same_run_same_bytes(whole_run: Path, tmp_path: Path) -> None:
    again = tmp_path / whole_run.name
    shutil.copytree(whole_run, again)
    shutil.rmtree(again / "figures")
    write_report(again)
    for file in [whole_run / "report.html", *sorted((whole_run / "figures").iterdir())]:
        assert file.read_bytes() == (again / file.relative_to(whole_run)).read_bytes(), file.name


def test_a_run_with_almost_nothing(bare_run: Path) -> None:
    page = write_report(bare_run).read_text(encoding="utf-8")
    assert "no atomic columns were found" in page
    assert "The pixel size is not known" in page
    assert '<section id="symmetry">' not in page and '<section id="curves">' not in page
    assert data_of(page)["frames"]["calibrated"] is False


def test_names_from_the_file_cannot_become_code(bare_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "hostile"
    shutil.copytree(bare_run, run)
    evil = '</script><img src=x onerror="alert(1)">$\\frac{x$ 原子 \x07'
    about = (run / "run.toml").read_text(encoding="utf-8").replace("a.png", "<b>&amp; a.png")
    (run / "run.toml").write_text(about, encoding="utf-8")
    where = {"frame": [0, 0], "y": [9.0, 30.0], "x": [9.0, 40.0], "y_err": 0.1, "x_err": 0.1, "score": 0.9}
    atoms = pd.DataFrame(where).assign(species=evil, intensity=1.0)
    write_table(run / "atoms.parquet", atoms, kind="atoms")
    write_table(run / "defects.parquet", atoms.assign(kind=evil), kind="defects")
    odd = pd.DataFrame({evil: [1.0, 2.0, 4.0], "text": [evil] * 3})
    write_table(run / "odd.parquet", odd, kind="odd")
    page = write_report(run).read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<b>&amp;" not in page
    assert page.count("</script>") == 2
    assert data_of(page)["frames"]["kinds"][0]["name"] == evil


def test_not_a_run_and_a_damaged_one(bare_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a finished Run"):
        write_report(tmp_path)
    run = tmp_path / "damaged"
    shutil.copytree(bare_run, run, ignore=shutil.ignore_patterns("report.html", "figures"))
    (run / "atoms.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match=r"atoms\.parquet: damaged"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.slow
def test_five_thousand_frames(builder: Callable[..., Path], tmp_path: Path) -> None:
    run = builder(tmp_path / "long", frames=5000, side=96, shown=40)
    assert len(read_table(run / "atoms.parquet")) > 150_000
    page = write_report(run)
    assert page.stat().st_size < 25e6
    assert len(data_of(page.read_text(encoding="utf-8"))["frames"]["frames"]) == 40


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_in_a_browser(browser: Any, whole_run: Path, width: int, height: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": height})
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    tab.goto((whole_run / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out

    def picture() -> str:
        tab.wait_for_timeout(150)
        return tab.evaluate("document.getElementById('stage').toDataURL()")

    seen = [picture()]
    tab.locator("#frame-slider").focus()
    tab.keyboard.press("ArrowRight")
    seen.append(picture())
    assert tab.locator("#where").inner_text() == "Frame 1, t = 0.50 s"
    tab.keyboard.press("End")
    seen.append(picture())
    assert tab.locator("#where").inner_text().startswith("Frame 23")
    for name in ("atoms", "defects", "tracks"):
        tab.locator(f"#show-{name}").uncheck()
        seen.append(picture())
    tab.locator("#show-atoms").check()
    for choice in ("score", "error"):
        tab.locator("#colour-by").select_option(choice)
        seen.append(picture())
    tab.locator("#zoom-in").click()
    seen.append(picture())
    assert len(set(seen)) == len(seen)  # each of these changes what is drawn

    canvas = "document.querySelectorAll('[data-maps=symmetry] canvas')[0].toDataURL()"
    before = tab.evaluate(canvas)
    tab.locator("#symmetry-slider").focus()
    tab.keyboard.press("End")
    assert tab.evaluate(canvas) != before
    tab.locator("#copy-methods").click()
    tab.wait_for_function("document.getElementById('copied').textContent === 'Copied.'")
    assert problems == []
    tab.close()
