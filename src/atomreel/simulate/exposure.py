"""A random specimen under a random microscope of each kind: scene and scope in, image and what can be seen of it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atomreel.core.scope import Scope
from atomreel.simulate import detector, hrtem
from atomreel.simulate.scenes import Scene
from atomreel.simulate.stem import AberratedProbe, Probe, render_stem, wavelength, z_contrast
from atomreel.simulate.stm import render_stm, scan_artefacts
from atomreel.simulate.waves import field_wave

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
VOLTAGES = np.array([60, 80, 100, 120, 200, 300])


@dataclass(frozen=True)
class Exposure:
    """image: (Y, X). seen: (N, 2) px, all columns of the scene. index: the true ones within the field. intensity, snr:
    of those. bright: they are brighter than their surroundings. dose: see Simulated. meta: what was drawn."""

    image: Float32
    seen: Array
    index: Index
    intensity: Array
    snr: Array
    bright: bool
    dose: float
    meta: dict[str, Any]


def _drifted(
    scene: Scene, scope: Scope, rng: np.random.Generator, nn: float, size: tuple[int, int], amount: float
) -> tuple[Array, dict[str, Any]]:
    """Columns in px, after the smooth drift of a scan (shear, stretch and a bend)."""
    positions = scene.structure.positions * nn / scene.nearest
    rate = rng.normal(0, amount * scope.draw("drift", rng), 2) * size[0]
    bend = rng.normal(0, 1, 2) * rng.choice([0, 0.3, 2.0]) * amount * (rng.random() < 0.5)
    seen = detector.drift(positions, rate=(rate[0], rate[1]), bend=(bend[0], bend[1]), lines=size[0])
    return seen, {"drift_px": rate.tolist(), "bend_px": bend.tolist()}


def _truth(scene: Scene, seen: Array, size: tuple[int, int], *, all_columns: bool = False) -> Index:
    """Index of the visible columns within the field."""
    inside = np.all((seen > -0.5) & (seen < np.array(size) - 0.5), axis=1)
    return np.flatnonzero(inside & (scene.structure.visible | all_columns))


def _voltage(scope: Scope, rng: np.random.Generator) -> float:
    """A usual voltage [kV] in the range, or any where the range holds none."""
    low, high = scope.range("voltage")
    usual = VOLTAGES[(low <= VOLTAGES) & (high >= VOLTAGES)]
    return float(rng.choice(usual)) if len(usual) else scope.draw("voltage", rng)


def _random_probe(
    scene: Scene, scope: Scope, rng: np.random.Generator, pixel: float
) -> Probe | AberratedProbe:
    """An aberrated probe that resolves the columns, or a free shape from sharp to just overlapping."""
    if rng.random() < 0.35 and 0.05 < pixel < 0.45 and scene.nearest > 1.2:
        return AberratedProbe(
            voltage=_voltage(scope, rng),
            semiangle=scope.draw("semiangle", rng),
            defocus=float(rng.normal(0, 15)),
            cs=float(rng.normal(0, 0.7)),
            astigmatism=float(rng.exponential(8)),
            angle=float(rng.uniform(-180, 180)),
            coma=float(rng.exponential(30)),
            source=scope.draw("source", rng),
        )
    # as a share of the nearest distance: points, discs, and dumbbells that only just stay apart
    share = 0.5 * (scope.draw("fwhm", rng) + scope.draw("fwhm", rng))
    fwhm = max(scene.nearest * share, 1.5 * pixel)
    return Probe(
        float(fwhm),
        tail=scope.draw("tail", rng, lean=2),
        tail_ratio=float(rng.uniform(1.8, 5)),
        ratio=float(1 + abs(rng.normal(0, 0.15)) * (rng.random() < 0.5)),
        angle=float(rng.uniform(-180, 180)),
    )


def expose_stem(
    scene: Scene, scope: Scope, rng: np.random.Generator, *, nn: float, size: tuple[int, int]
) -> Exposure:
    """A scanned image, HAADF or annular bright field. nn: nearest distance [px]; size: (Y, X) px."""
    pixel = scene.nearest / nn
    seen, meta = _drifted(scene, scope, rng, nn, size, rng.choice([0.1, 1.0, 2.0]) / 2)
    dark = bool(
        rng.random() < scope.draw("abf", rng)
    )  # annular bright field: light columns show too, all of them dark
    index = _truth(scene, seen, size, all_columns=dark)
    weights = _stem_weights(scene, rng, index, dark)
    probe = _random_probe(scene, scope, rng, pixel)
    clean = np.maximum(render_stem(seen, weights, size, probe=probe, pixel=pixel), 0)
    depth = 1.0
    if dark:
        depth = rng.uniform(0.15, 0.8) / max(float(clean.max()), 1.0)
        clean = 1 - depth * clean
    clean = clean + (0.3 if dark else 1.0) * _stem_background(scene, scope, rng, nn, size)
    if rng.random() < 0.2:
        clean = clean * np.exp(rng.uniform(0, 0.3) * detector.smooth_field(size, rng, scale=0.4 * size[0]))
    jitter = scope.draw("jitter", rng, lean=2) * max(nn, 7.0) * rng.uniform((0, 0.5), (0.6, 1.0))
    clean = detector.jitter_lines(clean, *detector.line_jitter(size[0], rng, y=jitter[0], x=jitter[1]))
    peak = scope.draw("counts", rng, lean=1.8)
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
    image = _post(image, scope, rng, scan=True)
    return Exposure(image, seen, index, own, snr, not dark, peak * depth, meta)


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
    airy = 0.51 * wavelength(probe.voltage) / (probe.semiangle * 1e-3)
    return float(np.hypot(airy, probe.source)) / 2.3548 / pixel


def _stem_background(
    scene: Scene, scope: Scope, rng: np.random.Generator, nn: float, size: tuple[int, int]
) -> Float32:
    """In units of the brightest column: level, ramp, contamination, amorphous support."""
    level = scope.draw("background", rng, lean=4.0 if scene.layer else 3.0)
    ramp = rng.normal(0, 0.05 + 0.3 * level, 2) * (rng.random() < 0.6)
    image: npt.NDArray[Any] = detector.add_background(
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


def expose_hrtem(
    scene: Scene, scope: Scope, rng: np.random.Generator, *, nn: float, size: tuple[int, int]
) -> Exposure:
    """A phase-contrast image, in conditions where most columns show."""
    pixel = scene.nearest / nn
    seen, meta = _drifted(scene, scope, rng, nn, size, 0.0 if scene.particles else 0.05)
    voltage = _voltage(scope, rng)
    wave = field_wave(scene, seen, rng, size=size, pixel=pixel, voltage=voltage)
    index = _truth(scene, seen, size)
    spectrum_q = 1 / (scene.nearest * rng.uniform(0.8, 1.9))
    best = -1.0
    for attempt in range(6):
        aim = spectrum_q if attempt or rng.random() < 0.7 else None
        trial = _random_optics(scope, rng, voltage, q=aim, sharp=attempt > 1)
        view = wave.image(trial)
        shown, sign, height = _contrast(view, seen[index], 0.45 * nn)
        if shown > best:
            best, optics, clean, bright, contrast = shown, trial, view, sign, height
        if best > 0.6:
            break
    dose = scope.draw("dose", rng, lean=0.7 if scene.layer else 1.0)  # light layers need more
    if rng.random() < 0.3:
        clean = clean * (1 + rng.uniform(0.01, 0.08) * detector.smooth_field(size, rng, scale=0.3 * size[0]))
    if rng.random() < 0.4:
        clean = clean + rng.uniform(0, 0.06) * detector.smooth_field(
            size, rng, scale=max(rng.uniform(1, 2.5) / pixel, 2.0)
        )
    per_pixel = dose * pixel**2
    image = detector.add_counts(per_pixel * clean, rng)
    spread = {c: scope.draw(f"mtf_{c}", rng) for c in ("c1", "c2", "c3")}
    image = _post(detector.apply_mtf(image, **spread), scope, rng, scan=False)
    own = per_pixel * contrast
    snr = own * np.sqrt(np.pi) * 0.25 * nn / np.sqrt(per_pixel)
    meta |= {"optics": repr(optics), "mtf": spread, "counts_per_pixel": per_pixel}
    return Exposure(image, seen, index, own, snr, bright, dose, meta)


def _contrast(image: Float32, positions: Array, reach: float) -> tuple[float, bool, Array]:
    """Share of the columns that show, whether bright, and by how much each. Where hardly any is resolved, what they
    melt into tells the sign."""
    if len(positions) == 0:
        return 1.0, True, np.empty(0)
    prominence = _prominence(image, positions, reach)
    up, down = float(np.mean(prominence > 0)), float(np.mean(prominence < 0))
    bright = up > down if max(up, down) > 0.25 else bool(np.mean(_at(image, positions)) > image.mean())
    return max(up, down), bright, np.maximum(prominence if bright else -prominence, 0)


def _prominence(image: Float32, positions: Array, reach: float) -> Array:
    """How far a column stands out of the eight points at `reach` px around it: > 0 above all, < 0 below all, else 0."""
    turn = np.arange(8) * np.pi / 4
    ring = positions[:, None] + reach * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    around = _at(image, ring.reshape(-1, 2)).reshape(-1, 8)
    here = _at(image, positions)
    above = np.maximum(here - around.max(1, initial=-np.inf), 0)
    below = np.maximum(around.min(1, initial=np.inf) - here, 0)
    return np.asarray(above - below)


def _random_optics(
    scope: Scope, rng: np.random.Generator, voltage: float, *, q: float | None, sharp: bool
) -> hrtem.Optics:
    """Aberrations; focus near one that shows frequency `q` [1/Å], or anywhere in the range. sharp: little blur."""
    cs = scope.draw("cs", rng)
    low, high = scope.range("defocus")
    defocus = float(rng.uniform(low, high))
    if q is not None:
        bright = bool(rng.random() < 0.5)
        wanted = hrtem.best_defocus(q, voltage=voltage, cs=cs, bright=bright) + rng.normal(0, 15)
        defocus = wanted if low <= wanted <= high else defocus
    return hrtem.Optics(
        voltage=voltage,
        defocus=defocus,
        cs=cs,
        c5=scope.draw("c5", rng),
        astigmatism=scope.draw("astigmatism", rng, lean=3),
        angle=float(rng.uniform(-180, 180)),
        focal_spread=scope.draw("focal_spread", rng, lean=3 if sharp else 1),
        deflection=scope.draw("deflection", rng, lean=3 if sharp else 1),
    )


def expose_stm(
    scene: Scene, scope: Scope, rng: np.random.Generator, *, nn: float, size: tuple[int, int]
) -> Exposure:
    """A topograph: one lobe per column, a slow scan, and the marks of an imperfect tip."""
    seen, meta = _drifted(scene, scope, rng, nn, size, rng.choice([0.5, 1.0, 2.0]))
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
    fwhm = nn * scope.draw("lobe", rng)
    clean = render_stm(
        seen, heights, size, fwhm=fwhm, ratio=1 + abs(rng.normal(0, 0.12)), angle=rng.uniform(-180, 180)
    )
    corrugation = max(float(np.quantile(clean, 0.95) - np.quantile(clean, 0.05)), 1e-6)
    _, dx = detector.line_jitter(size[0], rng, x=scope.draw("jitter", rng, lean=2) * max(nn, 7.0))
    clean = detector.jitter_lines(clean, np.zeros(size[0]), dx)
    noise = scope.draw("noise", rng)
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
    image = _post(image, scope, rng, scan=True)
    return Exposure(image, seen, index, own, snr, True, float("nan"), meta)


def _post(image: Float32, scope: Scope, rng: np.random.Generator, *, scan: bool) -> Float32:
    """What happens after the detector: slow electronics, screen shots, grey values without meaning."""
    odds = scope.draw("damage", rng)
    if scan and rng.random() < 0.7 * odds:
        image = detector.afterglow(image, decay=rng.uniform(0.2, 1.0))
    if rng.random() < 0.5 * odds:
        image = detector.blur(image, sigma=rng.uniform(0.4, 1.0))
    if rng.random() < odds:
        image = detector.to_8bit(image, clip=rng.choice([0.0, 0.003, 0.02]), gamma=rng.uniform(0.6, 1.4))
        if rng.random() < 0.5:
            image = detector.jpeg(image, quality=int(rng.integers(60, 98)))
    return image


def _at(image: npt.NDArray[Any], positions: Array) -> Array:
    """Values at the nearest pixels."""
    y, x = np.clip(np.rint(positions).astype(int), 0, np.array(image.shape) - 1).T
    return np.asarray(image[y, x], dtype=float)


class Exposer(Protocol):
    """A microscope: nn is the nearest distance [px], size (Y, X) the field [px]."""

    def __call__(
        self, scene: Scene, scope: Scope, rng: np.random.Generator, *, nn: float, size: tuple[int, int]
    ) -> Exposure: ...


EXPOSERS: dict[str, Exposer] = {"stem": expose_stem, "hrtem": expose_hrtem, "stm": expose_stm}
