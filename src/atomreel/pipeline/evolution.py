"""What the judged defects of a Run did: kinds of trajectories, whether their kinetics has memory, what they look like, and a page of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.files import write_json, write_table
from atomreel.core.run import RunFolder
from atomreel.kinetics.checks import chapman_kolmogorov, dwell_times, survival
from atomreel.kinetics.intervals import Estimate, in_words
from atomreel.kinetics.trajectories import KINDS, SHORT, classify_trajectories
from atomreel.pipeline.complexes import Complex
from atomreel.pipeline.looks import Looks, inner_classes, look_at, open_frames
from atomreel.report.classes import draw_class_counts, draw_classes, draw_criteria, draw_paths
from atomreel.report.drawing import Drawing
from atomreel.report.memory import draw_powers, draw_survival
from atomreel.report.network import draw_network
from atomreel.report.pictures import mean_image
from atomreel.report.reactionpage import Section, number_table, write_reaction_page
from atomreel.report.reactions import draw_rates, draw_states
from atomreel.report.results import open_results
from atomreel.track.sites import Sites

Array = npt.NDArray[np.float64]
Curve = tuple[str, tuple[Array, Array, Array, Array], tuple[float, float, float] | None]
SHORTEST = 3  # points of a track that is judged
FEWEST_DWELLS = 5
NO_END = "no upper end"
DOUBT = 0.05  # p of the Chapman–Kolmogorov test below which a note says so


@dataclass(frozen=True, eq=False)
class Judged:
    """What `reactions_of_run` found. frames: those that were judged. times: (T,) [s] or None. pixel: [Å] or None."""

    tracks: pd.DataFrame
    complexes: list[Complex]
    rates: Mapping[str, Estimate]
    sites: Sites
    frames: npt.NDArray[np.int64]
    times: Array | None
    pixel: tuple[float, float] | None

    @property
    def unit(self) -> str:
        return "frames" if self.times is None else "s"


def describe_reactions(
    run: Path, out: Path, judged: Judged, *, movie: Path | None = None, rng: int = 0
) -> list[str]:
    """Write OUT/trajectories.csv, checks.json, classes.parquet, figures and reactions.html; gives what a reader must know.

    movie: where the file of the Run lies, if not beside it; without it there are no crops and no classes.parquet.
    """
    about = RunFolder(run).about()
    tracks = judged.tracks.assign(label=_labels(judged.tracks))
    source, missing = open_frames(run, about, movie)
    notes = [missing] if missing else []
    looks: Looks | None = None
    if source is not None:
        try:
            looks = look_at(source, tracks, spacing=judged.sites.spacing, rng=rng)
        except InputError as error:
            notes.append(f"crops of the defects are not sorted: {error}")
    kinds = trajectories(judged)
    write_table(out / "trajectories.csv", kinds, kind="trajectories")
    checks: dict[str, Any] = {}
    drawn: dict[str, list[Drawing]] = {"reactions": [], "memory": [], "looks": [], "where": []}
    pictures = {} if looks is None else looks.mean_of(_labels(looks.table))
    for c in judged.complexes:
        _draw_complex(c, judged, out, pictures, drawn, alone=len(judged.complexes) == 1)
        checks |= _check_complex(c, judged, out, drawn, notes, rng=rng)
    curves, told = _dwells(judged)
    if curves:
        drawn["memory"].append(draw_survival(curves, unit=judged.unit, folder=out))
    checks["dwells"] = told
    if looks is not None:
        checks["classes"] = _classes(looks, judged, out, drawn, notes, rng=rng)
    checks["notes"] = notes
    write_json(out / "checks.json", checks)
    _where(run, judged, kinds, out, drawn)
    _page(run, judged, kinds, out, drawn, notes)
    return notes


def _labels(table: pd.DataFrame) -> pd.Series:
    """Kind and state as one word, the name of a state in rates.json."""
    state = table["state"].fillna(0).astype(int)
    return table["kind"].where(state == 0, table["kind"] + ":" + state.astype(str))


def trajectories(judged: Judged) -> pd.DataFrame:
    """`kinetics.trajectories.classify_trajectories` of every track of three points and more, with the defect's usual kind as `of`."""
    tracks = judged.tracks
    number = tracks["track"].map(tracks["track"].value_counts())
    rows = tracks[number >= SHORTEST].reset_index(drop=True)
    columns = [
        "track",
        "of",
        "points",
        "frames",
        "switches",
        "p_weak",
        "p_diffusing",
        "p_flickering",
        "kind",
        "d_low",
        "d",
        "d_high",
    ]
    if not len(rows):
        return pd.DataFrame(columns=columns)
    carried = {int(t): judged.sites.at(int(t)) for t in rows["frame"].unique()}
    seen = np.array([carried[t][s] for t, s in zip(rows["frame"], rows["site"], strict=True)])
    rest = rows[["site_y", "site_x"]].to_numpy() + rows[["y", "x"]].to_numpy() - seen
    still = rows.assign(y=rest[:, 0], x=rest[:, 1], label=_labels(rows))
    found = classify_trajectories(still, times=judged.times, by="label", judged=judged.frames.tolist())
    area = 1.0 if judged.pixel is None else judged.pixel[0] * judged.pixel[1]
    of = rows.groupby("track")["kind"].agg(lambda k: k.mode().iloc[0])
    found = found.assign(of=found["track"].map(of), **{c: found[c] * area for c in ("d_low", "d", "d_high")})
    return found[columns]


