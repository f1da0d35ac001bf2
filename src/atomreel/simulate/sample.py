"""One random image with its exact truth: the door that all training uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.material import Material
from atomreel.simulate import detector, hrtem, scenes
from atomreel.simulate.scenes import Scene
from atomreel.simulate.stem import AberratedProbe, Probe, render_stem, z_contrast
from atomreel.simulate.stm import render_stm, scan_artefacts

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
MODALITIES = {"stem": 0.6, "hrtem": 0.25, "stm": 0.15}


@dataclass(frozen=True)
class Simulated:
    """image: (Y, X) float32, any unit. columns: (N, 2) (y, x) px, where each column is *seen*: smooth drift and
    shear included, random line jitter not. species: (N,) names. intensity: (N,) height of the column's own peak
    above its surroundings [counts, or image units for STM]. snr: (N,) of a matched filter on that peak; below
    about 3 no method can find the column. bright: columns are brighter than their surroundings. dose: [e⁻/Å²] for
    HRTEM, counts at the brightest column for STEM, NaN for STM. meta: every parameter that was drawn.
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
    nn_px: tuple[float, float] = (5.0, 30.0),
) -> Simulated:
    """A random specimen in a random microscope.

    size: (Y, X) px. materials: names ("generic" for made-up lattices) or Materials, all by default.
    modality: "stem", "hrtem" or "stm", or None for a mixture. nn_px: range of the nearest distance [px], log-uniform.
    The same generator state gives the same bytes. Raises InputError for an unknown modality.
    """
    rng = np.random.default_rng(rng)
    if modality is not None and modality not in MODALITIES:
        raise InputError(f"modality {modality!r}: it is one of {', '.join(MODALITIES)}")
    modality = modality or str(rng.choice(list(MODALITIES), p=list(MODALITIES.values())))
    nn = log_uniform(rng, *nn_px)
    scene = scenes.random_scene(rng, scenes.pick_material(rng, materials), nn_px=nn, size=size)
    return _MODALITY[modality](scene, rng, nn, size)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _seen_positions(
    scene: Scene, rng: np.random.Generator, nn: float, size: tuple[int, int], amount: float
) -> tuple[Array, dict[str, Any]]:
    """Columns in px, after the smooth drift of a scan (shear, stretch and a bend)."""
    positions = scene.structure.positions * nn / scene.nearest
    rate = rng.normal(0, 0.012 * amount, 2) * size[0]
    bend = rng.normal(0, 1, 2) * rng.choice([0, 0.3, 2.0]) * amount * (rng.random() < 0.5)
    seen = detector.drift(positions, rate=(rate[0], rate[1]), bend=(bend[0], bend[1]), lines=size[0])
    return seen, {"drift_px": rate.tolist(), "bend_px": bend.tolist()}


def _truth(
    scene: Scene, seen: Array, size: tuple[int, int], *, all_columns: bool = False
) -> npt.NDArray[np.int64]:
    """Index of the visible columns within the field."""
    inside = np.all((seen > -0.5) & (seen < np.array(size) - 0.5), axis=1)
    return np.flatnonzero(inside & (scene.structure.visible | all_columns))


def _random_probe(rng: np.random.Generator, scene: Scene, pixel: float) -> Probe | AberratedProbe:
    """An aberrated probe that resolves the columns, or a free shape from sharp to just overlapping."""
    if rng.random() < 0.35 and 0.05 < pixel < 0.45 and scene.nearest > 1.2:
        return AberratedProbe(
            voltage=float(rng.choice([60, 80, 100, 200, 300])),
            semiangle=float(rng.uniform(22, 36)),
            defocus=float(rng.normal(0, 15)),
            cs=float(rng.normal(0, 0.7)),
            astigmatism=float(rng.exponential(8)),
            angle=float(rng.uniform(-180, 180)),
            coma=float(rng.exponential(50)),
            source=float(rng.uniform(0.4, 0.9)),
        )
    # as a share of the nearest distance: points, discs, and dumbbells that only just stay apart
    fwhm = max(scene.nearest * rng.triangular(0.25, 0.6, 0.92), 1.5 * pixel)
    return Probe(
        float(fwhm),
        tail=float(rng.choice([0.0, rng.uniform(0, 0.5)])),
        tail_ratio=float(rng.uniform(1.8, 5)),
        ratio=float(1 + abs(rng.normal(0, 0.15)) * (rng.random() < 0.5)),
        angle=float(rng.uniform(-180, 180)),
    )


