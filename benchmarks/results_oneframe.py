"""Section of docs/results.md about the detector that learns from one frame."""

from __future__ import annotations

from collections.abc import Iterator

from rows import HEAD, measured, row


def oneframe() -> Iterator[str]:
    """Simulated movies beside the Fourier method on every frame, the Si walk, and real images."""
    ours = measured("oneframe")
    if not ours:
        return
    yield HEAD
    for name, one in ours.get("simulated", {}).items():
        net, plain = one["network"], one["fourier"]
        kinds = ", ".join(f"{kind} {share:.2f}" for kind, share in net["recall_by_kind"].items())
        shown = f"{net['f1']:.3f} (precision {net['precision']:.2f}; recall {kinds}); by Fourier alone {plain['f1']:.3f}; "
        shown += f"learned in {one['seconds']:.0f} s"
        yield row(f"one frame learned, F1: {name}", "≥ Fourier", shown, net["f1"] >= plain["f1"])
        shown = f"{one['calibration_error']:.3f} ({one['scored']} scores"
        if "calibration_error_by_chance" in one:
            mean, high = one["calibration_error_by_chance"]
            shown += f"; right ones {mean:.3f}, up to {high:.3f} by chance"
            shown += f"); expected number off by {one['true_less_expected_over_its_error']:+.1f} of its error"
        else:
            shown += ")"
        yield row(f"error of its scores: {name}", "–", shown, None)
    if walk := ours.get("walk"):
        shown = f"{walk['found']} of {walk['labelled']} frames, {walk['false_per_frame']:.2f} false per frame"
        yield row("Si walk, learned from frame 0", "–", shown, None)
    for name, one in ours.get("real", {}).items():
        if "refused" in one:
            yield row(f"one frame learned: {name}", "–", f"refused: {one['refused'].split(';')[0]}", None)
            continue
        parts = [f"{kind} {number}" for kind, number in one["found"].items()]
        yield row(f"one frame learned: {name}", "–", f"{', '.join(parts) or 'nothing'} found", None)