def _draw_complex(
    c: Complex,
    judged: Judged,
    out: Path,
    pictures: Mapping[str, Array],
    drawn: dict[str, list[Drawing]],
    *,
    alone: bool,
) -> None:
    folder = out if alone else out / f"{c.dopant}+{c.vacancy}"
    folder.mkdir(exist_ok=True)
    h = c.hidden.rates
    ends = (h.low, h.high)
    drawn["reactions"] += [
        draw_network(h.states, h.q, ends, unit=h.unit, folder=folder, pictures=pictures),
        draw_rates(h.states, h.q, ends, unit=h.unit, folder=folder),
        draw_states(c.rows, h.states, times=judged.times, folder=folder),
    ]


def _check_complex(
    c: Complex, judged: Judged, out: Path, drawn: dict[str, list[Drawing]], notes: list[str], *, rng: int
) -> dict[str, Any]:
    """The Chapman–Kolmogorov test of the likeliest states, neighbours as one: none lacks an atom, or any does."""
    rows = c.rows.assign(any=np.where(c.rows["state"] > 0, f"{c.dopant}+{c.vacancy}", c.dopant))
    names = (c.dopant, f"{c.dopant}+{c.vacancy}")
    try:
        found = chapman_kolmogorov(rows, by="any", states=names, times=judged.times, rng=rng)
    except InputError as error:
        notes.append(f"{names[1]}: not tested for memory: {error}")
        return {}
    shares = (found.seen, found.expected, found.low, found.high)
    drawn["memory"].append(
        draw_powers(names, found.lags, shares, tau=found.tau, p=found.p, unit=judged.unit, folder=out)
    )
    if found.p < DOUBT:
        notes.append(
            f"{names[1]}: what comes next depends on more than the present state (p = {found.p:.2g}): the rates are averages over that"
        )
    told = {key: _plain(value) for key, value in asdict(found).items()}
    return {f"chapman_kolmogorov {names[1]}": told}


def _dwells(judged: Judged) -> tuple[list[Curve], dict[str, Any]]:
    """Survival of every state of a complex, neighbours together, and of vacancies at a site, with the rate of leaving."""
    kinds: list[tuple[str, pd.DataFrame, tuple[float, float, float] | None]] = []
    for c in judged.complexes:
        out_rate = c.tied.draws.sum(axis=2)
        for state, name in ((0, c.dopant), (1, f"{c.dopant}+{c.vacancy}, one neighbour")):
            low, middle, high = np.quantile(out_rate[:, state], [0.025, 0.5, 0.975])
            dwells = dwell_times(c.rows, times=judged.times)
            own = dwells[dwells["state"] == "0" if state == 0 else dwells["state"] != "0"]
            kinds.append((name, own, (float(middle), float(low), float(high))))
    for kind, own in judged.tracks.groupby("kind"):
        hops = judged.rates.get(f"hops of {kind}")
        if hops is not None:
            ends = (hops.value, hops.low, hops.high) if np.isfinite(hops.high) else None
            kinds.append((f"{kind} at a site", dwell_times(own, by="site", times=judged.times), ends))
    curves: list[Curve] = []
    told: dict[str, Any] = {}
    for name, dwells, leaving in kinds:
        if int((dwells["start_seen"] & dwells["ended"]).sum()) < FEWEST_DWELLS:
            continue
        found = survival(dwells, unit=judged.unit)
        curves.append((name, (found.time, found.share, found.low, found.high), leaving))
        told[name] = {key: _plain(value) for key, value in asdict(found).items()}
    return curves, told


def _classes(
    looks: Looks, judged: Judged, out: Path, drawn: dict[str, list[Drawing]], notes: list[str], *, rng: int
) -> dict[str, Any]:
    """Writes classes.parquet and the figures of classes; gives the criteria and how classes and states agree."""
    unit = 1.0 if judged.pixel is None else float(np.mean(judged.pixel))
    told: dict[str, Any] = {"criteria": looks.classes.criteria.to_dict("records")}
    drawn["looks"].append(draw_criteria(looks.classes.criteria, folder=out))
    names = []
    for k in range(1, looks.classes.probability.shape[1] + 1):
        kinds = looks.table.loc[looks.table["class"] == k, "kind"].value_counts(normalize=True)
        names.append(
            f"class {k}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in kinds.head(2).items())
        )
    drawn["looks"].append(
        draw_classes(
            looks.images,
            looks.classes.probability,
            tuple(names),
            unit=unit,
            calibrated=judged.pixel is not None,
            folder=out,
        )
    )
    table = looks.table
    for c in judged.complexes:
        try:
            inner = inner_classes(judged.sites, c, rng=rng)
        except InputError as error:
            notes.append(f"{c.dopant}: no sub-classes from its nearest atoms: {error}")
            continue
        told[f"sub-classes of {c.dopant}"] = {
            "points": len(inner),
            "as_in_the_whole_movie": float((inner["sub_class"] == inner["state"]).mean()),
        }
        # Tracks of the complexes keep the order of the rows that they were made of, so frame and place find them.
        table = _joined(table, inner, c, judged)
    write_table(out / "classes.parquet", table, kind="classes")
    told["classes"] = names
    return told


