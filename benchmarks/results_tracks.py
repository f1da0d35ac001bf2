"""Section of docs/results.md about tracks: how fast they are linked, beside peers, and two real movies."""

from __future__ import annotations

from collections.abc import Iterator

from rows import HEAD, measured, row

GIB = 1024.0


def tracks() -> Iterator[str]:
    """Linking at scale, tracks and transitions beside AtomAI's, gold particles, molecules."""
    speed, peer, real = measured("link"), measured("tracks_peer"), measured("real_tracks")
    if not (speed or peer or real):
        return
    yield HEAD
    yield from _speed(speed)
    if peer:
        yield from _peer(peer)
    if real:
        yield from _gold(real["au-nanoparticles-750C"])
        yield from _molecules(real["stm-molecules"])


def _speed(speed: dict) -> Iterator[str]:
    large = speed.get("10000 x 1000", {}).get("atomreel")
    if large:
        wall, peak = large["wall_s"], large["peak_MiB"]
        shown = f"{wall:.0f} s, {peak / GIB:.2f} GiB; {large['precision']:.3f} of the links right"
        yield row("10⁴ points × 10³ frames linked", "≤ 300 s, ≤ 2 GiB", shown, wall <= 300 and peak <= 2048)
    for size, programs in speed.items():
        if not isinstance(programs, dict) or len(programs) < 2 or "atomreel" not in programs:
            continue
        told = [
            f"{name} {one['cpu_s']:.1f} s, {one['precision']:.3f} right, {one['recall']:.3f} made"
            for name, one in programs.items()
        ]
        name = f"{size.replace(' x ', ' points × ')} frames: processor time, links"
        yield row(name, "–", "; ".join(told), None)


def _peer(peer: dict) -> Iterator[str]:
    ours, theirs = peer["atomreel"], peer["AtomAI"]
    exact = peer["AtomAI, every kind read right"]
    count = peer["movies"]
    shown = f"{ours['idf1']:.3f}, AtomAI {theirs['idf1']:.3f}"
    yield row(
        f"IDF1 of tracks, {count} movies of WS₂", "above AtomAI's", shown, ours["idf1"] > theirs["idf1"]
    )
    for key, name in (
        ("points_claimed_twice", "points that two tracks claim"),
        ("late_points_in_no_track", "points of defects that come later, in no track"),
    ):
        yield row(name, "–", f"{ours[key]:.3f}, AtomAI {theirs[key]:.3f}", None)
    for name in ("catch", "release"):
        over = ours[name]["median"] / peer["truth"][name]
        key = f"p_{name}_per_frame"
        shown = f"{over:.2f}, {ours[name]['covered']} of {count} intervals hold it; AtomAI {theirs[key]['over_truth']:.2f} "
        shown += f"({exact[key]['over_truth']:.2f} were every kind read right), no interval"
        yield row(f"rate of {name} over the truth, median", "–", shown, None)


def _gold(gold: dict) -> Iterator[str]:
    for number, one in gold["masks"].items():
        off = one["found"] / one["mask"] - 1
        shown = f"{one['found']} ({100 * off:+.1f} %), F1 {one['f1']:.3f}"
        yield row(f"gold particles, recorded frame {number}", f"{one['mask']} ± 5 %", shown, abs(off) <= 0.05)
    shown = f"{gold['from_first_to_last']:.3f}, drift up to {gold['drift_largest_px']:.0f} px"
    yield row("gold particles: of the first frame on one track to the last", "–", shown, None)
    yield row("gold particles: merges, splits told", "listed", f"{gold['merge']}, {gold['split']}", None)


def _molecules(found: dict) -> Iterator[str]:
    for name, one in found.items():
        if not isinstance(one, dict):
            continue
        d, rate = one["d_px2_per_frame"], one["moves_per_frame"]
        shown = f"{one['tracks_of_5_or_more']} tracks of 5 or more; D {d[0]:.1f} ({d[1]:.1f} … {d[2]:.1f}) px²/frame; "
        shown += f"moves {rate[0]:.2f} ({rate[1]:.2f} … {rate[2]:.2f}) per frame"
        yield row(f"STM molecules, {name}", "intervals", shown, None)
