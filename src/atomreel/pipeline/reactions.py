"""Defects of a finished Run judged over the whole movie, site by site: what stands where, what it turns into, how fast.

A single frame leaves dim sites in doubt. Here every lattice site keeps its name through the movie, each frame only makes
its possible occupants more or less likely, and what is likely before and after counts (`kinetics.hidden`). A dopant with
neighbours that may lack an atom is one thing with a state: none missing, or which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import expit

from atomreel.core.errors import InputError
from atomreel.core.files import write_json, write_table
from atomreel.core.material import Material, load_material
from atomreel.core.run import RunFolder
from atomreel.core.tables import check_table
from atomreel.interpret.lattice import LatticeFit, fit_lattices
from atomreel.interpret.levels import Levels, fit_levels, relative_brightness
from atomreel.interpret.naming import name_sites
from atomreel.kinetics.beam import cross_section
from atomreel.kinetics.hidden import fit_hidden
from atomreel.kinetics.intervals import Estimate, scaled, to_rates
from atomreel.pipeline.bare import SPREAD, in_holes, with_bare_sites
from atomreel.pipeline.complexes import ONE_HOP, SURE, Complex, Sublattice, apart, find_complexes
from atomreel.pipeline.evolution import Judged, describe_reactions
from atomreel.pipeline.hops import hops_within
from atomreel.pipeline.paths import retraced
from atomreel.pipeline.surface import sites_of_run
from atomreel.track.link import link
from atomreel.track.sites import Sites

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FEWEST = 20  # sites of a sublattice below which its levels are not learned
SWEEPS = (60, 30)  # of the sampler for single sites, kept and before
TWO_HOPS = 2.1  # times the distance of sites of a kind: the longest move between two frames
ALONE = 3.0  # of the log likelihood, beyond what the best of all sites and frames reaches by chance
BESIDE = 1.0  # of the log likelihood, beyond what the best of the sites nearby reaches by chance
BLURRED = 0.1  # of the sites more than usual without a column: such a frame is not judged


def reactions_of_run(
    run: Path,
    *,
    out: Path,
    material: str | None = None,
    movie: Path | None = None,
    draws: int = 1000,
    rng: int = 0,
) -> dict[str, Estimate]:
    """Write OUT/defects.parquet, tracks.parquet, levels.csv, rates.json, what `describe_reactions` adds and figures of a Run; return the rates.

    material: name or TOML file; by default what the Run was told. defects: as in a Run, with `state` (neighbour that lacks an atom, 1 …, counted by
    atan2(dy, dx) from −180° with y down; 0 none) and `track`. levels: brightness of every occupant. movie: the file of the Run, where it does not lie beside it. draws: of the sampler.
    Raises RunError for a folder that is no Run, InputError for one without material or lattice.
    """
    if out.suffix or (out.exists() and not out.is_dir()):
        raise InputError(f"-o {out}: the name of a folder is needed")
    about = RunFolder(run).about()
    wanted = material or about["recipe"].get("defects", {}).get("material")
    if not wanted:
        raise InputError(
            f"{run}: which defects can be there follows from the material; give one, e.g. --material ws2"
        )
    sites, times = sites_of_run(run)
    shape = (int(about["input"]["shape"][0]), int(about["input"]["shape"][1]))
    pixel = about["input"].get("pixel_A")
    layer = load_material(wanted)
    sites, layers = judge_sites(sites, layer, shape=shape, times=times, rng=rng)
    complexes = find_complexes(sites, layers, layer, times=times, draws=draws, rng=rng)
    tracks = list_defects(sites, layers, complexes)
    size = (float(pixel[0]), float(pixel[1])) if pixel else None
    rates = _rates(complexes)
    rates |= _hop_rates(tracks, (layers, complexes), sites, shape=shape, clock=(times, size))
    rates |= per_dose(rates, dose=about["input"].get("dose"), times=times)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "tracks.parquet", tracks, kind="tracks")
    write_table(out / "defects.parquet", tracks.drop(columns=["track", "link"]), kind="defects")
    write_table(out / "levels.csv", _level_table(layers), kind="levels")
    write_json(out / "rates.json", to_rates(rates))
    frames = np.flatnonzero(np.any([layer.seen.any(axis=0) for layer in layers], axis=0))
    judged = Judged(tracks, complexes, rates, sites, frames, times, size)
    describe_reactions(run, out, judged, movie=movie, rng=rng)
    return rates


def per_dose(
    rates: Mapping[str, Estimate], *, dose: float | None, times: Array | None
) -> dict[str, Estimate]:
    """The rates per incident electron and Å², and of those of a site or atom the cross-section [barn]; none where the dose is not known.

    dose: e⁻/Å² and frame. The beam is taken to stay on between frames: `dose` every usual interval.
    """
    if dose is None:
        return {}
    flux = float(dose) / (1.0 if times is None else float(np.median(np.diff(times))))
    found: dict[str, Estimate] = {}
    for name, rate in rates.items():
        size, _, time = rate.unit.rpartition("/")
        if time in ("s", "frame"):
            found[f"{name} per dose"] = scaled(rate, 1 / flux, f"{size} per e/Å²")
        if rate.unit in ("1/s", "1/frame"):
            found[f"{name} cross-section"] = cross_section(rate, flux)
    return found


def judge_sites(
    sites: Sites, material: Material, *, shape: tuple[int, int], times: Array | None, rng: int
) -> tuple[Sites, list[Sublattice]]:
    """The sites with those that were never filled, and every sublattice of every grain with the probability of each occupant at each site in each frame."""
    intensity = np.full(sites.found.shape, np.nan)
    there = sites.atoms[sites.atoms["site"] >= 0]
    intensity[there["site"], there["frame"]] = there["intensity"]
    typical = np.array([np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in intensity])
    fit = fit_lattices(sites.table.assign(intensity=typical, score=1.0), shape=shape)
    sites, fit, bare = with_bare_sites(sites, fit, shape=shape)
    never = np.full((len(sites.found) - len(intensity), len(intensity.T)), np.nan)
    intensity = np.concatenate([intensity, never])
    seen = np.isfinite(sites.found) & ~in_holes(sites, bare)
    empty = (seen & (sites.found == 0)).sum(0) / np.maximum(seen.sum(0), 1)
    seen &= empty <= np.median(empty) + BLURRED
    found = []
    for number, lattice in enumerate(fit.lattices):
        names = name_sites(lattice, material)
        for s, name in enumerate(names.names):
            rows = np.flatnonzero((fit.grain == number) & (fit.site == s))
            if len(rows) < FEWEST or not names.changes[s]:
                continue
            expected = {name: 1.0, names.vacancy[s]: 0.0, **dict(names.changes[s])}
            where = sites.table[["y", "x"]].to_numpy()[rows]
            ratio, scatter = relative_brightness(intensity[rows], where)
            levels = fit_levels(ratio, seen[rows], scatter, expected=expected)
            chance = _over_time(levels, seen[rows], times, rng)
            found.append(Sublattice(number, name, rows, levels, chance, seen[rows]))
    if not found:
        raise InputError(
            f"no lattice of {material.name} with {FEWEST} sites of a kind was found in the Run: {_what(fit)}"
        )
    return sites, found


def _what(fit: LatticeFit) -> str:
    return (
        f"{len(fit.lattices)} lattices with {', '.join(str(len(x.sites)) for x in fit.lattices)} sites"
        if fit.lattices
        else "none"
    )


def _over_time(levels: Levels, seen: npt.NDArray[np.bool_], times: Array | None, rng: int) -> Array:
    """(n, T, K) probabilities with the frames before and after taken into account."""
    site, frame = np.nonzero(seen)
    rows = pd.DataFrame({"track": site, "frame": frame})
    draws, burn = SWEEPS
    hidden = fit_hidden(
        rows, levels.log[site, frame], states=levels.names, times=times, draws=draws, burn=burn, rng=rng
    )
    out = np.zeros(levels.log.shape)
    out[site, frame] = hidden.probability
    return out


def list_defects(sites: Sites, layers: list[Sublattice], complexes: list[Complex]) -> pd.DataFrame:
    """Table of tracks: every occupant that is not the usual one, complexes as one thing."""
    parts, taken, first = [], set(), 0
    for c in complexes:
        part = c.rows.assign(kind=np.where(c.rows["state"] > 0, f"{c.dopant}+{c.vacancy}", c.dopant))
        parts.append(part.assign(score=part["score"] * part["p"], track=part["track"] + first))
        first += int(part["track"].max()) + 1
        for j in range(c.slots.shape[1]):
            bound = c.rows[(c.rows["state"] == j + 1) | (c.rows["state"] == 0)]
            taken |= set(zip(c.slots[bound["site"], j].tolist(), bound["frame"].tolist(), strict=True))
    done = {c.dopant for c in complexes}
    for layer in _joined(layers):
        part = _others(sites, layer, done, taken)
        if len(part):
            part = _followed(sites, layer, part, taken=taken)
        if len(part):
            parts.append(part.assign(track=part["track"] + first, state=0))
            first += int(part["track"].max()) + 1
    if not parts:
        raise InputError("no site of the movie ever holds anything but its usual occupant")
    return _placed(sites, pd.concat(parts, ignore_index=True))


def _joined(layers: list[Sublattice]) -> list[Sublattice]:
    """Sublattices and grains of one kind as one: what hops from C to C, or over a boundary, is still the same."""
    kinds: dict[tuple[str, ...], list[Sublattice]] = {}
    for layer in layers:
        kinds.setdefault(layer.levels.names, []).append(layer)
    return [
        replace(
            alike[0],
            rows=np.concatenate([x.rows for x in alike]),
            levels=replace(alike[0].levels, log=np.concatenate([x.levels.log for x in alike])),
            probability=np.concatenate([x.probability for x in alike]),
            seen=np.concatenate([x.seen for x in alike]),
        )
        for alike in kinds.values()
    ]


def _others(sites: Sites, layer: Sublattice, done: set[str], taken: set[tuple[int, int]]) -> pd.DataFrame:
    which = layer.probability.argmax(2)
    odd = (which > 0) & (layer.probability.max(2) >= SURE) & layer.seen
    site, frame = np.nonzero(odd)
    kind = np.array(layer.levels.names, dtype=object)[which[site, frame]]
    keep = [
        k not in done and (int(layer.rows[s]), int(f)) not in taken
        for k, s, f in zip(kind, site, frame, strict=True)
    ]
    site, frame, kind = site[keep], frame[keep], kind[keep]
    where = sites.table[["y", "x"]].to_numpy()[layer.rows[site]]
    table = pd.DataFrame({"frame": frame, "y": where[:, 0], "x": where[:, 1], "site": layer.rows[site]})
    gain = layer.levels.log[site, frame, which[site, frame]] - layer.levels.log[site, frame, 0]
    return table.assign(kind=kind, score=layer.probability[site, frame].max(1), gain=gain)


def _followed(
    sites: Sites, layer: Sublattice, table: pd.DataFrame, *, taken: set[tuple[int, int]]
) -> pd.DataFrame:
    """The table with tracks. What is seen in one frame alone, with nothing a hop away before or after, is left out first unless no
    noise of so many sites and frames could look like it: joined by two hops it would be many moves that never were."""
    step, where = apart(sites, layer.rows), sites.table[["y", "x"]].to_numpy()[layer.rows]
    if table["frame"].nunique() > 2:
        pieces = link(table, max_step=ONE_HOP * step)
        clear = pieces["gain"] > np.log(layer.seen.sum()) + ALONE
        kept = clear | (pieces["track"].map(pieces["track"].value_counts()) > 1)
        table = pieces[kept].drop(columns=["track", "link"])
    if not len(table):
        return table.assign(track=pd.Series(dtype="int64"))
    table = _with_short_stays(layer, where, table, taken=taken, reach=ONE_HOP * step)
    tracks = _bridged(sites, layer, link(table, max_step=TWO_HOPS * step), reach=TWO_HOPS * step)
    return retraced(tracks, layer, where, taken=taken, reach=ONE_HOP * step)


def _with_short_stays(
    layer: Sublattice, where: Array, table: pd.DataFrame, *, taken: set[tuple[int, int]], reach: float
) -> pd.DataFrame:
    """The table with stays of a single frame beside what is seen before or after, which a site alone takes for noise.

    What stands somewhere in one frame most likely stood there or a hop away in the next and in the last: where nothing is listed near,
    the site nearby that speaks most for the kind is taken, if it does so more than the best of so many would by chance. taken: site and
    frame of what is part of a complex.
    """
    names, tree = list(layer.levels.names), cKDTree(where)
    row_of = {int(site): n for n, site in enumerate(layer.rows)}
    rows = [row_of[int(site)] for site in table["site"]]
    held = set(zip(table["frame"].tolist(), rows, strict=True))
    found: dict[tuple[int, int], tuple[str, float]] = {}
    for frame, row, kind in zip(table["frame"].tolist(), rows, table["kind"], strict=True):
        around = np.array(tree.query_ball_point(where[row], reach))
        for other in (frame - 1, frame + 1):
            if not 0 <= other < layer.seen.shape[1] or any((other, n) in held for n in around.tolist()):
                continue
            free = [(int(site), other) not in taken for site in layer.rows[around]]
            near = around[layer.seen[around, other] & free]
            log = layer.levels.log[near, other]
            gain = np.where(log.argmax(axis=1) == names.index(kind), log[:, names.index(kind)] - log[:, 0], 0)
            if len(near) and gain.max() > np.log(len(around)) + BESIDE:
                found[other, int(near[gain.argmax()])] = (str(kind), float(gain.max()))
    extra = pd.DataFrame(
        [(f, *where[n], int(layer.rows[n]), kind, float(expit(g)), g) for (f, n), (kind, g) in found.items()],
        columns=["frame", "y", "x", "site", "kind", "score", "gain"],
    )
    return pd.concat([table, extra], ignore_index=True) if len(extra) else table


def _bridged(sites: Sites, layer: Sublattice, tracks: pd.DataFrame, *, reach: float) -> pd.DataFrame:
    """Tracks with their gaps of one or two frames filled: what was here before and after stood somewhere between.

    A site alone, of which one dim frame proves little, does not know that its neighbour lost a vacancy just then. The frame goes
    to the site within reach of both ends that speaks most for the kind, if more than for the usual occupant.
    """
    where = sites.table[["y", "x"]].to_numpy()[layer.rows]
    names, tree, filled = list(layer.levels.names), cKDTree(where), []
    held = set(zip(tracks["frame"].tolist(), tracks["site"].tolist(), strict=True))
    for number, own in tracks.sort_values("frame").groupby("track", sort=True):
        rows = own[["frame", "y", "x"]].to_numpy()
        for k in np.flatnonzero(np.diff(rows[:, 0]) > 1):
            kind, here = own["kind"].iloc[k], rows[k, 1:]
            for frame in range(int(rows[k, 0]) + 1, int(rows[k + 1, 0])):
                near = [
                    n
                    for n in tree.query_ball_point(here, reach)
                    if np.hypot(*(where[n] - rows[k + 1, 1:])) <= reach * (rows[k + 1, 0] - frame)
                    and layer.seen[n, frame]
                    and (frame, int(layer.rows[n])) not in held
                ]
                log = layer.levels.log[near, frame]
                gain = log[:, names.index(kind)] - log[:, 0]
                if len(near) and gain.max() > 0:
                    best = near[int(gain.argmax())]
                    here = where[best]
                    held.add((frame, int(layer.rows[best])))
                    filled.append(
                        (frame, *here, int(layer.rows[best]), kind, float(expit(gain.max())), number)
                    )
    if not filled:
        return tracks
    extra = pd.DataFrame(filled, columns=["frame", "y", "x", "site", "kind", "score", "track"])
    return pd.concat([tracks, extra], ignore_index=True).sort_values(["frame", "track"], ignore_index=True)


def _placed(sites: Sites, table: pd.DataFrame) -> pd.DataFrame:
    """With the places in the frames: of the column found there, else of the site. site_y, site_x: those of the site at rest."""
    frames = sorted(table["frame"].unique())
    carried = {t: sites.at(int(t)) for t in frames}
    where = np.array([carried[t][s] for t, s in zip(table["frame"], table["site"], strict=True)])
    table = table.rename(columns={"y": "site_y", "x": "site_x"}).drop(columns=["p", "gain"], errors="ignore")
    table = table.assign(order=np.arange(len(table)), y=where[:, 0], x=where[:, 1])
    found = sites.atoms.loc[sites.atoms["site"] >= 0, ["frame", "site", "y", "x", "y_err", "x_err"]]
    joined = table.merge(found, on=["frame", "site"], how="left", suffixes=("", "_found")).sort_values(
        "order"
    )
    for axis in "yx":
        joined[axis] = joined[f"{axis}_found"].fillna(joined[axis])
        joined[f"{axis}_err"] = joined[f"{axis}_err"].fillna(SPREAD * sites.spacing)
    joined = joined.drop(columns=["order", "y_found", "x_found"]).assign(source="movie")
    return check_table(joined.sort_values(["frame", "track"], ignore_index=True), "tracks")


def _rates(complexes: list[Complex]) -> dict[str, Estimate]:
    rates: dict[str, Estimate] = {}
    for c in complexes:
        rates |= c.hidden.rates.estimates()
        names = {"catch": (0, 1), "release": (1, 0), "turn": (1, 2)}
        by_name = c.tied.rates.estimates()
        for word, (i, j) in names.items():
            if max(i, j) < len(c.tied.rates.states):
                rates[f"{word} of {c.dopant}"] = by_name[f"{c.tied.rates.states[i]}→{c.tied.rates.states[j]}"]
    return rates


def _hop_rates(
    tracks: pd.DataFrame,
    judged: tuple[list[Sublattice], list[Complex]],
    sites: Sites,
    *,
    shape: tuple[int, int],
    clock: tuple[Array | None, tuple[float, float] | None],
) -> dict[str, Estimate]:
    """Of every kind that is no complex. clock: times of the frames, and size of a pixel."""
    layers, complexes = judged
    among = {name: layer.rows for layer in _joined(layers) for name in layer.levels.names}
    bound = {c.dopant for c in complexes} | {f"{c.dopant}+{c.vacancy}" for c in complexes}
    rates: dict[str, Estimate] = {}
    for kind in sorted(set(tracks["kind"]) - bound):
        own, rows = tracks[tracks["kind"] == kind], among[kind]
        hop = apart(sites, rows)
        if own["track"].duplicated().sum() > 1:
            found = hops_within(own, sites, rows, hop=hop, shape=shape, times=clock[0], pixel=clock[1])
            rates |= found.estimates(kind) if found else {}
    return rates


def _level_table(layers: list[Sublattice]) -> pd.DataFrame:
    rows: list[Mapping[str, object]] = [
        {
            "grain": layer.grain, "sublattice": layer.name, "sites": len(layer.rows), "occupant": name,
            "brightness": layer.levels.ratio[k], "width": layer.levels.width[k], "missed": layer.levels.missing[k],
            "share": layer.levels.share[k],
        }
        for layer in layers
        for k, name in enumerate(layer.levels.names)
    ]  # fmt: skip
    return pd.DataFrame(rows)
