"""Write the tables of docs/formats.md: what each reader serves, and what became of every file in a folder.

    python benchmarks/formats.py [FOLDER] [--page docs/formats.md]

The text outside the two marked blocks is written by hand and kept. Without FOLDER only the reader table is renewed.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from atomreel.core.errors import AtomreelError
from atomreel.core.files import write_text
from atomreel.core.image import Movie
from atomreel.read.movie import open_movie, readers

ROOT = Path(__file__).resolve().parents[1]


def reader_table() -> str:
    rows = [f"| {r.name} | {' '.join(f'`{s}`' for s in r.suffixes)} | {r.library} |" for r in readers()]
    return "\n".join(["| format | endings | read with |", "|---|---|---|", *sorted(rows)])


def file_table(folder: Path) -> str:
    """One row per file; files of one folder with the same answer share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("README")):
        where = path.parent.relative_to(folder).as_posix()
        rows.setdefault((where, answer(path)), []).append(path.name)
    lines = [f"| {where} | {names(found)} | {text} |" for (where, text), found in rows.items()]
    return "\n".join(["| folder | file | what happens |", "|---|---|---|", *lines])


def names(found: list[str]) -> str:
    shown = found[0] if len(found[0]) <= 60 else found[0][:28] + "…" + found[0][-28:]
    return f"`{shown}`" + (f" and {len(found) - 1} more" if len(found) > 1 else "")


def answer(path: Path) -> str:
    try:
        movie = open_movie(path)
    except AtomreelError as error:
        text = str(error).removeprefix(f"{path.name}: ")
        text = re.sub(r": 0: .*", lambda m: f": {m.group(0).count(';') + 1} datasets listed", text)
        return "refused: " + re.sub(r"; known formats.*", "", text).replace("|", "\\|")
    return "opens: " + known(movie)


def known(movie: Movie) -> str:
    size = f"{movie.shape[0]} × {movie.shape[1]}"
    parts = [f"{len(movie)} frames of {size}" if len(movie) > 1 else size]
    if movie.pixel:
        parts.append(f"{movie.pixel[1]:.4g} Å/px ({movie.sources['pixel']})")
    if movie.voltage:
        parts.append(f"{movie.voltage:g} kV")
    if movie.exposure:
        parts.append(f"{movie.exposure:.3g} s per frame")
    if movie.modality:
        parts.append(movie.modality)
    return "; ".join([*parts, *movie.notices])


def replaced(page: str, mark: str, table: str) -> str:
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    if not rest or end not in rest:
        raise SystemExit(f"the page has no block {begin} … {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "formats.md")
    args = parser.parse_args()
    page = replaced(args.page.read_text(encoding="utf-8"), "readers", reader_table())
    if args.folder:
        page = replaced(page, "files", file_table(args.folder))
    write_text(args.page, page)


if __name__ == "__main__":
    main()