def _stem(scene: Scene, rng: np.random.Generator, nn: float, size: tuple[int, int]) -> Simulated:
    pixel = scene.nearest / nn
    seen, meta = _seen_positions(scene, rng, nn, size, rng.choice([0.1, 1.0, 2.0]))
    dark = bool(rng.random() < 0.12)  # annular bright field: light columns show too, all of them dark
    index = _truth(scene, seen, size, all_columns=dark)
    weights = _stem_weights(scene, rng, index, dark)
    probe = _random_probe(rng, scene, pixel)
    clean = np.maximum(render_stem(seen, weights, size, probe=probe, pixel=pixel), 0)
    depth = 1.0
    if dark:
        depth = rng.uniform(0.15, 0.8) / max(float(clean.max()), 1.0)
        clean = 1 - depth * clean
    clean = clean + (0.3 if dark else 1.0) * _stem_background(scene, rng, size, nn)
    if rng.random() < 0.2:
        clean = clean * np.exp(rng.uniform(0, 0.3) * detector.smooth_field(size, rng, scale=0.4 * size[0]))
    jitter = rng.choice([0.0, 0.3, 1.0], p=[0.3, 0.4, 0.3]) * rng.random(2) * (0.15, 0.3) * max(nn / 12, 0.6)
    clean = detector.jitter_lines(clean, *detector.line_jitter(size[0], rng, y=jitter[0], x=jitter[1]))
    peak = log_uniform(rng, 0.7, 30) if rng.random() < 0.65 else log_uniform(rng, 10, 1e4)
    peak = peak / depth if dark else peak  # counts of contrast, whichever its sign
    expected = peak * np.maximum(clean, 0)
    image = detector.add_counts(expected, rng)
    readout = rng.choice([0.0, rng.uniform(0, 0.7)])
    image = detector.add_readout(image, rng, sigma=readout) if readout else image
    own = peak * depth * weights[index]
    noise = np.sqrt(_at(expected, seen[index]) * 0.75 + readout**2 + 1e-9)
    snr = own * np.sqrt(np.pi) * _width_px(probe, pixel) / noise
    meta |= {
        "probe": repr(probe),
        "jitter_px": jitter.tolist(),
        "readout": float(readout),
        "peak": peak,
        "abf": dark,
    }
    return _pack(
        scene, _post(image, rng, scan=True), seen, index, own, snr, nn, not dark, peak * depth, "stem", meta
    )


def _stem_weights(scene: Scene, rng: np.random.Generator, index: npt.NDArray[np.int64], dark: bool) -> Array:
    """Heights of all columns, the brightest ones in the field at 1."""
    exponent = rng.uniform(0.5, 0.9) if dark else rng.uniform(1.4, 2.0)
    power = np.array([z_contrast(kind.atoms, exponent) for kind in scene.structure.kinds])
    weights = power[scene.structure.kind] * scene.structure.height
    if not scene.layer and rng.random() < 0.6:
        weights = weights * np.exp(rng.normal(0, 0.12, len(weights)))
    return weights / (float(np.quantile(weights[index], 0.98)) if len(index) else float(weights.max()))


def _width_px(probe: Probe | AberratedProbe, pixel: float) -> float:
    """Standard deviation of the core [px]; for an aberrated probe from its diffraction limit and source."""
    if isinstance(probe, Probe):
        return probe.fwhm / 2.3548 / pixel
    airy = 0.51 * hrtem.wavelength(probe.voltage) / (probe.semiangle * 1e-3)
    return float(np.hypot(airy, probe.source)) / 2.3548 / pixel


def _stem_background(scene: Scene, rng: np.random.Generator, size: tuple[int, int], nn: float) -> Float32:
    """In units of the brightest column: level, ramp, contamination, amorphous support."""
    level = rng.choice([0.02, 0.1, 0.6], p=[0.4, 0.4, 0.2]) * rng.random() * (1.0 if scene.layer else 1.5)
    ramp = rng.normal(0, 0.05 + 0.3 * level, 2) * (rng.random() < 0.6)
    image = detector.add_background(
        np.zeros(size, np.float32), level=level + 0.5 * np.abs(ramp).sum(), ramp=(ramp[0], ramp[1])
    )
    if rng.random() < 0.4:
        image = detector.add_contamination(
            image,
            rng,
            blobs=int(rng.integers(1, 6)),
            height=rng.uniform(0.05, 0.8),
            width=nn * rng.uniform(1.2, 5),
        )
    if rng.random() < (0.8 if scene.form in ("particle", "scattered") else 0.3):
        grain = detector.smooth_field(size, rng, scale=max(nn * rng.uniform(0.25, 0.8), 2.0))
        image = image + rng.uniform(0.01, 0.15) * (grain + 2).clip(0)
    if rng.random() < 0.12:
        image = image + rng.uniform(0.05, 0.4) * (
            detector.smooth_field(size, rng, scale=size[0] * rng.uniform(0.1, 0.5)) + 2
        ).clip(0)
    return image.astype(np.float32)


