"""Recipe: every parameter of a run, typed, with its default. TOML both ways; unknown keys name the nearest key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atomreel.core.errors import RecipeError

Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Input(Section):
    """What is read, and what overrides the file's own metadata."""

    dataset: str | None = Field(None, description="which image, where a file holds several")
    pixel_A: Positive | None = Field(None, description="pixel size [Å]; wins over the file's")
    frame_time_s: Positive | None = Field(None, description="seconds from frame to frame")
    times_csv: Path | None = Field(None, description="CSV with columns frame, time_s (recordings pause)")
    exposure_s: Positive | None = Field(None, description="exposure of a frame [s]")
    dose: Positive | None = Field(None, description="incident electrons per Å² and frame")
    voltage_kV: Positive | None = Field(None, description="acceleration voltage [kV]")
    frames: str = Field("", description="frame range, start:stop:step; a Run counts its frames from 0")
    roi: str = Field("", description="region of interest, y0:y1,x0:x1 [px]")
    mask: Path | None = Field(None, description="image file; columns are kept where it is not zero")
    data_bar: Literal["auto", "keep"] = Field("auto", description="cut off a burnt-in data bar")


class Columns(Section):
    """Finding and fitting atomic columns."""

    model: str = Field("columns", description="model name or folder")
    contrast: Literal["auto", "bright", "dark"] = Field("auto", description="how columns look")
    spacing_px: Positive | None = Field(None, description="nearest-neighbour distance, if known [px]")
    threshold: float | None = Field(None, gt=0, lt=1, description="least score; the model's own if unset")
    precision: float | None = Field(
        None, gt=0, lt=1, description="share of the columns that shall be real, instead of a threshold"
    )
    decoder: Literal["peaks", "log", "watershed"] = Field(
        "peaks", description="centres by maxima of the map, Laplacian of Gaussian or watershed"
    )
    refine: bool = Field(True, description="maximum-likelihood positions with errors")
    max_species: int = Field(4, ge=1, le=8, description="most intensity classes to look for")


class Symmetry(Section):
    """Bravais class of sliding windows."""

    model: str = Field("bravais", description="model name or folder")
    window: Annotated[int, Field(ge=2)] | Literal["lattice"] = Field(
        "lattice",
        description="window size [px]; 'lattice' = ten lattice vectors, in small frames down to six (the paper: 128)",
    )
    window_A: Positive | None = Field(None, description="window size [Å], instead of symmetry.window")
    step: Annotated[float, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="step [px], whole or not; 'auto' = a quarter window, less so that the last ones end at the border "
        "(the paper: 16)",
    )
    step_A: Positive | None = Field(None, description="step [Å], instead of symmetry.step")
    passes: int = Field(20, ge=0, description="Monte-Carlo dropout passes; 0 = no standard deviation")
    shear: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description="shear s (x′ = x + s·y) that imaging may have added to the true lattice",
    )
    scan: Literal["any", "rows", "columns"] = Field(
        "any", description="slow scan along y (rows) or x (columns); 'any' = every linear distortion"
    )
    grain_deg: float = Field(
        3.0,
        gt=0,
        lt=30,
        description="change of the lattice across a window that divides grains [degrees]; a strain of 5 % counts as 3",
    )
    drift: bool = Field(
        False, description="undo the drift between frames as it shears each frame (scans only)"
    )


class Drift(Section):
    measure: bool = Field(True, description="measure drift between frames")
    write_aligned: bool = Field(True, description="write the drift-corrected movie")


class Lattice(Section):
    max_grains: int = Field(4, ge=1, le=32, description="most lattices in one frame")
    strain: bool = Field(True, description="write strain maps")


class Defects(Section):
    material: str | None = Field(None, description="material name, TOML or CIF; names the defects")
    score: float = Field(0.5, gt=0, lt=1, description="least score of a defect that is kept")
    over_movie: bool = Field(
        True, description="judge the sites of a movie of known material over all frames, for its rates"
    )


class Detect(Section):
    """A detector that learns from one frame (`atomreel detect`)."""

    steps: int = Field(240, ge=20, description="training steps of the one-frame detector")


class Tracks(Section):
    max_step_px: Positive | None = Field(
        None, description="longest step per frame [px]; unset: 1.1 lattice vectors"
    )
    memory: int = Field(2, ge=0, description="frames that a defect may be missed")


class Calibrate(Section):
    material: str | None = Field(None, description="known lattice that sets pixel size and shear")


class Compute(Section):
    backend: Literal["auto", "openvino", "torch", "reference"] = Field(
        "auto",
        description="what runs the column network; 'auto' = the fastest here, 'reference' = torch float32",
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that share the frames of a movie; 0 = by its length and the cores",
    )


class RunOptions(Section):
    seed: int = Field(0, ge=0, description="seed of every random draw")
    chunk: int = Field(8, ge=1, le=512, description="frames per checkpoint")
    preview: int = Field(40, ge=1, le=200, description="most frames shown in the report")


class Recipe(Section):
    """The whole configuration of `atomreel run`. `analysis` holds a table of arguments per named analysis."""

    input: Input = Input()
    columns: Columns = Columns()
    symmetry: Symmetry = Symmetry()
    drift: Drift = Drift()
    lattice: Lattice = Lattice()
    defects: Defects = Defects()
    detect: Detect = Detect()
    tracks: Tracks = Tracks()
    calibrate: Calibrate = Calibrate()
    compute: Compute = Compute()
    run: RunOptions = RunOptions()
    analysis: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, unset ones left out."""
        return self.model_dump(mode="json", exclude_none=True)


def load_recipe(path: Path | str | None = None, *, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a TOML file (or the defaults) with `key=value` overrides, typed by the recipe.

    Raises RecipeError: unreadable file, unknown key (naming the nearest), value of the wrong type.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe {path}: cannot be read ({error})") from error
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"recipe {path}: not valid TOML: {error}") from error
    for text in overrides:
        key, found, value = text.partition("=")
        if not found or not key.strip():
            raise RecipeError(f"--set {text!r}: expected key=value, such as input.pixel_A=0.12")
        _put(data, key.strip().split("."), _literal(value.strip()))
    return parse_recipe(data)


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError("; ".join(_explain(item) for item in error.errors())) from None


def recipe_keys() -> dict[str, str]:
    """Every key with its default and meaning, for help texts and documentation."""
    rows = {}
    for section, info in Recipe.model_fields.items():
        default = info.default
        if isinstance(default, Section):
            for name, item in type(default).model_fields.items():
                shown = "unset" if item.default in (None, "") else item.default
                rows[f"{section}.{name}"] = f"{item.description} (default: {shown})"
    return rows


def _put(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {'.'.join(keys)}: {key} is a value, not a section")
        data = inner
    data[keys[-1]] = value


def _literal(text: str) -> Any:
    """TOML value where it is one, else the text itself (so that paths and names need no quotes)."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"recipe {where} = {item['input']!r}: {item['msg'].lower()}"
    known = [*recipe_keys(), *Recipe.model_fields]
    near = difflib.get_close_matches(where, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "see 'atomreel run --keys'"
    return f"recipe {where}: no such key; {hint}"
