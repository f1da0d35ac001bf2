"""Write docs/results.md from the measured figures: `make results`.

    python benchmarks/results.py [--measure NAME…]

Each measurement is a command of its own that leaves benchmarks/measured/NAME.json; `--measure` runs it again
first. What a person saw, and what limits a figure, stands in benchmarks/remarks.toml.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from results_defects import windows
from results_kinetics import full_movies, trajectories
from results_maps import real_maps
from results_movies import holes, reactions
from results_oneframe import oneframe
from results_tracks import tracks
from rows import REMARKS, measured, row

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "yardstick": "make yardstick",
    "peers": "make peers",
    "heights": "python benchmarks/bench_heights.py --particles 10; python benchmarks/bench_heights.py --particles 42 "
    "--tilts aligned --doses 3000 30000 --out benchmarks/measured/heights_aligned.json",
    "real": "python benchmarks/real.py out/real",
    "simulate": "python benchmarks/bench_simulate.py",
    "inference": "python benchmarks/bench_inference.py",
    "refine": "python benchmarks/bench_refine.py",
    "memory": "python benchmarks/bench_memory.py",
    "large": "python benchmarks/bench_large.py; python benchmarks/bench_large.py 4000 4000",
    "demo": "python benchmarks/bench_demo.py",
    "columns_dose": "python benchmarks/bench_dose.py",
    "dropout": "python benchmarks/bench_dropout.py",
    "bravais_2018": "python benchmarks/figures_2018.py",
    "precision": "python benchmarks/bench_precision.py",
    "species": "python benchmarks/bench_species.py",
    "decoders": "python benchmarks/bench_decoders.py",
    "single_atoms": "python benchmarks/bench_single_atoms.py",
    "neighbours": "python benchmarks/bench_neighbours.py",
    "graphene": "python benchmarks/bench_graphene.py --images 4",
    "domain": "python benchmarks/fit_domain.py",
    "bravais_fresh": "python benchmarks/bench_bravais.py --windows 1000",
    "real_maps": "python benchmarks/bench_real_maps.py",
    "transition_frame": "python benchmarks/bench_transition.py --movies 60",
    "symmetry": "python benchmarks/bench_symmetry.py",
    "growth": "python benchmarks/bench_growth.py series; python benchmarks/bench_growth.py movies out/growth; "
    "python benchmarks/bench_growth.py yardstick out/yardstick/holes --truth DATA/Y3_movies/holes",
    "link": "python benchmarks/bench_link.py",
    "tracks_peer": "python benchmarks/bench_tracks.py",
    "real_tracks": "python benchmarks/bench_real_tracks.py DATA",
    "reactions": "python benchmarks/bench_reactions.py --draws 150",
    "trajectories": "python benchmarks/bench_trajectories.py",
    "full_movies": "python benchmarks/bench_full_movies.py out/full_movies",
    "hops": "python benchmarks/bench_hops.py",
    "windows": "python benchmarks/bench_windows.py",
    "oneframe": "python benchmarks/bench_oneframe.py out/oneframe",
    "windows_search": "python benchmarks/search_windows.py",
    "boundary": "python benchmarks/bench_boundary.py out/real/graphene-hrtem-boundary",
}


def chain() -> Iterator[str]:
    """The figures that the first chain names."""
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    walk = measured("real").get("si-graphene-walk", {})
    if "found_within_0.5_A" in walk:
        hits, false, main = (
            walk["found_within_0.5_A"],
            walk["false_per_ten_frames"],
            walk["frames_in_main_track"],
        )
        yield row("Si walk: found within 0.5 Å", "≥ 0.95 of labelled frames", f"{hits:.3f}", hits >= 0.95)
        tracks = walk["tracks_that_touch_the_label"]
        yield row("Si walk: one track", "1", f"{tracks} ({main:.2f} of frames in the longest)", tracks == 1)
        yield row("Si walk: false Si", "≤ 1 per ten frames", f"{false:.2f}", false <= 1)
        if "reactions" in walk:
            over = walk["reactions"]
            shown = f"{over['found_within_0.5_A']:.3f}, {over['tracks_that_touch_the_label']}, {over['false_per_ten_frames']:.2f}"
            yield row(
                "Si walk over the whole movie (`reactions`): found, tracks, false per ten frames",
                "–",
                shown,
                None,
            )
        kind = f"{walk['mean_class']} ({walk['mean_class_fraction']:.2f})"
        yield row("Si walk: mean class", "hexagonal", kind, walk["mean_class"] == "hexagonal")
    boundary = measured("real").get("graphene-stem-boundary 4 nm", {})
    if "labelled" in boundary:
        off = boundary["found"] / boundary["labelled"] - 1
        figure = f"{boundary['found']} ({100 * off:+.1f} %)"
        yield row(
            "graphene-stem-boundary, columns", f"{boundary['labelled']} ± 5 %", figure, abs(off) <= 0.05
        )
    speed = measured("simulate")
    if speed:
        wall, own = speed["stem"]["images_per_s"], speed["stem"]["per_cpu_s"]
        figure = f"{wall:.0f} images/s by the clock, {own:.0f} per second of each core's own time"
        yield row("simulation of 256² STEM, 2 cores", "≥ 100 images/s", figure, wall >= 100)
    for threads, ways in measured("inference").items():
        figure = ", ".join(f"{way} {times['ms']:.0f}" for way, times in ways.items())
        yield row(f"column network, 512², {threads} [ms]", "–", figure, None)
    frames = measured("refine").get("2", {})
    for what, one in frames.items():
        shown = f"{one['frame']:.0f} ms: network {one['network']:.0f}, fit {one['fit']:.0f}, species {one['species']:.0f}"
        name = f"512² frame, array to table, 2 threads: {one['columns']:,} columns, {what}"
        yield row(
            name, "≤ 100 ms", f"{shown} (survey, once a movie, {one['survey']:.0f})", one["frame"] <= 100
        )
    for what, spent in measured("refine").get("two processes", {}).items():
        name = f"512² frame of a long movie, array to table, a process on each of 2 cores: {what}"
        yield row(name, "≤ 100 ms", f"{spent:.0f} ms per frame", spent <= 100)
    memory = measured("memory")
    if memory:
        more = memory["more_MiB"]
        yield row("5,000 against 50 frames of 128²", "< 1 GiB more", f"{more:.0f} MiB more", more < 1024)
    for frame in measured("large").values():
        what = f"one frame of {frame['side']:,}² px, lattice of {frame['lattice']:,}² px in it"
        yield row(
            what, "bounded memory", f"{frame['seconds']:.0f} s, peak {frame['peak_MiB'] / 1024:.1f} GiB", None
        )
    demo = measured("demo")
    if demo:
        yield row(
            "make demo, after the install", "< 180 s", f"{demo['seconds']:.0f} s", demo["seconds"] < 180
        )
    size = (
        sum(f.stat().st_size for f in (ROOT / "src" / "atomreel" / "models").rglob("*") if f.is_file())
        / 2**20
    )
    yield row("shipped models, together", "≤ 15 MB", f"{size:.1f} MB", size <= 15)


def columns() -> Iterator[str]:
    """The yardstick's columns table, atomreel beside its peers."""
    ours = measured("columns")
    if not ours:
        return
    names = [*ours["family"]]
    peers = measured("peers")
    yield "| | pooled F1 | precision | recall | recall, measurable | median error / bound | species | within 1σ | within 2σ |"
    yield "|" + "---|" * 9
    o = ours["overall"]
    keys = (
        "f1",
        "precision",
        "recall",
        "recall_measurable",
        "err_over_bound",
        "species_accuracy",
        "within_1sigma",
        "within_2sigma",
    )
    yield "| **atomreel**, told nothing | " + " | ".join(f"{o.get(k, float('nan')):.3f}" for k in keys) + " |"
    for name, peer in peers.items():
        for label, which in (("one threshold", "one_threshold"), ("best per image", "per_image_threshold")):
            values = (peer[which].get(k) for k in keys)
            cells = " | ".join("–" if v is None else f"{v:.3f}" for v in values)
            yield f"| {name}, {label} | {cells} |"
    yield "\n| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    for key, target in (
        ("f1", 0.95),
        ("precision", 0.97),
        ("recall_measurable", 0.98),
        ("species_accuracy", 0.95),
    ):
        yield row(f"columns: {key.replace('_', ' ')}", f"≥ {target}", f"{o[key]:.3f}", o[key] >= target)
    if peers:
        best = {name: max(peer["family"][name] for peer in peers.values()) for name in names}
        below = [name for name in names if round(ours["family"][name]["f1"], 3) < round(best[name], 3)]
        figure = "below in " + ", ".join(below) if below else "all"
        yield row("columns: F1 in every family", "≥ best peer", figure, not below)
    yield row("columns: error / bound", "≤ 0.74", f"{o['err_over_bound']:.3f}", o["err_over_bound"] <= 0.74)
    for key, (low, high) in (("within_1sigma", (0.63, 0.73)), ("within_2sigma", (0.93, 0.97))):
        off = {
            name: ours["family"][name][key] for name in names if not low <= ours["family"][name][key] <= high
        }
        said = ", ".join(f"{name} {value:.3f}" for name, value in off.items())
        what = f"columns: errors {key.replace('_', ' ')}"
        yield row(what, f"{low}–{high}", f"{o[key]:.3f}", low <= o[key] <= high)
        yield row(f"{what}, every family", f"{low}–{high}", f"all but {said}" if off else "all", not off)
    yield "\nF1 per family (peers: best threshold for every single image):\n"
    yield "| family | atomreel | " + " | ".join(peers) + " |"
    yield "|" + "---|" * (2 + len(peers))
    for name in names:
        cells = [
            f"{ours['family'][name]['f1']:.3f}",
            *(f"{peer['family'][name]:.3f}" for peer in peers.values()),
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def bravais() -> Iterator[str]:
    ours = measured("bravais")
    if not ours:
        return
    keys = ("accuracy", "top2", "ece", "ece_if_calibrated", "ece_excess", "brier", "nll")
    yield "| | " + " | ".join(keys) + " |"
    yield "|" + "---|" * (1 + len(keys))
    yield "| atomreel | " + " | ".join(f"{ours[k]:.4f}" for k in keys) + " |"
    if paper := measured("bravais_2018_yardstick"):
        cells = " | ".join(f"{paper[k]:.4f}" for k in keys)
        yield f"| [the network of 2018](bravais-2018.md) | {cells} |"
    for table in ours["by"]:
        parts = ", ".join(f"{r['range']}: {r['accuracy']:.3f} (n {r['n']})" for r in ours["by"][table])
        yield f"\nAccuracy by {table}: {parts}."


def classes_fresh() -> Iterator[str]:
    """Honesty on fresh windows, the frame of a transition, and the time of a map."""
    ours, transition, speed = measured("bravais_fresh"), measured("transition_frame"), measured("symmetry")
    if ours:
        yield "| fresh windows | n | accuracy | top-2 | Brier | ECE | ECE excess |\n|---|---|---|---|---|---|---|"
        for name, one in ours["sets"].items():
            keys = ("accuracy", "top2", "brier", "ece", "ece_excess")
            yield f"| {name} | {one['windows']:,} | " + " | ".join(f"{one[key]:.3f}" for key in keys) + " |"
        yield ""
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    if ours:
        sets = ours["sets"]
        worst = max(sets, key=lambda name: sets[name]["ece_excess"])
        excess, low = sets[worst]["ece_excess"], sets["below two counts"]["accuracy"]
        yield row("fresh windows: largest ECE excess", "≤ 0.01", f"{excess:.3f} ({worst})", excess <= 0.01)
        yield row("fresh windows below two counts: accuracy", "≥ 0.95", f"{low:.3f}", low >= 0.95)
    if transition:
        y, f = transition["yardstick"], transition["fresh"]["all"]
        off, inside = abs(y["frame"] - y["true_frame"]), y["low"] <= y["true_frame"] <= y["high"]
        shown = f"{y['frame']:.2f} ({y['low']:.2f} to {y['high']:.2f}), truth {y['true_frame']:.2f}"
        yield row("transition.tif: frame of 2 % shear", "within two, inside", shown, off <= 2 and inside)
        shown = f"rms of the pulls {y['pulls_rms']:.2f}, {y['within_2_sigma']:.2f} within 2σ"
        yield row(
            "transition.tif: shear within its errors", "≥ 0.95 within 2σ", shown, y["within_2_sigma"] >= 0.95
        )
        shown = f"{f['interval_holds']:.2f}; half are off by less than {f['median_error_frames']:.2f} frames"
        yield row(f"{f['movies']} fresh movies: 95 % intervals hold", "0.95", shown, None)
    if speed:
        threads = speed["threads"]
        for key, target in (("deterministic", 0.4), ("100 passes", 1.5)):
            one = speed[key]
            shown = f"{one['wall_s']:.2f} s ({one['cpu_s']:.2f} s of processor time)"
            name = f"map of 625 windows, {key}, {threads} threads"
            yield row(name, f"≤ {target} s", shown, one["wall_s"] <= target)


def paper_2018() -> Iterator[str]:
    """The paper's own system beside what the paper reports, and its posterior by two ways."""
    ours, speed = measured("bravais_2018"), measured("dropout")
    if not ours and not speed:
        return
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    if ours:
        scores, wrong = ours["scores"], ours["wrong_answers"]
        shown = f"{scores['accuracy']:.3f} (n {scores['windows']:,.0f})"
        yield row("bravais-2018: held-out accuracy", "the paper: 0.85", shown, None)
        yield row("bravais-2018: first or second right", "the paper: 0.94", f"{scores['top2']:.3f}", None)
        shown = f"{wrong['wrong']}, {wrong['wrong_with_true_second']} right at second"
        yield row("bravais-2018: wrong of 1,200", "the paper: 188, 118 right at second", shown, None)
    for network, answers in speed.get("networks", {}).items():
        for window, one in answers.items():
            name = f"5,000 passes, {speed['threads']} thread(s): {network}, {window}"
            scaled = one["naive_passes"] < speed["passes"]
            shown = (
                f"{one['quick_processor_s']:.2f} s of processor time beside {one['naive_processor_s']:.0f} s naive; "
                f"{one['quick_s']:.2f} and {one['naive_s']:.0f} s by the clock of a busy machine"
            )
            shown += f" (scaled from {one['naive_passes']:,} passes)" if scaled else ""
            if "every layer" in network:
                yield row(name, "–", shown, None)
            else:
                yield row(name, "≤ 0.25 s", shown, one["quick_processor_s"] <= 0.25)


def heights() -> Iterator[str]:
    """Atoms per column from focal series: the yardstick's set, and fresh particles by dose."""
    ours = measured("heights")
    if not ours:
        return
    o = ours["overall"]
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    yield row("heights: F1 of columns", "≥ 0.98", f"{o['f1']:.3f}", o["f1"] >= 0.98)
    yield row("heights: exact, all doses and tilts", "–", f"{o['exact']:.3f}", None)
    for dose, target, near in (("30000", 0.995, None), ("3000", 0.90, 0.99)):
        found = measured("heights_aligned")["curves"]["aligned"][dose]
        name = f"{found['columns']:,} columns of fresh aligned particles, {dose} e⁻/Å²"
        yield row(f"{name}: exact", f"≥ {target}", f"{found['exact']:.3f}", found["exact"] >= target)
        if near:
            within = found["exact"] + found["off_1"]
            yield row(f"{name}: within one", f"≥ {near}", f"{within:.3f}", within >= near)


def real() -> Iterator[str]:
    yield "| file | frames | columns | median 1σ [px] | s | what is right and what is not |\n|---|---|---|---|---|---|"
    for name, run in measured("real").items():
        error = run.get("median_error_px")
        shown = "–" if error is None else f"{error:.3f}"
        numbers = f"{run.get('frames', '–')} | {run.get('columns', '–')} | {shown} | {run['seconds']:.0f}"
        yield f"| {name} | {numbers} | {REMARKS.get(name, '')} |"


def dose() -> Iterator[str]:
    """Columns of fresh simulated images by dose."""
    ours = measured("columns_dose")
    if not ours:
        return
    yield "| material | counts | F1 | precision | recall | rms error [pm] | bound [pm] | within 1σ |"
    yield "|" + "---|" * 8
    keys = ("f1", "precision", "recall", "rmse_pm", "rms_bound_pm", "within_1_sigma")
    for material, curve in ours["curves"].items():
        for counts, found in curve.items():
            cells = " | ".join(f"{found[key]:{'.1f' if key.endswith('_pm') else '.3f'}}" for key in keys)
            yield f"| {material} | {counts} | {cells} |"


def precision() -> Iterator[str]:
    """Precision asked for against precision reached, over the finder's whole scope."""
    ours = measured("precision")
    if not ours:
        return
    asked = ("0.8", "0.9", "0.95", "0.99")
    yield "| images | n | " + " | ".join(f"asked {a}: reached (recall)" for a in asked) + " |"
    yield "|" + "---|" * (2 + len(asked))
    for way in ("told nothing", "told the contrast"):
        for name, group in ours[way].items():
            cells = (
                f"{f['precision']:.3f} ± {f['precision_err']:.3f} ({f['recall']:.2f})" if f["found"] else "none found"
                for f in (group[a] for a in asked)
            )  # fmt: skip
            yield f"| {way}: {name} | {group['images']} | " + " | ".join(cells) + " |"


def decoders() -> Iterator[str]:
    """Three ways from the network's map to centres."""
    ours = measured("decoders")
    if not ours:
        return
    yield "| decoder | F1 | precision | recall | rms error [% of the nearest distance] |\n|---|---|---|---|---|"
    for name, one in ours["decoders"].items():
        setting = f", {one['setting']}" if one["setting"] else ""
        rates = " | ".join(f"{one[key]:.4f}" for key in ("f1", "precision", "recall"))
        yield f"| {name}{setting} | {rates} | {100 * one['rms_error']:.2f} |"


def single_atoms() -> Iterator[str]:
    """Hand-labelled Pt atoms: F1 per image, told nothing, told spacing and contrast, and blob_log."""
    ours = measured("single_atoms")
    if not ours:
        return
    yield "| image | labels | told nothing | told | blob_log, best threshold |\n|---|---|---|---|---|"
    ways = ("defaults", "told", "blob_log")
    for name, image in ours["images"].items():
        cells = " | ".join(f"{image[way]['f1']:.3f}" for way in ways)
        yield f"| {name} | {image['labels']} | {cells} |"
    cells = " | ".join(f"{ours['pooled'][way]['f1']:.3f}" for way in ways)
    yield f"| pooled | {ours['labels']['n']} | {cells} |"
    limits = ours["labels"]
    yield (
        f"\nLabels lie {limits['median_px_to_maximum']:.1f} px (median) from the nearest maximum of the smoothed image, "
        f"{100 * limits['within_tolerance_of_one']:.0f} % of them within 4 px of one."
    )


def species() -> Iterator[str]:
    """Share of columns whose class is that of their species, with place and without."""
    ours = measured("species")
    if not ours:
        return
    yield "| | images | columns | by intensity and place | by intensity alone |\n|---|---|---|---|---|"
    for kind, told in ours.items():
        yield f"| {kind} | {told['images']} | {told['columns']:,} | {told['by_place']:.3f} | {told['by_intensity_alone']:.3f} |"


def known() -> Iterator[str]:
    """How well it is told whether the finder knows a place."""
    ours = measured("domain")
    if not ours:
        return
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    yield row("area under the curve, fresh images", "–", f"{ours['area_under_curve']:.3f}", None)
    yield row("outside found at 5 % false alarms", "–", f"{ours['detected_at_5_percent_false']:.3f}", None)
    yield row("calibration error of domain", "–", f"{ours['calibration_error']:.3f}", None)
    left = {kind: one["detected_at_5_percent_false"] for kind, one in ours["left_out"].items()}
    worst = min(left, key=lambda kind: left[kind])
    shown = f"{min(left.values()):.2f} ({worst}) to {max(left.values()):.2f}"
    yield row("the same, kinds that the fit has never seen", "–", shown, None)


def bonds() -> Iterator[str]:
    """Bond lengths of simulated graphene in HRTEM beside the Cramér–Rao bound of the same images."""
    ours = measured("graphene")
    if not ours:
        return
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    for dose, one in ours.items():
        mean, ratio = one["mean_A"], one["sd_over_bound"]
        yield row(
            f"{dose} e⁻/Å²: mean bond",
            "1.42 ± 0.01 Å",
            f"{mean:.3f} ± {one['mean_err_A']:.3f} Å",
            abs(mean - 1.42) <= 0.01,
        )
        yield row(f"{dose} e⁻/Å²: σ / bound", "≤ 1.2", f"{ratio:.2f}", ratio <= 1.2)


def neighbours() -> Iterator[str]:
    """Dumbbells, coordination and rings of simulated structures; rings of a real boundary."""
    ours, boundary = measured("neighbours"), measured("boundary")
    if not ours and not boundary:
        return
    yield "| what | target | figure | | what limits it |\n|---|---|---|---|---|"
    spread = {"dumbbells of positions": ours.get("pairs", {})}
    spread |= {f"twins, d/σ = {ratio}": found for ratio, found in ours.get("twins", {}).items()}
    for name, found in spread.items():
        for what, z in found.items():
            shown = f"{z['within_1_sigma']:.3f}, {z['within_2_sigma']:.3f} (n {z['n']})"
            yield row(f"{name}: {what} within 1σ, 2σ", "0.683, 0.954", shown, None)
    for look, ratios in ours.get("overlap", {}).items():
        shown = ", ".join(
            f"{100 * v['bias']:+.1f} ± {100 * v['err']:.1f} % (d/σ {r})" for r, v in ratios.items()
        )
        yield row(f"separation of overlapping ends: {look}", "–", shown, None)
    if "coordination" in ours:
        score = ours["coordination"]["positions"]
        yield row(
            "Si three- or four-fold, positions ± 0.1 Å", "≥ 0.95", f"{score['right']} of {score['n']}",
            score["right"] >= 0.95 * score["n"],
        )  # fmt: skip
        images = ours["coordination"]["images"]
        shown = ", ".join(f"{s['right']} of {s['n']} ({counts})" for counts, s in images.items())
        yield row("Si three- or four-fold, images (counts per pixel)", "–", shown, None)
    if "rings" in ours:
        r = ours["rings"]
        exact = r["right"] == r["cells"] == r["found"]
        yield row(
            "rings of six boundaries", "every one", f"{r['right']} of {r['cells']}, {r['found']} found", exact
        )
    if boundary:
        inner, line = boundary["counts"]["grain"], boundary["counts"]["boundary"]
        whole, six = sum(inner.values()), inner.get("6", 0)
        yield row(
            "graphene-hrtem-boundary: hexagons in the grains", "all", f"{six} of {whole} rings", six == whole
        )
        shown = ", ".join(
            f"{line.get(size, 0)} of {size} (drawn anew {boundary['drawn'][size]['mean']:.1f} ± {boundary['drawn'][size]['sd']:.1f})"
            for size in ("4", "5", "6", "7", "8")
        )
        yield row("graphene-hrtem-boundary: rings along the boundary", "–", shown, None)


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "The chain": chain,
    "Yardstick: columns": columns,
    "Columns against dose": dose,
    "Precision that is asked for": precision,
    "Three decoders": decoders,
    "Yardstick: Bravais classes": bravais,
    "Bravais classes of fresh windows, a transition, and time": classes_fresh,
    "Symmetry maps of real crystals": real_maps,
    "The symmetry network of 2018": paper_2018,
    "Atoms per column": heights,
    "Growing holes": holes,
    "Defects and their reactions": reactions,
    "Tracks, particles and molecules": tracks,
    "Whole movies with known truth": full_movies,
    "Classes, trajectories, memory": trajectories,
    "Places that the finder does not know": known,
    "Defects in windows": windows,
    "Defects learned from one frame": oneframe,
    "Bonds of graphene in HRTEM": bonds,
    "Dumbbells, bonds and rings": neighbours,
    "Real images": real,
    "Single Pt atoms": single_atoms,
    "Species of columns": species,
}


def page() -> str:
    lines = [
        "# Results",
        "",
        "Made by `make results`; every figure is measured by one of these commands:",
        "",
    ]
    lines += [f"- {name}: `{command}`" for name, command in COMMANDS.items()]
    lines += ["", REMARKS.get("machine", "")]
    for title, section in SECTIONS.items():
        rows = [*section()]
        if rows:
            lines += ["", f"## {title}", "", *([REMARKS[title], ""] if title in REMARKS else []), *rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs="*", choices=sorted(COMMANDS), default=[])
    for name in parser.parse_args().measure:
        for command in COMMANDS[name].split(";"):
            words = [sys.executable if word == "python" else word for word in shlex.split(command)]
            subprocess.run(words, cwd=ROOT, check=True)
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
