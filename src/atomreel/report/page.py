"""One self-contained page from a Run folder: what was done, what was found, how sure, what to distrust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomreel.core.errors import RunError
from atomreel.core.files import write_text
from atomreel.report import curves, grains, pictures, sources, tables, viewer, words
from atomreel.report.drawing import Drawing, style
from atomreel.report.methods import methods
from atomreel.report.results import Results, open_results

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Path | str) -> Path:
    """Write RUN/report.html and RUN/figures/*.png, *.svg from what the Run folder holds.

    The page needs no network and no other file. Tables and maps that the Run does not have are left
    out. The same Run gives the same bytes, whenever it is made. Raises RunError for a folder that is
    no finished Run, cannot be written or holds a damaged file.
    """
    results = open_results(run)
    folder = results.path / "figures"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be created ({error.strerror})") from error
    with style():
        drawings = _draw(results, folder)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = render("report.html", {**_contents(results, drawings), "js": script})
    path = results.path / "report.html"
    write_text(path, page)
    return path


def _draw(results: Results, folder: Path) -> dict[str, list[Drawing]]:
    """Every figure, by the section that shows it. Those of "files" have livelier forms in the page."""
    single = {
        "files": (pictures.draw_frame, pictures.draw_symmetry, pictures.draw_strain),
        "grains": (grains.draw_grains, grains.draw_doubt, grains.draw_sizes),
        "tracks": (pictures.draw_tracks,),
        "defects": (pictures.draw_gallery,),
        "sources": (sources.draw_sources,),
        "cell": (pictures.draw_cell,),
        "residual": (pictures.draw_residual,),
    }
    drawn = {
        section: [d for make in makers if (d := make(results, folder)) is not None]
        for section, makers in single.items()
    }
    drawn["curves"] = curves.draw_curves(results, folder)
    drawn["histograms"] = curves.draw_histograms(results, folder)
    return drawn


def _contents(results: Results, drawings: dict[str, list[Drawing]]) -> dict[str, Any]:
    """Everything that the template fills in."""
    figures = words.measure(results)
    name = str(results.input.get("name") or results.path.name)
    drawn_tables = {d.name for d in drawings["histograms"]}
    others = [
        tables.other_table(other, table)
        for other in results.other_tables()
        if curves.file_name(other) not in drawn_tables and (table := results.table(other)) is not None
    ]
    data = {
        "frames": viewer.frame_viewer(results),
        "symmetry": viewer.symmetry_viewer(results),
        "strain": viewer.strain_viewer(results),
        "luts": viewer.colour_tables(),
    }
    return {
        "name": name,
        "summary": words.summary(results, figures),
        "numbers": words.key_numbers(results, figures),
        "doubts": words.doubts(results, figures),
        "checks": words.checks(results),
        "read": tables.read_table(results),
        "notices": [str(text) for text in results.input.get("notices", [])],
        "lattice": tables.lattice_table(results),
        "grains": grains.grains_table(results),
        "boundaries": grains.boundaries_table(results),
        "rates": tables.rates_table(results),
        "reactions": (results.path / "reactions" / "reactions.html").is_file(),
        "events": tables.events_table(results),
        "sources": sources.sources_tables(results),
        "others": others,
        "drawings": drawings,
        "methods": methods(results),
        "about": results.about,
        "recipe": list(tables.flat(results.about.get("recipe", {}))),
        "versions": sorted(tables.flat(results.about.get("versions", {}))),
        "models": [
            (key, str(model.get("sha256", "")) if isinstance(model, dict) else str(model))
            for key, model in results.about.get("models", {}).items()
        ],
        "data": data,
        "json": _script_json(data),
    }


def render(template: str, contents: Mapping[str, Any]) -> str:
    """A page from one of TEMPLATES. Every name in it must be filled in, and no text of a file becomes markup."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(**contents, css=css)


def _script_json(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in, whatever names it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
