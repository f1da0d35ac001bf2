"""The command line: every verb is a thin shell over a public function."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from atomreel.core.errors import AtomreelError, AtomreelWarning

app = typer.Typer(
    help="Atoms, lattices, symmetry, defects, tracks and rates from atomic-resolution images and movies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
screen = Console()
problems = Console(stderr=True)

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Microscope files, or folders of them.", show_default=False),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A microscope file.", show_default=False)]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a recipe key; repeatable. 'atomreel keys' lists them."
    ),
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", "-r", help="Recipe (TOML); every key has a default.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where the result goes.", show_default=False)]
Table = Annotated[Path, typer.Option("--out", "-o", help="Table to write: .parquet or .csv.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps; auto takes the fastest there is.")]


@app.command(
    epilog="Example: atomreel run movie.dm4 -o ws2 --set input.pixel_A=0.12 --set defects.material=ws2"
)
def run(inputs: Files, *, recipe: RecipeFile = None, out: Out = None, set: Sets = []) -> None:  # noqa: B006
    """Everything: from FILE to a Run folder with tables, maps and report.html.

    A killed run goes on where it stopped when the same command is given again. With several files, or
    a folder, OUT is a folder that gets one Run each and a summary table. The last line printed is the
    path of the Run.
    """
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.batch import run_files

    typer.echo(run_files(inputs, load_recipe(recipe, overrides=set), out=out))


@app.command(epilog="Example: atomreel info movie.emd")
def info(file: File, *, set: Sets = []) -> None:  # noqa: B006
    """What FILE holds: shape, frames, pixel size, times, dose, and where each number came from."""
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.batch import describe_file

    for key, value in describe_file(file, load_recipe(overrides=set)).items():
        screen.print(f"[bold]{key:12}[/bold] {escape(str(value))}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: atomreel find day1/*.tif -o atoms.parquet --set columns.contrast=dark")
def find(files: Files, *, out: Table, recipe: RecipeFile = None, set: Sets = []) -> None:  # noqa: B006
    """Find atomic columns in every frame of FILES: one table with positions, 1σ errors, scores, species."""
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.batch import find_in_files

    typer.echo(find_in_files(files, load_recipe(recipe, overrides=set), out=out))


@app.command(
    epilog="Example: atomreel heights series.tif -o heights.parquet --set input.pixel_A=0.12 --set input.dose=3000"
)
def heights(
    files: Files,
    *,
    out: Table,
    model: Annotated[str, typer.Option(help="Model name or folder.")] = "heights",
    recipe: RecipeFile = None,
    set: Sets = [],  # noqa: B006
) -> None:
    """Atoms in every column, from focal series of three HRTEM images: one table with probabilities.

    Each of FILES holds one series, in the order of focus that the model's card names.
    """
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.batch import heights_of_files

    typer.echo(heights_of_files(files, load_recipe(recipe, overrides=set), out=out, model=model))


@app.command(epilog="Example: atomreel symmetry a.tif b.tif --whole -o symmetry.csv")
def symmetry(
    files: Files,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Table (.csv, .parquet) or, for maps, a .zarr Field.")
    ],
    whole: Annotated[bool, typer.Option("--whole", help="One row per frame instead of a map.")] = False,
    model: Annotated[str | None, typer.Option(help="Model name or folder; short for symmetry.model.")] = None,
    recipe: RecipeFile = None,
    set: Sets = [],  # noqa: B006
) -> None:
    """Bravais class and lattice of sliding windows (a Field), or with --whole of every whole frame (a table).

    The table also says which classes the true lattice may have, given how far drift may have sheared the image. With a
    map MAP.zarr come its grains: MAP.grains.parquet and MAP.boundaries.parquet. Windows and steps are px
    (--set symmetry.window=128 --set symmetry.step=16), Å (symmetry.window_A, symmetry.step_A), or follow the lattice (default).
    """
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.batch import map_file, symmetry_of_files
    from atomreel.pipeline.whole import verdicts

    chosen = load_recipe(recipe, overrides=[*set, *([f"symmetry.model={model}"] if model else [])])
    if whole:
        for line in verdicts(symmetry_of_files(files, chosen, out=out)):
            screen.print(escape(line), highlight=False, soft_wrap=True)
    else:
        map_file(files, chosen, out=out)
    typer.echo(out)


@app.command(epilog="Example: atomreel transition movie.tif -o transition")
def transition(
    file: File,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for shear.csv, transition.json and the figure.")
    ],
    origin: Annotated[str, typer.Option(help="The class that is left: hexagonal or square.")] = "hexagonal",
    recipe: RecipeFile = None,
    set: Sets = [],  # noqa: B006
) -> None:
    """The frame in which a movie's lattice is sheared by more than symmetry.shear, with its interval."""
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.source import open_source
    from atomreel.pipeline.transition import describe_crossing, transition_of_movie

    chosen = load_recipe(recipe, overrides=set)
    crossing = transition_of_movie(open_source(file, chosen.input), chosen, out=out, origin=origin)
    screen.print(escape(describe_crossing(crossing, origin=origin)), highlight=False, soft_wrap=True)
    typer.echo(out)


