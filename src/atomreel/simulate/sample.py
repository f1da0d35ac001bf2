"""One random image with its exact truth: the door that all training uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.material import Material
from atomreel.core.scope import Scope
from atomreel.simulate import scenes
from atomreel.simulate.exposure import EXPOSERS

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
MODALITIES = {"stem": 0.6, "hrtem": 0.25, "stm": 0.15}
SCOPE: dict[str, Any] = Scope().to_dict()  # the conditions of random_image without a scope, for cards


@dataclass(frozen=True)
class Simulated:
    """image: (Y, X) float32, any unit. columns: (N, 2) (y, x) px, where each column is *seen*: smooth drift and
    shear included, random line jitter not. species: (N,) names. intensity: (N,) height of the column's own peak
    above its surroundings [counts, or image units for STM]. snr: (N,) of a matched filter on that peak; below
    about 3 no method can find the column (0: it does not show at all). bright: columns are brighter than their
    surroundings. dose: [e⁻/Å²] for HRTEM, counts at the brightest column for STEM, NaN for STM. meta: what was drawn.
    """

    image: Float32
    columns: Array
    species: npt.NDArray[np.str_]
    intensity: Array
    snr: Array
    pixel_A: float
    nn_px: float
    bright: bool
    dose: float
    family: str
    modality: str
    meta: Mapping[str, Any] = field(default_factory=dict)


def random_image(
    rng: np.random.Generator | int | None,
    *,
    size: tuple[int, int] = (256, 256),
    materials: Sequence[str | Material] | None = None,
    modality: str | None = None,
    nn_px: tuple[float, float] | None = None,
    scope: Scope | None = None,
) -> Simulated:
    """A random specimen in a random microscope.

    size: (Y, X) px. scope: the conditions to draw from. materials ("generic" for made-up lattices), modality and
    nn_px (range of the nearest distance [px]) override those of the scope.
    The same generator state gives the same bytes. Raises InputError for an unknown modality or a field that is too small.
    """
    rng = np.random.default_rng(rng)
    scope = scope or Scope()
    scope = scope if nn_px is None else replace(scope, nn_px=nn_px)
    if min(size) < 16:
        raise InputError(f"size {size}: at least 16 px on each side are needed")
    kinds = (modality,) if modality else scope.modality or tuple(MODALITIES)
    if unknown := set(kinds) - set(MODALITIES):
        raise InputError(f"modality {sorted(unknown)[0]!r}: it is one of {', '.join(MODALITIES)}")
    odds = np.array([MODALITIES[kind] for kind in kinds])
    modality = str(rng.choice(kinds, p=odds / odds.sum()))
    nn = scope.draw("nn_px", rng)
    material = scenes.pick_material(rng, materials or scope.materials or None)
    faceted = scope.range("faceted")[1]
    scene = scenes.random_scene(rng, material, nn_px=nn, size=size, faceted=faceted)
    shot = EXPOSERS[modality](scene, scope, rng, nn=nn, size=size)
    return Simulated(
        image=np.ascontiguousarray(shot.image, dtype=np.float32),
        columns=shot.seen[shot.index],
        species=scene.structure.labels[shot.index],
        intensity=shot.intensity,
        snr=shot.snr,
        pixel_A=scene.nearest / nn,
        nn_px=nn,
        bright=shot.bright,
        dose=shot.dose,
        family=f"{modality}_{scene.family}_{scene.form}",
        modality=modality,
        meta=shot.meta | {"form": scene.form, "family": scene.family},
    )
