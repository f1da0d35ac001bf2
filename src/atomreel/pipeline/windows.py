"""Which windows a symmetry map has: their size and step, asked for in px or Å, or taken from the lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomreel.core.errors import InputError, RecipeError
from atomreel.core.recipe import Symmetry
from atomreel.predict.sliding import window_grid
from atomreel.predict.symmetry import window_for_lattice

GRID = 24  # most windows along a side, unless a step is asked for
SMALLEST_CELLS, SHARE = (
    6.0,
    0.4,
)  # lattice vectors, and share of the frame, that a window following the lattice keeps
FEWEST_CELLS = 4.0  # lattice vectors across a window below which a lattice has no certain class


@dataclass(frozen=True)
class Windows:
    """side: of each window [px]. step: (dy, dx) between windows [px]. flush: the last ones end at the border.
    warnings: what there is to doubt about them."""

    side: int
    step: tuple[float, float]
    flush: bool
    warnings: tuple[str, ...] = ()

    @property
    def origin(self) -> tuple[float, float]:
        """Centre (y, x) of the first window [px]."""
        return (self.side - 1) / 2, (self.side - 1) / 2


def choose_windows(
    options: Symmetry, *, shape: tuple[int, int], pixel: tuple[float, float] | None, lattice_px: float
) -> Windows:
    """Windows of a frame of `shape`.

    pixel: (dy, dx) [Å] or None. lattice_px: the longer lattice vector, or a typical one [px].
    A window in Å is a square in px, of the side that has the area asked for where pixels are not square.
    Raises RecipeError for a size given twice, InputError for Å without a pixel size.
    """
    side = asked_side(options, pixel)
    if side is None:
        # of a small frame less than ten vectors, so that there is something to map
        small = max(SMALLEST_CELLS * lattice_px, SHARE * min(shape))
        side = min(window_for_lattice(lattice_px, shape), int(np.ceil(small)))
    grid = window_grid(shape, window=side, step=1, flush=True)
    step = _asked_step(options, pixel)
    if step is None:
        auto = max(1, grid.side // 4, -(-(max(shape) - grid.side) // GRID))
        return Windows(
            grid.side,
            window_grid(shape, window=side, step=auto, flush=True).step,
            True,
            _doubts(grid.side, lattice_px),
        )
    return Windows(grid.side, step, False, _doubts(grid.side, lattice_px))


def asked_side(options: Symmetry, pixel: tuple[float, float] | None) -> int | None:
    """Side of the window [px] that the recipe names, None where it follows the lattice. Errors as choose_windows."""
    if options.window_A is None:
        return None if options.window == "lattice" else options.window
    if options.window != "lattice":
        raise RecipeError(
            f"symmetry.window = {options.window} px and symmetry.window_A = {options.window_A:g} Å: give one of them"
        )
    side = round(options.window_A / float(np.sqrt(np.prod(_known(pixel, "window", options.window_A)))))
    if side < 2:
        raise InputError(
            f"symmetry.window_A = {options.window_A:g} Å is {side} px here: at least 2 px are needed"
        )
    return side


def _asked_step(options: Symmetry, pixel: tuple[float, float] | None) -> tuple[float, float] | None:
    if options.step_A is None:
        return None if options.step == "auto" else (float(options.step), float(options.step))
    if options.step != "auto":
        raise RecipeError(
            f"symmetry.step = {options.step:g} px and symmetry.step_A = {options.step_A:g} Å: give one of them"
        )
    dy, dx = _known(pixel, "step", options.step_A)
    step = options.step_A / dy, options.step_A / dx
    if min(step) < 1:
        raise InputError(
            f"symmetry.step_A = {options.step_A:g} Å is {min(step):.2g} px here: at least 1 px is needed"
        )
    return step


def _known(pixel: tuple[float, float] | None, name: str, value: float) -> tuple[float, float]:
    if pixel is None:
        raise InputError(
            f"symmetry.{name}_A = {value:g} Å: the pixel size is not known. Give it with --set input.pixel_A=…, let a "
            f"known lattice set it with --set calibrate.material=…, or give the {name} in px with symmetry.{name}"
        )
    return pixel


def _doubts(side: int, lattice_px: float) -> tuple[str, ...]:
    cells = side / lattice_px
    if cells >= FEWEST_CELLS:
        return ()
    return (
        f"a symmetry window of {side} px is {cells:.2g} lattice vectors wide; below {FEWEST_CELLS:g} the class is a guess",
    )
