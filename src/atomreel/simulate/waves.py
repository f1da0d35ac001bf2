"""Exit waves of whole fields: thin specimens as phase objects, particles by multislice, and carbon under them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from atomreel.simulate import hrtem
from atomreel.simulate.particles import exit_wave
from atomreel.simulate.scenes import Scene

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
FINEST = 0.17  # Å: largest pixel of a wave computed by multislice
ROOM = 4.0  # Å between a particle and the edge of its own box, where its wave has become that of the vacuum
CARBON = 0.09  # atoms per Å³ of amorphous carbon


@dataclass(frozen=True)
class FieldWave:
    """wave: on a grid `finer` times finer than the image's pixels, with a margin of `pad` pixels of the image."""

    wave: Complex
    finer: int
    pad: int
    size: tuple[int, int]
    pixel: float

    def image(self, optics: hrtem.Optics) -> Float32:
        """(Y, X) intensity in the field, mean of the vacuum = 1; finer pixels are averaged."""
        fine = hrtem.image_waves(torch.from_numpy(self.wave)[None], self.pixel / self.finer, [optics])[0]
        ny, nx = self.size
        edge, k = self.pad * self.finer, self.finer
        fine = fine[edge : edge + ny * k, edge : edge + nx * k]
        return np.asarray(fine.reshape(ny, k, nx, k).mean((1, 3)).numpy(), dtype=np.float32)


def field_wave(
    scene: Scene,
    seen: Array,
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    pixel: float,
    voltage: float,
) -> FieldWave:
    """Wave behind `scene`. seen: (N, 2) px, its columns in the image; particles with known atoms stay where they are."""
    grid, pad = hrtem.padded(size, pixel)
    if not scene.particles:
        inside = np.all((seen > -pad) & (seen < np.array(grid) - pad), axis=1)
        wave = hrtem.phase_object(
            *_elements(scene, seen + pad, inside, rng), grid, pixel=pixel, voltage=voltage
        )
        return FieldWave(wave, 1, pad, size, pixel)
    k = ceil(pixel / FINEST)
    fine, shape = pixel / k, (grid[0] * k, grid[1] * k)
    wave = np.ones(shape, dtype=np.complex64)
    if rng.random() < 0.5:
        atoms = rng.uniform(
            0, shape, (rng.poisson(CARBON * rng.uniform(0, 50) * np.prod(shape) * fine**2), 2)
        )
        wave = hrtem.phase_object(
            {"C": atoms}, {"C": np.ones(len(atoms))}, shape, pixel=fine, voltage=voltage, thermal=0.1
        )
    thermal = float(rng.uniform(0.05, 0.1))
    for centre, particle in scene.particles:
        side = 2 * ceil((np.abs(particle.atoms[:, :2]).max() + ROOM) / fine)
        at = (centre / pixel + pad) * k + 0.5 * (k - 1) - 0.5 * side  # of the box's first pixel
        corner = np.rint(at).astype(int)
        shift = np.append((at - corner) * fine, 0.0)
        part = exit_wave(
            replace(particle, atoms=particle.atoms + shift),
            side=side,
            pixel=fine,
            voltage=voltage,
            thermal=thermal,
            slice_thickness=2.0,
        )
        low, high = np.maximum(corner, 0), np.minimum(corner + side, shape)
        if (low < high).all():
            (y0, x0), (y1, x1) = low, high
            wave[y0:y1, x0:x1] *= part[y0 - corner[0] : y1 - corner[0], x0 - corner[1] : x1 - corner[1]]
    return FieldWave(wave, k, pad, size, pixel)


def _elements(
    scene: Scene, seen: Array, inside: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Positions and atom numbers by element; crystals are kept thin enough for a phase object."""
    thin = 1.0 if scene.layer or scene.form == "particle" else float(rng.integers(1, 5))
    positions: dict[str, Array] = {}
    weights: dict[str, Array] = {}
    kinds = scene.structure.kinds
    for element in sorted({a for kind in kinds for a in kind.atoms}):
        count = np.array([kind.atoms.count(element) for kind in kinds], dtype=float)[scene.structure.kind]
        chosen = inside & (count > 0)
        positions[element] = seen[chosen]
        weights[element] = count[chosen] * np.minimum(scene.structure.height[chosen], 8) * thin
    return positions, weights
