"""Section of docs/results.md about symmetry maps of real crystals whose class is known."""

from __future__ import annotations

from collections.abc import Iterator

from rows import measured


def real_maps() -> Iterator[str]:
    found = measured("real_maps")
    if not found:
        return
    yield "| image | windows | likeliest as imaged | known class within 2 % shear | … of windows in one grain | grains | shared e |"
    yield "|---|---|---|---|---|---|---|"
    for name, one in found.items():
        imaged = max(one["as_imaged"], key=lambda key: one["as_imaged"][key])
        inside, shared = one["within_2_percent_in_one_grain"], one["shared"]
        cells = [
            f"{one['windows']} of {one['window_px']} px",
            f"{imaged} {one['as_imaged'][imaged]:.2f}",
            f"{one['known_class']} {one['within_2_percent']:.2f}",
            "" if inside is None else f"{inside:.2f}",
            str(one["grains"]),
            f"{100 * shared['image_e']:.1f} ± {100 * shared['image_e_err']:.1f} %".replace("-", "−")
            if shared
            else "",
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"