@app.command(epilog="Example: atomreel particles movie.tif -o particles")
def particles(
    file: File,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for tables, counts.csv and the figure.")],
    recipe: RecipeFile = None,
    set: Sets = [],  # noqa: B006
) -> None:
    """Particles of a movie: counted and measured in every frame, followed without the drift, with merges and splits."""
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.particles import describe_particles, particles_of_file

    summary = particles_of_file(file, load_recipe(recipe, overrides=set), out=out)
    screen.print(escape(describe_particles(summary)), highlight=False, soft_wrap=True)
    typer.echo(out)


@app.command(epilog="Example: atomreel surface vacuum.atomreel oxygen.atomreel -o surface")
def surface(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN]", help="One or two Run folders.", show_default=False)
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sites.parquet and comparison.csv.")],
) -> None:
    """How much of the time each surface site is filled and how often that changes; of two Runs, the difference.

    Columns that the finder overlooked are told from vacancies, and pauses of the recording are no events.
    """
    from atomreel.pipeline.surface import describe_comparison, surface_of_runs

    comparison = surface_of_runs(runs, out=out)
    for _, row in comparison.iterrows() if comparison is not None else ():
        screen.print(escape(describe_comparison(row)), highlight=False, soft_wrap=True)
    typer.echo(out)


@app.command(epilog="Example: atomreel beam S W --kv 60 --kv 80 --kv 100 --displacement S=6.5")
def beam(
    elements: Annotated[list[str], typer.Argument(metavar="ELEMENT...", show_default=False)],
    *,
    kv: Annotated[list[float], typer.Option(help="Voltage [kV]; repeatable (60, 80, 100, 200, 300).")] = [],  # noqa: B006
    displacement: Annotated[
        list[str], typer.Option(metavar="ELEMENT=eV", help="Energy that throws an atom out; repeatable.")
    ] = [],  # noqa: B006
) -> None:
    """The largest energy that an electron can hand to a resting atom of each ELEMENT, at each voltage.

    With --displacement also the voltage from which on an atom can be thrown out.
    """
    from atomreel.kinetics.beam import VOLTAGES, describe_knock_on, parse_displacement

    for line in describe_knock_on(elements, kv or VOLTAGES, displacement_eV=parse_displacement(displacement)):
        screen.print(escape(line), highlight=False, soft_wrap=True)


@app.command(epilog="Example: atomreel reactions ws2.atomreel -o reactions")
def reactions(
    run: Annotated[Path, typer.Argument(help="A Run folder of a movie.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for defects, tracks, levels and rates.")],
    material: Annotated[
        str | None, typer.Option(help="Name or TOML file; the Run's own if unset.", show_default=False)
    ] = None,
    movie: Annotated[
        Path | None,
        typer.Option(help="The file of the Run, where it is not beside it.", show_default=False),
    ] = None,
) -> None:
    """Defects judged over the whole movie, site by site: kinds, states, tracks, and the rates between states.

    A doubtful frame is no reaction: what is likely before and after counts (a hidden Markov model with Bayesian intervals).
    """
    from atomreel.kinetics.intervals import in_words
    from atomreel.pipeline.reactions import reactions_of_run

    for name, rate in reactions_of_run(run, out=out, material=material, movie=movie).items():
        screen.print(escape(f"{name}: {in_words(rate)}"), highlight=False, soft_wrap=True)
    typer.echo(out)


@app.command(epilog="Example: atomreel detect movie.tif -o detected --frame 3")
def detect(
    file: File,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for defects.parquet, model, figures, film.")
    ],
    frame: Annotated[int | None, typer.Option(help="Frame to learn from; the sharpest if unset.")] = None,
    classifier: Annotated[str | None, typer.Option(help="Model that names what is found: windows.")] = None,
    recipe: RecipeFile = None,
    set: Sets = [],  # noqa: B006
) -> None:
    """Defects of a movie without a model of it: a detector learns from one frame in minutes and looks at all.

    Labels are what stays of that frame when the lattice's reflections are taken out of its spectrum. Kinds are brighter and dimmer, or a classifier's.
    """
    from atomreel.core.recipe import load_recipe
    from atomreel.pipeline.detect import describe_detected, detect_movie
    from atomreel.pipeline.source import open_source

    chosen = load_recipe(recipe, overrides=set)
    found = detect_movie(open_source(file, chosen.input), chosen, out=out, frame=frame, classifier=classifier)
    for line in describe_detected(found):
        screen.print(escape(line), highlight=False, soft_wrap=True)
    typer.echo(out)