def _hrtem(scene: Scene, rng: np.random.Generator, nn: float, size: tuple[int, int]) -> Simulated:
    import torch

    pixel = scene.nearest / nn
    seen, meta = _seen_positions(scene, rng, nn, size, 0.1)
    voltage = float(rng.choice([60, 80, 120, 200, 300]))
    grid, pad = hrtem.padded(size, pixel)
    inside = np.all((seen > -pad) & (seen < np.array(grid) - pad), axis=1)
    wave = hrtem.phase_object(*_elements(scene, seen + pad, inside, rng), grid, pixel=pixel, voltage=voltage)
    index = _truth(scene, seen, size)
    spectrum_q = 1 / (scene.nearest * rng.uniform(0.8, 1.9))
    best = -1.0
    for attempt in range(4):
        trial = _random_optics(rng, voltage, spectrum_q, free=attempt == 0)
        view = hrtem.image_waves(torch.from_numpy(wave)[None], pixel, [trial])[0].numpy()
        view = view[pad : pad + size[0], pad : pad + size[1]]
        prominence = _prominence(view, seen[index], 0.45 * nn)
        up, down = (
            (prominence > 0).mean() if len(index) else 1.0,
            (prominence < 0).mean() if len(index) else 0.0,
        )
        if max(up, down) > best:
            best, optics, clean, bright = max(up, down), trial, view, bool(up >= down)
            contrast = np.maximum(prominence if bright else -prominence, 0)
        if best > 0.6:
            break
    dose = log_uniform(rng, 400 if scene.layer else 100, 3e4)
    if rng.random() < 0.3:
        clean = clean * (1 + rng.uniform(0.01, 0.08) * detector.smooth_field(size, rng, scale=0.3 * size[0]))
    if rng.random() < 0.4:
        clean = clean + rng.uniform(0, 0.06) * detector.smooth_field(
            size, rng, scale=max(rng.uniform(1, 2.5) / pixel, 2.0)
        )
    per_pixel = dose * pixel**2
    image = detector.add_counts(per_pixel * clean, rng)
    spread = {"c1": rng.uniform(0, 0.1), "c2": rng.uniform(0.4, 0.6), "c3": rng.uniform(2, 3)}
    image = _post(detector.apply_mtf(image, **spread), rng, scan=False)
    own = per_pixel * contrast
    snr = own * np.sqrt(np.pi) * 0.25 * nn / np.sqrt(per_pixel)
    meta |= {"optics": repr(optics), "mtf": spread, "counts_per_pixel": per_pixel}
    return _pack(scene, image, seen, index, own, snr, nn, bright, dose, "hrtem", meta)


def _prominence(image: Float32, positions: Array, reach: float) -> Array:
    """How far a column stands out of the eight points at `reach` px around it: > 0 above all, < 0 below all, else 0."""
    turn = np.arange(8) * np.pi / 4
    ring = positions[:, None] + reach * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    around = _at(image, ring.reshape(-1, 2)).reshape(-1, 8)
    here = _at(image, positions)
    return np.maximum(here - around.max(1, initial=-np.inf), 0) - np.maximum(
        around.min(1, initial=np.inf) - here, 0
    )


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


def _random_optics(rng: np.random.Generator, voltage: float, q: float, *, free: bool) -> hrtem.Optics:
    """Aberrations of METHODS' table 1; mostly near a focus that shows the lattice, sometimes anywhere."""
    cs = float(rng.uniform(-20, 20))
    defocus = hrtem.best_defocus(q, voltage=voltage, cs=cs, bright=bool(rng.random() < 0.5)) + rng.normal(
        0, 15
    )
    if (free and rng.random() < 0.3) or abs(defocus) > 300:
        defocus = rng.uniform(-200, 200)
    return hrtem.Optics(
        voltage=voltage,
        defocus=float(defocus),
        cs=cs,
        c5=float(rng.uniform(0, 5)),
        astigmatism=float(rng.choice([rng.uniform(0, 15), rng.uniform(0, 60)], p=[0.8, 0.2])),
        angle=float(rng.uniform(-180, 180)),
        focal_spread=float(rng.uniform(12, 40)),
        deflection=float(rng.uniform(0, 0.25)),
    )


