"""Simulated images as a folder of files: TIFFs, truth.parquet, images.json and the recipe. What `atomreel simulate` does."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tomli_w

from atomreel.core.errors import InputError, RecipeError, RunError, UnknownNameError
from atomreel.core.files import atomic_folder, write_json, write_table, write_text
from atomreel.core.scope import Scope, make_scope
from atomreel.simulate.movie import SimulatedMovie, simulate_ws2_movie
from atomreel.simulate.sample import Simulated, random_image


@dataclass(frozen=True)
class SimulationRecipe:
    """kind: "images" or "movie" (of WS2 under the beam). count: images, or frames. size: (Y, X) px or one number.
    seed: of the generator. scope: conditions of the images. calibrated: pixel sizes are written into the TIFFs."""

    kind: str = "images"
    count: int = 20
    size: int | tuple[int, int] = 256
    seed: int = 0
    calibrated: bool = True
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        if self.kind not in ("images", "movie"):
            raise RecipeError(f"kind {self.kind!r}; it is images or movie")
        if not (isinstance(self.count, int) and self.count > 0):
            raise RecipeError(f"count {self.count!r}; a whole number above 0 is needed")


def load_simulation(path: Path | str) -> SimulationRecipe:
    """From a TOML file. Raises InputError for a file that is none, UnknownNameError for an unknown key."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a simulation recipe ({error}); a TOML file is needed") from error
    known = [f.name for f in fields(SimulationRecipe)]
    for key in table:
        if key not in known:
            raise UnknownNameError("key of a simulation recipe", key, known)
    size = table.get("size", 256)
    rest = {key: value for key, value in table.items() if key not in ("scope", "size")}
    scope = make_scope(table.get("scope", {}))
    return SimulationRecipe(**rest, size=tuple(size) if isinstance(size, list) else size, scope=scope)


def simulate_to_folder(recipe: SimulationRecipe | Path | str, out: Path | str) -> Path:
    """Write what `recipe` (or its file) asks for to the new or empty folder `out`, which appears when it is complete.

    images: images/00000.tif …, truth.parquet (image, y, x, species, intensity, snr, nn_px), images.json.
    movie: movie.tif, times.csv, truth.parquet (atoms), defects.parquet, frames.parquet, events.parquet, rates.json.
    The same recipe gives the same pixels and tables. Raises RunError when `out` holds something.
    """
    text = "" if isinstance(recipe, SimulationRecipe) else Path(recipe).read_text(encoding="utf-8")
    plan = recipe if isinstance(recipe, SimulationRecipe) else load_simulation(recipe)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already and not empty; choose a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as part:
        if plan.kind == "movie":
            _write_movie(part, plan)
        else:
            _write_images(part, plan)
        write_text(
            part / "recipe.toml", text or tomli_w.dumps(asdict(plan) | {"scope": plan.scope.to_dict()})
        )
    return out


def simulated_images(plan: SimulationRecipe) -> Iterator[Simulated]:
    """The images of a recipe, one at a time. Image i does not depend on how many come before it."""
    size = (plan.size, plan.size) if isinstance(plan.size, int) else plan.size
    for i in range(plan.count):
        rng = np.random.default_rng([plan.seed, i])
        yield random_image(rng, size=size, scope=plan.scope)


def _write_images(folder: Path, plan: SimulationRecipe) -> None:
    (folder / "images").mkdir()
    truth, about = [], []
    for i, made in enumerate(simulated_images(plan)):
        name = f"{i:05d}"
        _write_tiff(folder / "images" / f"{name}.tif", made.image, made.pixel_A if plan.calibrated else None)
        truth.append(
            pd.DataFrame(
                {
                    "image": name,
                    "y": made.columns[:, 0],
                    "x": made.columns[:, 1],
                    "species": made.species,
                    "intensity": made.intensity,
                    "snr": made.snr,
                    "nn_px": made.nn_px,
                }
            )
        )
        facts = {k: getattr(made, k) for k in ("family", "modality", "pixel_A", "nn_px", "bright", "dose")}
        about.append({"image": name, "columns": len(made.columns), **facts, "parameters": made.meta})
    write_table(folder / "truth.parquet", pd.concat(truth, ignore_index=True), kind="truth")
    write_json(folder / "images.json", {"format": "atomreel-simulated", "version": 1, "images": about})


def _write_movie(folder: Path, plan: SimulationRecipe) -> None:
    size = plan.size if isinstance(plan.size, int) else plan.size[0]
    write_movie(folder, simulate_ws2_movie(plan.seed, frames=plan.count, size=size))


def write_movie(folder: Path, movie: SimulatedMovie) -> None:
    """A simulated movie and its truth into an existing folder."""
    _write_tiff(folder / "movie.tif", movie.frames, movie.pixel)
    write_text(folder / "times.csv", _times_csv(movie))
    tables: Mapping[str, pd.DataFrame] = {
        "truth": movie.atoms,
        "defects": movie.defects,
        "frames": movie.table,
        "events": movie.events,
    }
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table, kind=f"true-{name}")
    write_json(folder / "rates.json", movie.rates)


def _times_csv(movie: SimulatedMovie) -> str:
    return "frame,time_s\n" + "".join(f"{i},{t:.6g}\n" for i, t in enumerate(movie.times))


def _write_tiff(path: Path, data: npt.NDArray[Any], pixel: float | None) -> None:
    """One image, or a movie page by page; pixel size [Å] in the way of ImageJ, in nm."""
    import tifffile

    about: dict[str, Any] = {
        "photometric": "minisblack",
        "compression": "zlib",
        "compressionargs": {"level": 4},
    }
    if pixel is None:
        tifffile.imwrite(path, data, **about)
        return
    axes = "TYX" if data.ndim == 3 else "YX"
    per_nm = 10 / pixel
    tifffile.imwrite(
        path, data, imagej=True, resolution=(per_nm, per_nm), metadata={"unit": "nm", "axes": axes}, **about
    )