def _joined(table: pd.DataFrame, inner: pd.DataFrame, c: Complex, judged: Judged) -> pd.DataFrame:
    """`table` with sub_class and its probability, by frame and site of the dopant."""
    sites = c.rows[["track", "frame", "site"]].merge(inner, on=["track", "frame"])[
        ["frame", "site", "sub_class", "p_sub_class"]
    ]
    own = judged.tracks[judged.tracks["kind"].isin([c.dopant, f"{c.dopant}+{c.vacancy}"])]
    named = own[["frame", "track", "site"]].merge(sites, on=["frame", "site"]).drop(columns="site")
    kept = [x for x in ("sub_class", "p_sub_class") if x in table]
    joined = table.drop(columns=kept).merge(named, on=["frame", "track"], how="left")
    for x in kept:
        joined[x] = table[x].combine_first(joined[x])
    return joined.astype({"sub_class": "Int64"})


def _where(
    run: Path, judged: Judged, kinds: pd.DataFrame, out: Path, drawn: dict[str, list[Drawing]]
) -> None:
    """Tracks over the mean image, and counts against time."""
    results = open_results(run)
    if results.preview is not None:
        tracks = judged.tracks
        rest = tracks.assign(y=tracks["site_y"], x=tracks["site_x"])
        # Sites are at rest in the frame that has most columns; the mean image stands as in the first frame.
        drift = results.table("drift")
        if drift is not None and len(drift):
            shift = (
                drift.set_index("frame")[["dy", "dx"]]
                .reindex([judged.sites.reference])
                .fillna(0.0)
                .to_numpy()[0]
            )
            rest = rest.assign(y=rest["y"] - shift[0], x=rest["x"] - shift[1])
        place = results.preview.place(rest[["y", "x"]])
        rest = rest.assign(y=place[:, 0], x=place[:, 1])
        unit = results.preview.scale * (1.0 if judged.pixel is None else float(np.mean(judged.pixel)))
        told = dict.fromkeys(tracks["track"].unique(), SHORT) | dict(
            zip(kinds["track"], kinds["kind"], strict=True)
        )
        drawn["where"].append(
            draw_paths(
                mean_image(results), rest, told, unit=unit, calibrated=judged.pixel is not None, folder=out
            )
        )
    drawn["where"].append(
        draw_class_counts(judged.tracks, frames=judged.frames, times=judged.times, folder=out)
    )


def _page(
    run: Path,
    judged: Judged,
    kinds: pd.DataFrame,
    out: Path,
    drawn: dict[str, list[Drawing]],
    notes: list[str],
) -> None:
    ended = {n: np.isfinite(r.high) for n, r in judged.rates.items()}
    rates = pd.DataFrame(
        [
            (n, r.value if ended[n] else "–", r.low, r.high if ended[n] else NO_END, r.unit, float(r.count))
            for n, r in judged.rates.items()
        ],
        columns=["what", "value", "low", "high", "unit", "events"],
    )
    notes = notes + [
        f"{n}: {in_words(r)}. Frames follow each other too slowly for it"
        for n, r in judged.rates.items()
        if not ended[n] and r.unit in ("1/s", "1/frame")
    ]
    number = (
        kinds.groupby(["of", "kind"])
        .size()
        .unstack(fill_value=0)
        .reindex(columns=[*KINDS, SHORT], fill_value=0)
    )
    counts = judged.tracks["kind"].value_counts()
    summary = (
        f"{judged.tracks['track'].nunique()} tracks in {len(judged.frames)} judged frames: "
        + ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    )
    sections = (
        Section("reactions", "Reactions", drawings=tuple(drawn["reactions"])),
        Section("rates", "Rates", tables=(number_table("Rates with 95 % intervals", rates),)),
        Section("memory", "Is it Markov?", drawings=tuple(drawn["memory"])),
        Section("looks", "What they look like", drawings=tuple(drawn["looks"])),
        Section(
            "where",
            "Where and how many",
            tables=(number_table("Kinds of trajectories", number.reset_index()),) if len(number) else (),
            drawings=tuple(drawn["where"]),
        ),
    )
    write_reaction_page(
        out / "reactions.html", name=run.name, summary=summary, notes=notes, sections=sections
    )


def _plain(value: Any) -> Any:
    """As JSON can hold it; what is no finite number becomes None."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
