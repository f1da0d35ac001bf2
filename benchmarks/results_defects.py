"""Section of docs/results.md about the classifier of windows: which point defect, how sure, where."""

from __future__ import annotations

from collections.abc import Iterator

from rows import HEAD, measured, row


def windows() -> Iterator[str]:
    """Fresh simulated windows of WS2 beside an oracle; maps, calibration, strangers, wrong scales, things never seen."""
    ours = measured("windows")
    if not ours:
        return
    yield HEAD
    base, maps = ours["set"], ours["maps"]
    shown = f"{base['accuracy']:.4f} ± {base['accuracy_err']:.4f} of {base['windows']}"
    yield row("defect windows: accuracy, noise as in training", "≥ 0.98", shown, base["accuracy"] >= 0.98)
    for noise, levels in ours["levels"].items():
        shown = ", ".join(
            f"{one['accuracy']:.3f} ({one['oracle']:.3f}) at {level}{'' if one['in_the_set'] else ' (beyond)'}"
            for level, one in levels.items()
        )
        found = base["accuracy_by_noise"][noise]
        what = f"defect windows: {noise.replace('_', ' and ')}; at single levels (oracle)"
        yield row(what, "≥ 0.98", f"{found:.4f}; {shown}", found >= 0.98)
    shown = f"{base['ece']:.4f}; without strangers {base['ece_own']:.4f}"
    yield row("defect windows: ECE", "≤ 0.02", shown, base["ece"] <= 0.02)
    chance = f"chance {maps['chance_any_place']:.3f}, the middle {maps['chance_the_middle']:.3f}"
    for method in ("cam", "grad-cam"):
        share = maps[method]["within"]
        shown = f"{share:.3f} ({chance}), median {maps[method]['median_A']:.2f} Å"
        yield row(f"defect windows: maximum of {method} within 2 Å", "≥ 0.8", shown, share >= 0.8)
    worst_kind, least = min(base["strangers_called_none_by_kind"].items(), key=lambda pair: pair[1])
    shown = f"{base['strangers_called_none']:.4f} of {base['strangers']}, least {least:.3f} ({worst_kind})"
    shown += f"; own called so {base['own_called_none']:.4f}"
    yield row("defect windows: strangers called none", "–", shown, None)
    rough, other = ours["rough"], ours["another_simulator"]
    shown = f"{rough['accuracy']:.4f}, ECE {rough['ece']:.4f}; pristine called a defect {rough['pristine_called_a_defect']:.4f}, "
    shown += f"with p > 0.9 {rough['pristine_called_a_defect_p_0.9']:.4f}"
    yield row("defect windows: accuracy on grainy supports, under contamination, on ramps", "–", shown, None)
    shown = f"{other['called_a_defect']:.4f}, with p > 0.9 {other['called_a_defect_p_0.9']:.4f}; "
    shown += ", ".join(f"{kind} {share:.3f}" for kind, share in other["called"].items())
    shown += f" ({other['windows']} windows of {other['images']} images)"
    yield row("defect windows: pristine WS2 of another simulator called a defect", "–", shown, None)
    shown = ", ".join(
        f"{factor}: {one['accuracy']:.2f} / {one['called_none']:.2f}" for factor, one in ours["scale"].items()
    )
    yield row("defect windows: lattice larger by a factor, right / called none", "–", shown, None)
    for name, answers in ours["never_seen"].items():
        shown = ", ".join(f"{kind} {share:.3f}" for kind, share in answers.items())
        yield row(f"defect windows, never seen: {name}", "–", shown, None)
