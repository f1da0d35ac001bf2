"""Thick crystals by abTEM's multislice: exit waves for HRTEM, and scanned HAADF or ABF images. Slow, so kept on disk.

J. Madsen & T. Susi, The abTEM code: transmission electron microscopy from first principles,
Open Research Europe 1 (2021) 24. Needs the extra `simulate`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from atomreel.core.errors import InputError, MissingExtraError
from atomreel.core.files import atomic
from atomreel.core.material import Material
from atomreel.simulate.stem import wavelength
from atomreel.simulate.structures import rotate

Array = npt.NDArray[np.float64]
HAADF = (70.0, 200.0)  # mrad
ABF = (0.5, 1.0)  # share of the probe's semi-angle


def cache_folder() -> Path:
    """Where results are kept: $ATOMREEL_CACHE, or the user's cache folder."""
    if "ATOMREEL_CACHE" in os.environ:
        return Path(os.environ["ATOMREEL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atomreel"


def upright_cell(material: Material, *, thickness: float | None = None) -> Any:
    """The smallest rectangular block of the material with the beam along z, as ase.Atoms.

    thickness: [Å], rounded to whole repeats (layers: one repeat with vacuum above and below).
    Raises InputError when no rectangular cell of reasonable size exists.
    """
    from ase import Atoms

    cell = material.vectors()
    axis = np.array(material.zone) @ cell
    repeat = float(np.linalg.norm(axis))
    first, second = _across(cell, axis / repeat, material.name)
    box = np.stack([first, second, axis])
    reach = np.arange(-8, 9)
    shifts = np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3)
    fractional = np.concatenate([shifts + np.array(site.position) for site in material.sites])
    species = np.repeat([site.species for site in material.sites], len(shifts))
    inside = fractional @ cell @ np.linalg.inv(box)
    keep = np.all((inside > -1e-6) & (inside < 1 - 1e-6), axis=1)
    lengths = np.linalg.norm(box, axis=1)
    atoms = Atoms(species[keep].tolist(), inside[keep] * lengths, cell=lengths, pbc=True)
    if material.kind == "layer":
        return atoms
    return atoms * (1, 1, max(round((thickness or repeat) / repeat), 1))


def _across(cell: Array, beam: Array, name: str) -> tuple[Array, Array]:
    """Two shortest lattice vectors perpendicular to the beam and to each other, right-handed with the beam."""
    n = np.arange(-6, 7)
    vectors = np.stack(np.meshgrid(n, n, n), axis=-1).reshape(-1, 3) @ cell
    length = np.linalg.norm(vectors, axis=1)
    flat = vectors[(length > 1e-6) & (np.abs(vectors @ beam) < 1e-4 * length)]
    flat = flat[np.lexsort((*flat.T.round(6), np.linalg.norm(flat, axis=1).round(6)))]
    for first in flat[:20]:
        right = flat[np.abs(flat @ first) < 1e-4 * np.linalg.norm(first) * np.linalg.norm(flat, axis=1)]
        if len(right):
            second = right[0]
            return first, second if np.cross(first, second) @ beam > 0 else -second
    raise InputError(f"material {name}: no small rectangular cell across this zone axis; choose another")


def exit_wave(
    atoms: Any, *, voltage: float, pixel: float, slice_thickness: float = 1.0, cache: Path | None = None
) -> tuple[npt.NDArray[np.complex64], tuple[float, float]]:
    """Wave (Y, X) in the plane of the last atom behind `atoms` (beam along z) and its pixel (dy, dx) [Å], ≤ `pixel`."""

    def compute() -> Mapping[str, npt.NDArray[Any]]:
        abtem = _abtem()
        potential = abtem.Potential(
            atoms, sampling=pixel, slice_thickness=slice_thickness, parametrization="lobato"
        )
        wave = abtem.PlaneWave(energy=voltage * 1e3).multislice(potential)
        wave = wave.compute(progress_bar=False)
        array, step = np.asarray(wave.array).T, np.array(wave.sampling[::-1])
        below = atoms.cell.lengths()[2] - atoms.positions[:, 2].max()
        return {"wave": _propagate(array, step, -below, voltage).astype(np.complex64), "pixel": step}

    key = {"what": "exit wave 1", "voltage": voltage, "pixel": pixel, "slice": slice_thickness}
    found = _cached(atoms, key, compute, cache)
    return found["wave"], (float(found["pixel"][0]), float(found["pixel"][1]))


def _propagate(
    wave: npt.NDArray[Any], pixel: Array, distance: float, voltage: float
) -> npt.NDArray[np.complex128]:
    """`wave` after `distance` [Å] of free space (Fresnel)."""
    qy = np.fft.fftfreq(wave.shape[0], pixel[0])[:, None]
    qx = np.fft.fftfreq(wave.shape[1], pixel[1])[None]
    kernel = np.exp(-1j * np.pi * wavelength(voltage) * distance * (qy**2 + qx**2))
    return np.asarray(np.fft.ifft2(np.fft.fft2(wave) * kernel))


def scan_image(
    atoms: Any,
    *,
    voltage: float,
    semiangle: float,
    angles: tuple[float, float] = HAADF,
    defocus: float = 0.0,
    phonons: int = 4,
    sigma: float = 0.08,
    seed: int = 0,
    pixel: float = 0.05,
    cache: Path | None = None,
) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    """Scanned image (Y, X) of the whole cell of `atoms`, as a share of the beam, and its pixel (dy, dx) [Å].

    angles: of the annular detector [mrad] (HAADF, or ABF · semiangle); its outer edge is cut where the sampling ends. phonons: frozen configurations with rms
    displacement `sigma` [Å]. The probe is ideal but for `defocus` [Å] (positive = underfocus).
    """

    def compute() -> Mapping[str, npt.NDArray[Any]]:
        abtem = _abtem()
        repeats = tuple(int(np.ceil(11.0 / n)) for n in atoms.cell.lengths()[:2])
        across = atoms * (*repeats, 1)
        shaken = abtem.FrozenPhonons(across, num_configs=phonons, sigmas=sigma, seed=seed)
        potential = abtem.Potential(shaken, sampling=pixel, slice_thickness=2.0, parametrization="lobato")
        matrix = abtem.SMatrix(energy=voltage * 1e3, semiangle_cutoff=semiangle, potential=potential)
        width, height = atoms.cell.lengths()[:2]
        step = 200 * wavelength(voltage) / semiangle  # finer than the image's Nyquist distance, λ / 4α
        scan = abtem.GridScan(start=(0, 0), end=(width, height), sampling=step, endpoint=False)
        widest = 0.98e3 * wavelength(voltage) / (3 * pixel)  # what the sampling can hold
        detector = abtem.AnnularDetector(inner=angles[0], outer=min(angles[1], widest))
        lens = abtem.CTF(energy=voltage * 1e3, semiangle_cutoff=semiangle, defocus=defocus)
        image = matrix.scan(scan=scan, detectors=detector, ctf=lens)
        image = image.compute(progress_bar=False)
        array = np.asarray(image.array)
        array = array.mean(0) if array.ndim == 3 else array
        return {"image": array.T.astype(np.float32), "pixel": np.array([height, width]) / array.T.shape}

    key = {"what": "scan 1", "voltage": voltage, "semiangle": semiangle, "angles": angles, "defocus": defocus}
    key |= {"phonons": phonons, "sigma": sigma, "seed": seed, "sampling": pixel}
    found = _cached(atoms, key, compute, cache)
    return found["image"], (float(found["pixel"][0]), float(found["pixel"][1]))


def tile_image(
    cell: npt.ArrayLike,
    shape: tuple[int, int],
    *,
    cell_pixel: tuple[float, float],
    pixel: float,
    angle: float = 0.0,
    origin: Sequence[float] = (0.0, 0.0),
) -> npt.NDArray[np.float32]:
    """A periodic image repeated over a field of `shape` at `pixel` [Å], turned by `angle` [°] counter-clockwise.

    origin: (y, x) [Å] in the field where the cell's first pixel lies.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].reshape(2, -1)
    at = rotate(np.stack([y, x], axis=1) * pixel - np.asarray(origin), -angle) / np.asarray(cell_pixel)
    values = map_coordinates(np.asarray(cell, dtype=np.float32), at.T, order=3, mode="grid-wrap")
    return np.asarray(values.reshape(shape), dtype=np.float32)


def _abtem() -> Any:
    try:
        import abtem
    except ImportError as error:
        raise MissingExtraError("abtem", extra="simulate", purpose="multislice") from error
    return abtem


def _cached(
    atoms: Any,
    key: Mapping[str, Any],
    compute: Callable[[], Mapping[str, npt.NDArray[Any]]],
    cache: Path | None,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an earlier call with equal atoms and parameters, or those computed now and kept."""
    text = json.dumps(
        [
            key,
            atoms.get_chemical_formula("all"),
            atoms.positions.round(5).tolist(),
            atoms.cell.lengths().tolist(),
        ]
    )
    folder = (cache or cache_folder()) / "multislice"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    arrays = dict(compute())
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        np.savez(part, **arrays)  # type: ignore[arg-type]
    return arrays
