"""The last stage of a Run whose material is known: the sites of the movie judged over all frames, and their rates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from atomreel.core.errors import AtomreelError
from atomreel.core.files import write_json
from atomreel.core.run import RunFolder
from atomreel.kinetics.intervals import to_rates
from atomreel.pipeline.frames import is_large
from atomreel.pipeline.merge import merge_sources
from atomreel.pipeline.motion import LEAST_FRAMES
from atomreel.pipeline.reactions import reactions_of_run
from atomreel.pipeline.survey import Plan


def judge_movie(plan: Plan, folder: RunFolder, movie: Path) -> list[str]:
    """RUN/reactions as `reactions_of_run` makes it; its rates take the place of those of single frames in rates.json, and
    sources.parquet has what single frames and the movie say side by side.

    movie: the file. Returns what a reader must be told. Nothing is done without defects.material, for few frames, frames too large to be
    analysed whole, or where defects.over_movie is off.
    """
    options = plan.recipe.defects
    if not options.over_movie or options.material is None:
        return []
    if len(plan.movie) < LEAST_FRAMES or is_large(plan.movie.shape):
        return []
    out = folder.path / "reactions"
    try:
        judged = reactions_of_run(folder.path, out=out, movie=movie, rng=plan.recipe.run.seed)
    except AtomreelError as error:
        shutil.rmtree(out, ignore_errors=True)
        return [f"defects are those of single frames; over the whole movie they could not be judged: {error}"]
    file = folder.path / "rates.json"
    single = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: rate for name, rate in single.items() if "→" not in name and not name.startswith("D of ")}
    write_json(file, kept | to_rates(judged))
    merge_sources(folder.path)
    return []
