"""What was found and what to distrust, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from atomreel.report.drawing import CLASS_COLOURS
from atomreel.report.results import Results


@dataclass(frozen=True)
class Figures:
    """The numbers that the summary, the head of the page and the doubts are made of; None = not there."""

    columns: int | None = None
    per_frame: float | None = None
    error_px: float | None = None
    low_scores: float | None = None
    lattice: Mapping[str, tuple[float, float]] | None = None
    lattice_unit: str = "px"
    grains: int = 0
    main_class: tuple[str, float, float] | None = None
    defects: Mapping[str, int] | None = None
    tracks: int | None = None
    events: int | None = None


@dataclass(frozen=True)
class Doubt:
    """A reason to read a result with care. level: "serious", "care" or "note"."""

    level: str
    text: str


@dataclass(frozen=True)
class Check:
    """One row of the quality panel. state: "fine", "check" or "not measured"."""

    name: str
    value: str
    meaning: str
    state: str


CHECKS = {
    "short_pairs": ("Pairs that are too close", "%"),
    "coverage_gaps": ("Places where a column is missing", "%"),
    "outside_domain_fraction": ("Columns where the model does not know what it sees", "%"),
    "unknown_area_fraction": ("Part of the image that the model does not know", "%"),
    "residual_rms_over_noise": ("What the fit leaves over, in units of the noise", ""),
    "half_dose_agreement": ("Two halves of the dose: scatter over claimed error", ""),
    "half_dose_agreement_px": ("Agreement of two halves of the dose", "px"),
}


def measure(results: Results) -> Figures:
    counts = results.count("atoms", by=["frame"])
    frames = None if results.preview is None else results.preview.index
    sample = results.table("atoms", columns=["frame", "y_err", "x_err", "score"], frames=frames)
    error = low = None
    if sample is not None and len(sample):
        both = np.hypot(sample["y_err"], sample["x_err"]).to_numpy(float) / np.sqrt(2)
        error = float(np.median(both[np.isfinite(both)])) if np.isfinite(both).any() else None
        low = float(np.mean(sample["score"].to_numpy(float) < 0.8))
    columns = None if counts is None else int(counts["count"].sum())
    lattice, unit, grains = _lattice(results.table("lattice"))
    defects = results.count("defects", by=["kind"])
    tracks = results.table("tracks", columns=["track"])
    events = results.table("events", columns=["frame"])
    return Figures(
        columns=columns,
        per_frame=None if columns is None else columns / max(results.n_frames, 1),
        error_px=error,
        low_scores=low,
        lattice=lattice,
        lattice_unit=unit,
        grains=grains,
        main_class=_main_class(results.table("phases")),
        defects=None
        if defects is None
        else dict(zip(defects["kind"].astype(str), defects["count"].astype(int), strict=True)),
        tracks=None if tracks is None else int(tracks["track"].nunique()),
        events=None if events is None else len(events),
    )


def summary(results: Results, figures: Figures) -> str:
    """One paragraph: what was found and how sure it is."""
    y, x = results.shape
    size = f"{y} × {x} px"
    if results.pixel is not None:
        size += f" ({y * results.pixel[0] / 10:.3g} × {x * results.pixel[1] / 10:.3g} nm)"
    what = "one image" if results.n_frames == 1 else f"{results.n_frames:,} frames"
    parts = [f"In {what} of {size}, {_columns_words(results, figures)}."]
    if figures.lattice is not None:
        a, b, gamma = (plus_minus(*figures.lattice[k]) for k in ("a", "b", "gamma"))
        unit = "Å" if figures.lattice_unit == "A" else "px"
        grains = "" if figures.grains <= 1 else f" in the largest of {figures.grains} grains"
        parts.append(f"The primitive lattice{grains} has a = {a} {unit}, b = {b} {unit} and γ = {gamma}°.")
    if figures.main_class is not None:
        name, value, error = figures.main_class
        about = f"{value:.2f}" if not np.isfinite(error) else f"{value:.2f} ± {error:.2f}"
        parts.append(f"The symmetry network calls the area {name} (mean probability {about}).")
    if verdict := results.about.get("survey", {}).get("lattice_verdict"):
        parts.append(f"The lattice of the columns is {verdict}.")
    if figures.defects:
        total = sum(figures.defects.values())
        kinds = sorted(figures.defects.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds[:4])
        more = "" if len(kinds) <= 4 else f" and {len(kinds) - 4} more kinds"
        tracked = f"; they form {figures.tracks:,} tracks" if figures.tracks else ""
        happened = f" with {figures.events:,} events" if figures.tracks and figures.events else ""
        parts.append(f"{total:,} sightings of defects ({listed}{more}){tracked}{happened}.")
    elif figures.defects is not None:
        parts.append("No defects were found.")
    return " ".join(parts)


def key_numbers(results: Results, figures: Figures) -> list[tuple[str, str, str]]:
    """(value, label, how sure) for the head of the page."""
    shown: list[tuple[str, str, str]] = [
        (f"{results.n_frames:,}", "frame" + "s" * (results.n_frames != 1), "")
    ]
    if figures.per_frame is not None:
        total = f"{figures.columns:,} in all" if results.n_frames > 1 else ""
        label = "columns per frame" if results.n_frames > 1 else "columns"
        shown.append((f"{figures.per_frame:,.0f}", label, total))
    if figures.error_px is not None:
        if results.pixel is not None:
            pm = 100 * figures.error_px * results.pixel[0]
            shown.append((f"{pm:.2g} pm", "position error", f"{figures.error_px:.2g} px, 1σ per axis"))
        else:
            shown.append((f"{figures.error_px:.2g} px", "position error", "1σ per axis"))
    if figures.lattice is not None:
        unit = "Å" if figures.lattice_unit == "A" else "px"
        first, _, second = plus_minus(*figures.lattice["a"]).partition(" ± ")
        shown.append((first, f"lattice vector a ({unit})", f"± {second}" if second else "no error known"))
    if figures.main_class is not None:
        name, value, error = figures.main_class
        sure = f"p = {value:.2f}" + (f" ± {error:.2f}" if np.isfinite(error) else "")
        shown.append((name, "symmetry", sure))
    if figures.defects is not None:
        sightings = sum(figures.defects.values())
        label = "defects per frame" if results.n_frames > 1 else "defects"
        sure = f"{sightings:,} sightings" if results.n_frames > 1 else ""
        shown.append((f"{sightings / max(results.n_frames, 1):,.3g}", label, sure))
    if figures.tracks:
        shown.append((f"{figures.tracks:,}", "tracks", f"{figures.events or 0:,} events"))
    return shown


def checks(results: Results) -> list[Check]:
    """The quality panel: what the pipeline measured, and what it could not."""
    found = results.json("quality")
    rows = []
    either = "half_dose_agreement" if "half_dose_agreement_px" in found else "half_dose_agreement_px"
    for key in [*(key for key in CHECKS if key != either), *sorted(set(found) - set(CHECKS))]:
        name, unit = CHECKS.get(key, (key.replace("_", " ").capitalize(), ""))
        item = found.get(key)
        if not isinstance(item, Mapping):
            item = {} if item is None else {"value": item}
        value = item.get("value")
        if value is None:
            rows.append(
                Check(name, "–", str(item.get("meaning", "not possible with this input")), "not measured")
            )
            continue
        state = "check" if item.get("warn") else "fine"
        rows.append(Check(name, _value(value, unit), str(item.get("meaning", "")), state))
    return rows


def doubts(results: Results, figures: Figures) -> list[Doubt]:
    """What to distrust, the worst first."""
    survey = results.about.get("survey", {})
    told = set(results.input.get("notices", []))  # under what was read and assumed
    found = [Doubt("serious", text) for text in _contrast(survey)]
    if figures.columns == 0:
        found.append(
            Doubt(
                "serious", "No columns were found at all: wrong scale or contrast, or no atomic resolution."
            )
        )
    warnings = dict.fromkeys(str(text) for text in results.about.get("warnings", []))
    found += [Doubt("care", sentence(text, "")) for text in warnings if text not in told]
    found += [
        Doubt("care", sentence(f"{row.name}: {row.value}", row.meaning))
        for row in checks(results)
        if row.state == "check"
    ]
    if results.pixel is None:
        found.append(
            Doubt(
                "care",
                "The pixel size is not known, so lengths are in pixels. Give it with --set input.pixel_A=…, or let a known lattice set it with --set calibrate.material=….",
            )
        )
    elif results.source("pixel").strip().lower() in ("", "unknown", "guess", "guessed"):
        found.append(
            Doubt(
                "care",
                "Nothing says where the pixel size comes from; every length in Å is only as good as it is.",
            )
        )
    if figures.low_scores is not None and figures.low_scores > 0.1:
        found.append(
            Doubt(
                "care",
                f"{100 * figures.low_scores:.0f} % of the columns have a score below 0.8; counts and densities depend on the threshold.",
            )
        )
    found += _few(results, figures)
    found.append(
        Doubt(
            "note",
            "Error bars assume independent counting and read-out noise and columns of one shape. Overlapping columns, tilt, residual aberrations and scan distortion shift positions without widening the bars.",
        )
    )
    if figures.lattice is not None and figures.lattice_unit == "A":
        found.append(
            Doubt(
                "note",
                "Errors of lattice constants are statistical; an error of the pixel size (often 1–3 % in an uncorrected file) is common to all lengths and comes on top.",
            )
        )
    return found


def sentence(first: str, second: str) -> str:
    """Two parts as two sentences, whoever wrote them."""
    parts = [part.strip().rstrip(".") for part in (first, second) if part.strip()]
    return " ".join(part[0].upper() + part[1:] + "." for part in parts)


def plus_minus(value: float, error: float) -> str:
    """'3.182 ± 0.004': the error with two digits below 1.95 of its decade, else one; the value to match."""
    if not np.isfinite(value):
        return "–"
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}".replace("-", "−")
    digits = -int(np.floor(np.log10(error)))
    digits += int(round(error * 10**digits, 6) < 1.95)
    digits = max(digits, 0)
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def _columns_words(results: Results, figures: Figures) -> str:
    if figures.columns is None:
        return "no search for columns was made"
    if not figures.columns:
        return "no atomic columns were found"
    per = "" if results.n_frames == 1 else f", {figures.per_frame:,.0f} per frame on average"
    words = f"{figures.columns:,} atomic columns were found{per}"
    if figures.error_px is None:
        return words
    if results.pixel is None:
        return f"{words}, each known to about {figures.error_px:.2g} px (1σ)"
    pm = 100 * figures.error_px * results.pixel[0]
    return f"{words}, each known to about {pm:.2g} pm (1σ)"


def _contrast(survey: Mapping[str, Any]) -> list[str]:
    p = survey.get("p_bright")
    if p is None:
        return []
    sure = max(float(p), 1 - float(p))
    if sure >= 0.9:
        return []
    which = "bright" if survey.get("bright", float(p) >= 0.5) else "dark"
    return [
        f"Whether columns are bright or dark was a close call (odds {sure:.2f} for {which}). If they are the other way round, every position is between the true ones: set columns.contrast."
    ]


def _few(results: Results, figures: Figures) -> list[Doubt]:
    found = []
    if 1 < results.n_frames < 10:
        found.append(
            Doubt(
                "care",
                f"Only {results.n_frames} frames: curves against time and rates rest on little.",
            )
        )
    if results.n_frames > 1 and results.times is None:
        found.append(
            Doubt(
                "care",
                "Frame times are not known, so rates are per frame. Recordings pause: give the times with --set input.times_csv=….",
            )
        )
    weak = [
        name
        for name, rate in results.json("rates").items()
        if isinstance(rate, Mapping) and rate.get("count") is not None and rate["count"] < 5
    ]
    if weak:
        listed = ", ".join(weak[:5]) + (" and others" if len(weak) > 5 else "")
        found.append(
            Doubt("care", f"Fewer than five events are behind {listed}: only the interval means something.")
        )
    fast = [
        name
        for name, rate in results.json("rates").items()
        if name.startswith("hops of")
        and isinstance(rate, Mapping)
        and rate.get("high", 0) is None
        and rate.get("unit") in ("1/s", "1/frame")
    ]
    if fast:
        found.append(
            Doubt(
                "care",
                f"No upper end for {', '.join(fast)}: it moved in every step, so frames follow each other too slowly.",
            )
        )
    if figures.grains > 1:
        found.append(
            Doubt(
                "note",
                f"{figures.grains} lattices were needed; the summary is of the one with the most columns.",
            )
        )
    return found


def _value(value: Any, unit: str) -> str:
    if isinstance(value, bool | str):
        return str(value)
    number = float(value)
    if unit == "%":
        return f"{100 * number:.2g} %"
    return f"{number:.3g} {unit}".strip()


def _lattice(table: pd.DataFrame | None) -> tuple[dict[str, tuple[float, float]] | None, str, int]:
    """Mean over frames of the grain with the most columns, its error, the unit, the number of grains."""
    if table is None or table.empty:
        return None, "px", 0
    weight = table["columns"] if "columns" in table else pd.Series(1, index=table.index)
    main = weight.groupby(table["grain"]).sum().idxmax()
    rows = table[table["grain"] == main]
    unit = "A" if {"a_A", "b_A"} <= set(rows) and rows[["a_A", "b_A"]].notna().all(axis=None) else "px"
    found = {}
    for key, column in (("a", f"a_{unit}"), ("b", f"b_{unit}"), ("gamma", "gamma_deg")):
        values = rows[column].to_numpy(float)
        error = (
            rows[f"{column}_err"].to_numpy(float) if f"{column}_err" in rows else np.full(len(rows), np.nan)
        )
        n = len(values)
        scatter = float(np.std(values, ddof=1)) / np.sqrt(n) if n > 1 else 0.0
        fit = float(np.sqrt(np.nanmean(error**2) / n)) if np.isfinite(error).any() else np.nan
        found[key] = (float(np.mean(values)), float(np.nanmax([scatter or np.nan, fit])) if n else np.nan)
    return found, unit, int(table["grain"].nunique())


def _main_class(phases: pd.DataFrame | None) -> tuple[str, float, float] | None:
    names = [] if phases is None else [n for n in CLASS_COLOURS if f"mean_{n}" in phases]
    if phases is None or not names or phases.empty:
        return None
    means = {n: float(phases[f"mean_{n}"].mean()) for n in names}
    if not np.isfinite(list(means.values())).any():
        return None
    best = max(means, key=lambda n: np.nan_to_num(means[n], nan=-1.0))
    column = phases.get(f"mean_{best}_err")
    return best, means[best], float("nan") if column is None else float(column.mean())