@app.command(epilog="Example: atomreel merge ws2.atomreel detected")
def merge(
    run: Annotated[Path, typer.Argument(help="A Run folder.", show_default=False)],
    detected: Annotated[
        Path | None, typer.Argument(help="Folder that 'atomreel detect' wrote.", show_default=False)
    ] = None,
) -> None:
    """Defects of every method in one table, RUN/sources.parquet: who found what, a combined score, where they disagree.

    The methods: single frames, the whole movie, and the detector or classifier of DETECTED. The report is written again.
    """
    from atomreel.pipeline.merge import describe_sources, merge_sources
    from atomreel.report.page import write_report

    for line in describe_sources(merge_sources(run, detected)):
        screen.print(escape(line), highlight=False, soft_wrap=True)
    typer.echo(write_report(run))


@app.command(epilog="Example: atomreel simulate scope.toml -o simulated")
def simulate(
    recipe: Annotated[Path, typer.Argument(help="Scope and material (TOML).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for images and truth tables.")],
) -> None:
    """Simulate images with exact truth: TIFF files, truth.parquet and the recipe that made them."""
    from atomreel.simulate.folder import simulate_to_folder

    typer.echo(simulate_to_folder(recipe, out))


@app.command(epilog="Example: atomreel train columns -o mine --steps 2000")
def train(
    name: Annotated[str, typer.Argument(help="Model name, or a training recipe (TOML).", show_default=False)],
    *,
    out: Out = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; the recipe's own if unset.")] = None,
    device: Device = "auto",
) -> None:
    """Train a model on simulated images; resumes after a kill. The result is a model folder with its card.

    A recipe can name a material (a TOML or CIF file and a zone axis) and a microscope: a finder for those alone.
    """
    from atomreel.train import train_model

    typer.echo(train_model(name, out=out, steps=steps, device=device))


@app.command(epilog="Example: atomreel evaluate bravais")
def evaluate(name: Annotated[str, typer.Argument(help="Model name or folder.", show_default=False)]) -> None:
    """Score a model on fresh simulated images and write the scores into its card."""
    from atomreel.train import evaluate_model

    typer.echo(evaluate_model(name))


@app.command(epilog="Example: atomreel models columns")
def models(name: Annotated[str | None, typer.Argument(help="Show this model's card.")] = None) -> None:
    """The models at hand, or one model's card: what it was trained on, its limits and scores."""
    from atomreel.predict.model import describe_models

    typer.echo(describe_models(name))


@app.command(epilog="Example: atomreel report ws2")
def report(run: Annotated[Path, typer.Argument(help="A Run folder.", show_default=False)]) -> None:
    """Write report.html of a finished Run again."""
    from atomreel.report.page import write_report

    typer.echo(write_report(run))


@app.command(epilog="Example: atomreel export ws2 --to xyz -o ws2.xyz")
def export(
    run: Annotated[Path, typer.Argument(help="A Run folder.", show_default=False)],
    to: Annotated[str, typer.Option(help="xyz, csv, imagej or hyperspy.")],
    out: Out = None,
) -> None:
    """Atoms and defects of a Run for other programs: extended XYZ, CSV, ImageJ ROIs, HyperSpy."""
    from atomreel.report.export import export_run

    typer.echo(export_run(run, to, out))


@app.command()
def keys() -> None:
    """Every recipe key with its meaning and default."""
    from atomreel.core.recipe import recipe_keys

    for key, meaning in recipe_keys().items():
        screen.print(f"[bold]{key:22}[/bold] {escape(meaning)}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Versions, processor, models and optional libraries: what to paste into a bug report."""
    from atomreel.pipeline.doctor import diagnose

    for key, value in diagnose().items():
        screen.print(f"[bold]{key:14}[/bold] {escape(value)}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: user errors become one line and exit code 2; warnings become one line each."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", AtomreelWarning)
    warnings.showwarning = lambda message, *_, **__: problems.print(
        f"[yellow]note:[/yellow] {escape(str(message))}", highlight=False, soft_wrap=True
    )
    try:
        app()
    except BrokenPipeError:  # output piped into a program that stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (AtomreelError, OSError) as error:  # an OSError here is a disk or a file that failed under way
        line = " ".join(str(error).split())
        problems.print(f"[red]error:[/red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(2)
