"""Sections of docs/results.md about movies: growing holes, and defects with their reactions."""

from __future__ import annotations

from collections.abc import Iterator

from rows import HEAD, measured, row


def holes() -> Iterator[str]:
    """Growing holes: the yardstick's movie, re-simulated ones, and fresh images."""
    scores, ours = measured("movie_holes"), measured("growth")
    if not scores and not ours:
        return
    yield HEAD
    for way, one in ours.get("yardstick", {}).items():
        share, off = one["within_5_percent_or_one_site"], one["error_sites"]
        name = f"yardstick: holes by {way}, {one['frames_above_1_percent']} frames above 1 % within 5 % or one site"
        shown = f"{share:.3f} (rms {off['rms']:.2f} sites)"
        target, met = ("all", share == 1) if way == "columns" else ("–", None)
        yield row(name, target, shown, met)
    for name, rate in scores.get("rates", {}).items():
        shown = f"{rate['found']:.4g} ({rate['lo']:.4g} … {rate['hi']:.4g}), true {rate['true']:.4g}"
        best = rate.get("complete_data")
        shown += "" if best is None else f", complete data {best:.4g}"
        yield row(f"yardstick: {name}", "covered", shown, rate["covered"])
    if "series" in ours:
        series = ours["series"]
        n = series["replicates"]
        for name, one in series["coverage"].items():
            told = {"complete": "ρ, complete data"}.get(name, name)
            shown = f"{one['covered']:.3f} (p = {one['p_binomial']:.2f})"
            goal = "0.95 (binomial test)"
            yield row(f"95 % interval of {told}, {n} movies", goal, shown, one["p_binomial"] > 0.01)
        plain = series["least_squares_rho"]
        shown = f"{plain['covered']:.3f} of {plain['of']}"
        yield row("the same of ρ, were frames independent", "–", shown, None)
        wide = series["width_over_complete"]["median"]
        yield row("width of ρ over that of complete data", "≤ 1.5", f"{wide:.2f}", wide <= 1.5)
        relative = ", ".join(f"{name} {w:.2f}" for name, w in series["width_over_truth"].items())
        yield row("widths of the other intervals over the truth, median", "–", relative, None)
        steady, right = series["steady"], series["exponential_called_exponential"]
        shown = f"{right:.3f}; steady growth called so in {steady['called_exponential']:.3f} of {steady['replicates']}"
        yield row("exponential growth told from steady growth", "≤ 0.01 wrong", shown, None)
    for k, one in enumerate(ours.get("movies", [])):
        value, low, high = one["rho"]
        shown = f"{value:.4f} ({low:.4f} … {high:.4f}), {one['width_over_complete']:.2f} of complete data; "
        shown += f"{one['within_5_percent_or_one_site']:.3f} of frames within 5 % or one site"
        yield row(f"images of movie {k + 1}: ρ (true 0.0155)", "covered", shown, one["rho_covered"])


def reactions() -> Iterator[str]:
    """Defects of the yardstick's movie, and how often intervals of re-simulated kinetics cover."""
    scores, ours = measured("movie_defects"), measured("reactions")
    if not scores and not ours:
        return
    yield HEAD
    if scores:
        found, tracks = scores["detection"], scores["tracking"]
        for name, figure, target in (
            ("F1 of defects", found["f1"], 0.95),
            ("kinds right", scores["class_accuracy"], 0.95),
            ("IDF1 of tracks", tracks["idf1"], 0.9),
        ):
            yield row(f"yardstick movie: {name}", f"≥ {target}", f"{figure:.3f}", figure >= target)
        yield row("yardstick movie: states right", "–", f"{scores['state_accuracy']:.3f}", None)
        single = measured("movie_defects_frames")
        if single:
            figures = single["detection"]["f1"], single["class_accuracy"], single["tracking"]["idf1"]
            shown = ", ".join(f"{figure:.3f}" for figure in figures)
            yield row("the same F1, kinds, IDF1 one frame at a time", "–", shown, None)
        rates = dict(scores["rates"])
        every = rates.pop("Q", None)
        for name, rate in rates.items():
            shown = f"{rate['found']:.4g} ({rate['lo']:.4g} … {rate['hi']:.4g}), true {rate['true']:.4g}"
            shown += f", complete data {rate['complete_data']:.4g}"
            yield row(f"yardstick movie: {name}", "covered", shown, rate["covered"])
        if every:
            shown = f"{every['covered']} of {every['of']}"
            yield row("yardstick movie: rates of the matrix covered", "–", shown, None)
    for name, one in ours.items():
        if not isinstance(one, dict):
            continue
        shown = f"{one['covered']:.3f} (p = {one['p']:.2f})"
        what = f"{name}: 95 % interval, {ours['replicates']} re-simulated kinetics"
        yield row(what, "0.95 (binomial test)", shown, one["p"] > 0.01)
        wide = one["width_over_complete"]
        yield row(f"{name}: width over that of complete data", "≤ 1.5", f"{wide:.2f}", wide <= 1.5)
