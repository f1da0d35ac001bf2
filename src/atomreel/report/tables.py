"""The tables of the page, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from atomreel.report.results import Results
from atomreel.report.words import plus_minus

MOST_ROWS = 60


@dataclass(frozen=True)
class PageTable:
    """head: names of columns; rows: text; note: what is not shown. numeric: which columns align right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        return [
            bool(self.rows) and all(r[i][:1] in "0123456789−-–+" for r in self.rows)
            for i in range(len(self.head))
        ]


def read_table(results: Results) -> PageTable:
    """What was read: each number and where it came from."""
    about = results.input
    y, x = results.shape
    chosen = "chosen of the file's by input.frames, counted anew from 0" if "source_frames" in about else ""
    rows: list[tuple[str, str, str]] = [
        ("file", str(about.get("name") or about.get("path") or "–"), ""),
        ("frames", f"{results.n_frames:,} of {y} × {x} px", chosen),
    ]
    pixel = "not known"
    if results.pixel is not None:
        dy, dx = results.pixel
        pixel = f"{dx:.5g} Å" if dx == dy else f"{dy:.5g} × {dx:.5g} Å (y × x)"
    rows.append(("pixel size", pixel, results.source("pixel")))
    times = results.times
    if results.n_frames > 1:
        span = "not known" if times is None else f"{times.min():.4g} … {times.max():.4g} s"
        rows.append(("frame times", span, results.source("times")))
    for key, label, unit in (
        ("exposure_s", "exposure", "s per frame"),
        ("dose", "dose", "e⁻/Å² per frame"),
        ("voltage_kV", "voltage", "kV"),
    ):
        if about.get(key) is not None:
            rows.append((label, f"{float(about[key]):g} {unit}", results.source(key.partition("_")[0])))
    for element, energy in results.about.get("beam", {}).get("knock_on_eV", {}).items():
        rows.append((f"knock-on to {element}, at most", f"{float(energy):.3g} eV", "2(E + 2E₀)E/(Mc²)"))
    if about.get("modality"):
        rows.append(("kind of image", str(about["modality"]).upper(), ""))
    rows += _survey_rows(results.about.get("survey", {}))
    rows += _calibration_rows(results.about.get("calibration", {}))
    return PageTable("", ("", "value", "from"), tuple(rows))


def lattice_table(results: Results) -> PageTable | None:
    table = results.table("lattice")
    if table is None or table.empty:
        return None
    metric = {"a_A", "b_A"} <= set(table)
    columns = [("a_A", "a (Å)"), ("b_A", "b (Å)")] if metric else []
    columns = columns or [("a_px", "a (px)"), ("b_px", "b (px)")]
    columns += [("gamma_deg", "γ (°)"), ("angle_deg", "direction (°)")]
    rows = []
    for item in table.head(MOST_ROWS).to_dict("records"):
        row = [str(int(item["frame"])), str(int(item["grain"]))]
        row += [plus_minus(item[c], item.get(f"{c}_err", np.nan)) for c, _ in columns]
        row += [f"{int(item['columns']):,}" if _there(item.get("columns")) else "–"]
        row += [f"{item['residual_px']:.2g}" if _there(item.get("residual_px")) else "–"]
        row += [str(item.get("symmetry") or "–")]
        rows.append(tuple(row))
    head = ("frame", "grain", *(label for _, label in columns), "columns", "rms (px)", "symmetry")
    return PageTable("Lattice of each grain and frame", head, tuple(rows), _more(len(table), "lattice"))


def rates_table(results: Results, name: str = "rates", *, title: str = "Rates") -> PageTable | None:
    """The rates of NAME.json; None where there are none."""
    found = {k: v for k, v in results.json(name).items() if isinstance(v, Mapping)}
    if not found:
        return None
    rows = [
        (
            name,
            _number(rate.get("value")),
            _interval(rate),
            str(rate.get("unit") or ""),
            _number(rate.get("count")),
            str(rate.get("method") or ""),
        )
        for name, rate in found.items()
    ]
    head = ("rate", "value", "95 % interval", "unit", "events", "method")
    return PageTable(title, head, tuple(rows[:MOST_ROWS]))


def _interval(rate: Mapping[str, Any]) -> str:
    """Both ends; a rate may have no upper one, and a number that is none no interval."""
    low, high = rate.get("low"), rate.get("high")
    if not _there(low):
        return "–"
    return f"{_number(low)} … {_number(high) if _there(high) else 'no upper end'}"


def events_table(results: Results) -> PageTable | None:
    table = results.table("events")
    if table is None or table.empty:
        return None
    changes = table[~table["before"].isin(["none", "birth"]) & ~table["after"].isin(["none", "end"])]
    shown = changes if len(changes) else table
    rows = [
        (
            str(int(item["frame"])),
            f"{item['t_s']:.3f}" if _there(item.get("t_s")) else "–",
            str(int(item["track"])),
            str(item["before"]),
            str(item["after"]),
            f"{item['y']:.1f}, {item['x']:.1f}",
        )
        for item in shown.head(MOST_ROWS).to_dict("records")
    ]
    title = "Changes of state" if len(changes) else "Events"
    note = _more(len(shown), "events")
    if len(changes) and len(changes) < len(table):
        note = f"{note} Births and ends of tracks ({len(table) - len(changes):,}) are in events.parquet only.".strip()
    return PageTable(title, ("frame", "t (s)", "track", "before", "after", "y, x (px)"), tuple(rows), note)


def other_table(name: str, table: pd.DataFrame) -> PageTable:
    """The default rendering of an analysis without a figure: its first rows."""
    shown = table.iloc[:12, :10]
    rows = tuple(tuple(_cell(v) for v in row) for row in shown.itertuples(index=False))
    return PageTable(
        name.replace("_", " ").capitalize(), tuple(map(str, shown.columns)), rows, _more(len(table), name, 12)
    )


def flat(section: Any, *, prefix: str = "") -> Iterable[tuple[str, str]]:
    """('drift.measure', 'true') … of nested tables, for the reproducibility footer."""
    if isinstance(section, Mapping):
        for key, value in section.items():
            yield from flat(value, prefix=f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(section).lower() if isinstance(section, bool) else str(section)


def _survey_rows(survey: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    if survey.get("spacing_px") is not None:
        rows.append(
            (
                "nearest neighbours",
                f"about {float(survey['spacing_px']):.3g} px",
                str(survey.get("scale_source") or ""),
            )
        )
    if survey.get("bright") is not None:
        odds = survey.get("p_bright")
        sure = "" if odds is None else f"odds {max(float(odds), 1 - float(odds)):.2f}"
        rows.append(("columns are", "bright" if survey["bright"] else "dark", sure))
    if survey.get("zoom") is not None:
        rows.append(("magnified for the network", f"{float(survey['zoom']):.3g} ×", ""))
    return rows


def _calibration_rows(calibration: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if not calibration:
        return []
    before, after = (
        " × ".join(f"{float(v):.5g}" for v in np.unique(np.ravel(calibration[k])))
        if calibration.get(k) is not None
        else "unknown"
        for k in ("pixel_before", "pixel_after")
    )
    source = f"lattice of {calibration.get('material', 'a known material')}"
    rows = [("calibrated pixel size", f"{before} → {after} Å", source)]
    if calibration.get("shear") is not None:
        rows.append(("scan shear", f"{float(np.ravel(calibration['shear'])[0]):+.4f}", source))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1 else f"{float(value):.3g}"


def _there(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _more(count: int, name: str, most: int = MOST_ROWS) -> str:
    return f"{count - most:,} more rows are in {name}.parquet." if count > most else ""