def _stm(scene: Scene, rng: np.random.Generator, nn: float, size: tuple[int, int]) -> Simulated:
    seen, meta = _seen_positions(scene, rng, nn, size, rng.choice([0.5, 2.0, 4.0]))
    tone = rng.uniform(0.5, 1.0, len(scene.structure.kinds))
    if len(tone) > 1 and rng.random() < 0.15:  # as in graphite, where every other atom does not show
        tone[int(rng.integers(1, len(tone)))] = 0.0
    heights = tone[scene.structure.kind] * scene.structure.visible
    meta["row_modulation"] = bool(rng.random() < 0.25)
    if meta["row_modulation"]:
        heights = heights * (
            1 + rng.uniform(0.1, 0.4) * np.sin(seen @ rng.normal(0, 1.5 / nn, 2) + rng.uniform(0, 6))
        )
    if rng.random() < 0.2:
        heights = heights * np.exp(rng.normal(0, 0.2, len(heights)))
    fwhm = nn * rng.uniform(0.45, 0.95)
    clean = render_stm(
        seen, heights, size, fwhm=fwhm, ratio=1 + abs(rng.normal(0, 0.12)), angle=rng.uniform(-180, 180)
    )
    corrugation = max(float(np.quantile(clean, 0.95) - np.quantile(clean, 0.05)), 1e-6)
    _, dx = detector.line_jitter(size[0], rng, x=rng.choice([0.0, 0.3]) * rng.random() * max(nn / 12, 0.7))
    clean = detector.jitter_lines(clean, np.zeros(size[0]), dx)
    noise = log_uniform(rng, 0.03, 1.2)
    image = scan_artefacts(
        clean,
        rng,
        noise=noise,
        lines=rng.choice([0.0, 0.1, 0.5]) * rng.random(),
        wander=rng.choice([0.0, 0.15]) * rng.random(),
        plane=tuple(rng.normal(0, 1.0, 2) * (rng.random() < 0.7)),
        tip_changes=int(rng.poisson(0.25)),
        height=corrugation,
    )
    if rng.random() < 0.3:
        image = image + corrugation * rng.uniform(0.2, 1.0) * detector.smooth_field(
            size, rng, scale=nn * rng.uniform(3, 12)
        )
    if rng.random() < 0.2:
        image = detector.blur(image, sigma=rng.uniform(0.3, 0.8))
    index = _truth(scene, seen, size)
    index = index[heights[index] > 0]
    own = heights[index] * (1 - np.exp(-2.77 * (0.5 * nn / fwhm) ** 2))
    snr = own * np.sqrt(np.pi) * fwhm / 2.3548 / (noise * corrugation)
    meta |= {"fwhm_px": float(fwhm), "noise": noise}
    return _pack(
        scene, _post(image, rng, scan=True), seen, index, own, snr, nn, True, float("nan"), "stm", meta
    )


def _post(image: Float32, rng: np.random.Generator, *, scan: bool) -> Float32:
    """What happens after the detector: slow electronics, screen shots, grey values without meaning."""
    if scan and rng.random() < 0.1:
        image = detector.afterglow(image, decay=rng.uniform(0.2, 1.0))
    if rng.random() < 0.08:
        image = detector.blur(image, sigma=rng.uniform(0.4, 1.0))
    if rng.random() < 0.15:
        image = detector.to_8bit(image, clip=rng.choice([0.0, 0.003, 0.02]), gamma=rng.uniform(0.6, 1.4))
        if rng.random() < 0.5:
            image = detector.jpeg(image, quality=int(rng.integers(60, 98)))
    return image


def _at(image: npt.NDArray[Any], positions: Array) -> Array:
    """Values at the nearest pixels."""
    y, x = np.clip(np.rint(positions).astype(int), 0, np.array(image.shape) - 1).T
    return image[y, x].astype(float)


def _pack(
    scene: Scene,
    image: Float32,
    seen: Array,
    index: npt.NDArray[np.int64],
    own: Array,
    snr: Array,
    nn: float,
    bright: bool,
    dose: float,
    modality: str,
    meta: dict[str, Any],
) -> Simulated:
    return Simulated(
        image=np.ascontiguousarray(image, dtype=np.float32),
        columns=seen[index],
        species=scene.structure.labels[index],
        intensity=own,
        snr=snr,
        pixel_A=scene.nearest / nn,
        nn_px=nn,
        bright=bright,
        dose=dose,
        family=f"{modality}_{scene.family}_{scene.form}",
        modality=modality,
        meta=meta | {"form": scene.form},
    )


_MODALITY = {"stem": _stem, "hrtem": _hrtem, "stm": _stm}
