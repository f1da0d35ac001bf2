"""Where the methods that look for defects agree: counts against time, a frame with its disagreements, kinds against kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from atomreel.report.drawing import COLOURS, Drawing, figure, finish, picture_axes, plain
from atomreel.report.results import Results
from atomreel.report.tables import PageTable, rates_table

MOST = 6  # sets of methods that get a line of their own


def draw_sources(results: Results, folder: Path) -> Drawing | None:
    """Places per frame by the methods that name them, and the previewed frame with most disagreement."""
    table = results.table("sources")
    if table is None or table.empty or results.preview is None:
        return None
    order = table["source"].value_counts().index[:MOST]
    colour = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(order)}
    apart = table[~table["agree"] & table["frame"].isin(results.preview.index)]
    shown = int(apart["frame"].mode().iloc[0]) if len(apart) else results.preview.index[0]
    several = results.n_frames > 1
    made, axes = figure(10.4 if several else 5.4, 4.6, columns=2 if several else 1)
    picture = axes[0, -1]
    if several:
        counts = pd.crosstab(table["frame"], table["source"]).reindex(range(results.n_frames), fill_value=0)
        for name in order:
            axes[0, 0].plot(counts.index, counts[name], color=colour[name], lw=1.2, label=plain(name))
        axes[0, 0].set(xlabel="frame", ylabel="places", ylim=(0, None))
    frame = results.preview.frames[results.preview.index.index(shown)]
    picture.imshow(frame, cmap="gray")
    picture_axes(picture)
    picture.set_title(f"frame {shown}")
    here = table[(table["frame"] == shown) & table["source"].isin(order)]
    for name in order:
        at = results.preview.place(here.loc[here["source"] == name, ["y", "x"]].to_numpy())
        sure = here.loc[here["source"] == name, "score"].to_numpy()
        for solid, part in ((True, at[sure >= 0.5]), (False, at[sure < 0.5])):
            style = "solid" if solid else "dotted"
            label = plain(name) if solid and not several else None
            picture.scatter(
                part[:, 1],
                part[:, 0],
                s=70,
                facecolors="none",
                edgecolors=colour[name],
                linestyles=style,
                label=label,
            )
    made.legend(loc="outside lower center", ncols=3, frameon=False)
    caption = (
        "Places at which a defect is named, by the methods that name it: single frames (lattice), the whole movie (movie), a detector or classifier. "
        "Dotted circles: combined score below 0.5."
    )
    return finish(made, folder, "sources", title="Who found what", caption=caption, wide=True)


def sources_tables(results: Results) -> list[PageTable]:
    """Kinds of the first method against those of each other one; "–" where one is silent. And rates of the places, where they were followed."""
    table = results.table("sources")
    if table is None or table.empty:
        return []
    methods = [str(c).removeprefix("kind_") for c in table if str(c).startswith("kind_")]
    made = []
    for other in methods[1:]:
        counts = pd.crosstab(table[f"kind_{methods[0]}"], table[f"kind_{other}"])
        head = (f"{methods[0]} \\ {other}", *(str(name) or "–" for name in counts.columns))
        rows = tuple(
            (str(kind) or "–", *(f"{n:,}" for n in row))
            for kind, row in zip(counts.index, counts.to_numpy(np.int64), strict=True)
        )
        made.append(PageTable(f"Kinds by {methods[0]} and by {other}", head, rows))
    rates = rates_table(
        results, "sources", title="Rates of the places of all methods, followed over the movie"
    )
    return [*made, rates] if rates else made
