"""What is settled once per run, from a few sample frames: scale, contrast, species, lattice, windows, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from atomreel.core.image import Movie
from atomreel.core.lattice import Lattice
from atomreel.core.material import Material, load_material
from atomreel.core.recipe import Recipe
from atomreel.interpret.calibrate import Calibration, calibrate
from atomreel.interpret.cell import AverageCell, average_cell
from atomreel.interpret.distortion import describe_reach, reachable
from atomreel.interpret.lattice import DISTORTION, fit_lattices
from atomreel.interpret.sublattices import PlacedSpecies, find_species, measured
from atomreel.kinetics.beam import knock_on
from atomreel.nets.columns import ColumnFinder
from atomreel.pipeline.progress import tell_translation
from atomreel.pipeline.source import SAMPLES, Source, has_content, spread
from atomreel.pipeline.whole import ScanDrift, scan_drift
from atomreel.pipeline.windows import Windows, choose_windows
from atomreel.predict.backend import Backend, choose_backend
from atomreel.predict.columns import Survey, find_columns, survey_columns
from atomreel.predict.model import check, load_model
from atomreel.prepare.clean import clean_frame

BLOCK = 2048  # px; of a frame larger than twice this only the central block is surveyed
DENSE, CROWD = 0.35, 100  # columns per squared spacing, and in all, that look like a crystal or like texture
STRAIN_GRID = 128  # most points of a strain map along a side


@dataclass(frozen=True)
class ColumnPlan:
    """What finding columns in a frame needs: scale, contrast and intensity classes shared by all frames.

    samples: the columns of the frames that were looked at. backend: what runs the network.
    """

    source: Source
    recipe: Recipe
    survey: Survey
    species: PlacedSpecies | None
    samples: tuple[pd.DataFrame, ...]
    backend: Backend
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a frame needs besides its own pixels.

    pixel: after calibration, (dy, dx) [Å] or None. reference: the best lattice of the sample frames, or None;
    cell: that frame folded into it. windows: of the symmetry map. preview: frames that the report shows.
    drifts: within each frame, where symmetry.drift asks for them to be undone.
    """

    columns: ColumnPlan
    reference: Lattice | None
    cell: AverageCell | None
    pixel: tuple[float, float] | None
    calibration: Calibration | None
    material: Material | None
    windows: Windows
    preview: tuple[int, ...]
    warnings: tuple[str, ...]
    drifts: tuple[ScanDrift, ...] | None = None

    @property
    def recipe(self) -> Recipe:
        return self.columns.recipe

    @property
    def spacing(self) -> float:
        """Length of a lattice vector, or of a typical one [px]."""
        return self.reference.a if self.reference is not None else 1.5 * self.columns.survey.spacing_px

    @property
    def strain_step(self) -> int:
        """Grid of the strain map: a lattice vector, or coarser where that would be many points [px]."""
        least = self.reference.a if self.reference is not None else 1.0
        return max(1, round(least), -(-max(self.movie.shape) // STRAIN_GRID))

    @property
    def movie(self) -> Movie:
        return self.columns.source.movie


def plan_columns(source: Source, recipe: Recipe) -> ColumnPlan:
    """Look at a few frames. Deterministic: a resumed run finds the same."""
    options = recipe.columns
    samples = _samples(source)
    tell_translation()
    survey = survey_columns(
        samples,
        model=options.model,
        contrast=options.contrast,
        spacing=options.spacing_px,
        backend=recipe.compute.backend,
    )
    tables = tuple(
        find_columns(
            image.data,
            survey=survey,
            threshold=options.threshold,
            precision=options.precision,
            refine=options.refine,
            max_species=1,
            decoder=options.decoder,
            backend=recipe.compute.backend,
        ).table
        for image in samples
    )
    against = check(options.model, source.movie, spacing_px=survey.spacing_px)
    net = cast(ColumnFinder, load_model(options.model)[0])
    backend = choose_backend(net.columns, recipe.compute.backend)
    warnings = [text for text in dict.fromkeys([*survey.warnings, *against, backend.notice]) if text]
    return ColumnPlan(source, recipe, survey, _species(tables, recipe), tables, backend, tuple(warnings))


def central_block(movie: Movie) -> Movie:
    """`movie`, or its central block where frames are very large: what a survey looks at."""
    cut = [slice(max(0, (n - BLOCK) // 2), max(0, (n - BLOCK) // 2) + min(n, BLOCK)) for n in movie.shape]
    shape = (min(movie.shape[0], BLOCK), min(movie.shape[1], BLOCK))
    return movie if shape == movie.shape else movie.map(lambda data: data[cut[0], cut[1]], shape=shape)


def plan_run(source: Source, recipe: Recipe) -> Plan:
    """Everything that is settled before the first frame."""
    columns = plan_columns(source, recipe)
    movie = source.movie
    warnings = [*columns.warnings, *check(recipe.symmetry.model, movie)]
    reference, sample = _best_lattice(columns.samples, central_block(movie).shape, recipe)
    if reference is None and _fills_the_field(columns, central_block(movie).shape):
        warnings.append(
            "columns fill the field as in a crystal, yet no lattice explains them: noise or texture was probably "
            "taken for columns (set columns.spacing_px to their true distance, or input.roi)"
        )
    calibration = None
    if recipe.calibrate.material is not None:
        known = load_material(recipe.calibrate.material)
        if reference is None:
            warnings.append(f"no lattice was found, so {known.name} could not calibrate the pixel size")
        else:
            calibration = calibrate(reference, known)
    material = None if recipe.defects.material is None else load_material(recipe.defects.material)
    cell = reference.b if reference is not None else 1.5 * columns.survey.spacing_px
    pixel = movie.pixel if calibration is None else calibration.pixel
    windows = choose_windows(recipe.symmetry, shape=movie.shape, pixel=pixel, lattice_px=cell)
    return Plan(
        columns=columns,
        reference=reference,
        cell=None if reference is None else average_cell(_samples(source)[sample], reference),
        pixel=pixel,
        calibration=calibration,
        material=material,
        windows=windows,
        preview=tuple(spread(len(movie), most=recipe.run.preview)),
        warnings=tuple(dict.fromkeys([*warnings, *windows.warnings])),
        drifts=scan_drift(source, recipe),
    )


def _samples(source: Source) -> Movie:
    """A few cleaned frames, evenly spread, of those that hold anything."""
    movie = source.movie
    chosen = spread(len(movie), most=SAMPLES)
    if len(chosen) > 1:
        chosen = [i for i in chosen if has_content(movie[i].data)]
    return central_block(movie.take(np.array(chosen))).map(lambda data: clean_frame(data)[0])


def _best_lattice(
    tables: tuple[pd.DataFrame, ...], shape: tuple[int, int], recipe: Recipe
) -> tuple[Lattice | None, int]:
    """Of the sample frames, the lattice that explains the most columns, and the number of its sample."""
    best: tuple[int, Lattice | None, int] = (0, None, 0)
    for sample, table in enumerate(tables):
        fit = fit_lattices(table, shape=shape, max_grains=recipe.lattice.max_grains)
        for number, lattice in enumerate(fit.lattices):
            explained = int((fit.grain == number).sum())
            if explained > best[0]:
                best = (explained, lattice, sample)
    return best[1], best[2]


def _fills_the_field(columns: ColumnPlan, shape: tuple[int, int]) -> bool:
    """Whether columns stand as densely as in a crystal of their own spacing."""
    dense = [
        len(table) * columns.survey.spacing_px**2 / (shape[0] * shape[1]) > DENSE and len(table) > CROWD
        for table in columns.samples
    ]
    return sum(dense) > len(dense) / 2


def _species(tables: tuple[pd.DataFrame, ...], recipe: Recipe) -> PlacedSpecies | None:
    """Intensity classes of all sample frames together, so that labels mean the same in every frame."""
    images = [measured(table) for table in tables if "intensity" in table]  # none where no column was found
    if sum(len(position) for position, _, _ in images) < 8:
        return None
    return find_species(images, max_classes=recipe.columns.max_species, rng=recipe.run.seed)


def describe_plan(plan: Plan) -> dict[str, Any]:
    """What run.toml says about the survey."""
    survey = plan.columns.survey
    about: dict[str, Any] = {
        "zoom": survey.zoom,
        "bright": survey.bright,
        "p_bright": survey.p_bright,
        "spacing_px": survey.spacing_px,
        "scale_source": survey.scale_source,
        "symmetry_window_px": plan.windows.side,
        "symmetry_step_px": list(plan.windows.step),
    }
    if plan.columns.species is not None:
        about["species"] = plan.columns.species.to_dict()
    if plan.reference is not None:
        options, name = plan.recipe.symmetry, plan.reference.symmetry(distortion=DISTORTION)
        reaches = reachable(plan.reference, bound=options.shear, scan=options.scan)
        about["lattice_verdict"] = describe_reach(name, reaches, bound=options.shear)
    return about


def describe_beam(plan: Plan) -> dict[str, Any]:
    """What an electron can hand to each element at most [eV], where voltage and material are known; else empty."""
    named = plan.recipe.defects.material or plan.recipe.calibrate.material
    material = plan.material or (None if named is None else load_material(named))
    if plan.movie.voltage is None or material is None:
        return {}
    elements = sorted({site.species for site in material.sites})
    return {"knock_on_eV": {element: knock_on(plan.movie.voltage, element) for element in elements}}


def describe_calibration(plan: Plan, found: Calibration) -> dict[str, Any]:
    """Pixel size and shear before and after, for run.toml."""
    before = {} if plan.movie.pixel is None else {"pixel_before": list(plan.movie.pixel)}
    numbers = {
        "pixel_after": list(found.pixel),
        "pixel_err": list(found.pixel_err),
        "shear": found.shear,
        "shear_err": found.shear_err,
        "lattice_before": dict(found.before),
        "lattice_after": dict(found.after),
        "lattice_known": dict(found.known),
    }
    return {"material": found.material, **before, **numbers}
