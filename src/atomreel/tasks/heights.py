"""Learning to count the atoms of every column from a focal series of three HRTEM images (METHODS S2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, optimize
from scipy.spatial import cKDTree
from torch.nn import functional as F

from atomreel.nets.heights import STRIDE, HeightReader
from atomreel.prepare.scale import from_zoomed, zoom_image
from atomreel.simulate import particles
from atomreel.simulate.series import FOCUS, Shot, expose, random_shot, record
from atomreel.tasks.bravais import fit_temperature
from atomreel.tasks.columns import draw_heat, find_peaks, match
from atomreel.tasks.scores import calibrate
from atomreel.tasks.task import Arrays, Report

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
PIXEL = 0.25  # Å, of the network's input
SIDE = 192  # px at PIXEL: field of the exit waves
FINE = 480  # px: exit waves are computed on this grid over the same field
ZONES = {"110": 0.76, "100": 0.12, "111": 0.12}
THERMAL = (0.05, 0.1)  # Å, rms displacement per axis (gold at room temperature: 0.085)
REACH = 1.3  # px of the coarse map: so near to a column its pixels tell the height
TOLD = 0.8  # share of examples with a known dose, and of those with a known level of the vacuum
LEVEL_ERR = 0.02  # relative error of that level
EDGE = 1.25  # Å: half a distance of columns


@dataclass(frozen=True)
class HeightsTask:
    """patch: side of the pieces that the network trains on [px of 0.25 Å]. most: highest column that is told apart."""

    patch: int = 112
    most: int = 12
    element: str = "Au"
    name: str = "heights"
    purpose: str = (
        "Counts the atoms of every column of a gold particle from three HRTEM images of different focus."
    )
    recipe: Mapping[str, Any] = field(
        default_factory=lambda: {
            "steps": 7000,
            "batch": 16,
            "rate": 2e-3,
            "first": 200,
            "fresh": 0.3,
            "window": 3000,
            "examples": 120,
        }
    )

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(n) for n in range(1, self.most + 1))

    @property
    def network(self) -> Mapping[str, Any]:
        return {"kind": "heights", "images": len(FOCUS), "heights": self.most, "width": 32}

    @property
    def input(self) -> Mapping[str, Any]:
        return {"pixel_A": PIXEL, "defocus_A": list(FOCUS), "smallest_px": 64, "largest_pixel_A": 0.25}

    @property
    def scope(self) -> Mapping[str, Any]:
        return {
            "modality": ["hrtem"],
            "element": [self.element],
            "zone": list(ZONES),
            "voltage": [300.0, 300.0],
            "dose": [50.0, 20_000.0],
            "tilt_deg": [0.0, 4.0],
            "defocus_offset_A": [-30.0, 30.0],
            "cs_um": [-21.0, -9.0],
        }

    def sample(self, rng: np.random.Generator) -> Arrays:
        """wave (2, Y, X) float16 real and imaginary, columns (N, 3) y, x [px of PIXEL], height; zone and tilt."""
        particle = self._particle(rng)
        stretch = float(np.exp(rng.normal(0, 0.004)))  # pixel sizes are never known exactly
        wave = particles.exit_wave(
            particle, side=FINE, pixel=stretch * PIXEL * SIDE / FINE, thermal=float(rng.uniform(*THERMAL))
        )
        wave = particles.coarser(wave, SIDE)
        return {
            "wave": np.stack([wave.real, wave.imag]).astype(np.float16),
            "columns": np.column_stack(
                [particle.columns / (stretch * PIXEL) + SIDE / 2, particle.heights]
            ).astype(np.float32),
            "facts": np.array([list(ZONES).index(particle.zone), particle.tilt], dtype=np.float32),
        }

    def _particle(self, rng: np.random.Generator) -> particles.Particle:
        return particles.random_particle(
            rng,
            element=self.element,
            zone=str(rng.choice(list(ZONES), p=list(ZONES.values()))),
            tilt=(0.0, 0.0) if rng.random() < 0.35 else (0.0, 4.0),
            radius=(5.0, 15.0),
            thickest=self.most,
            support=0.2,
            field=SIDE * PIXEL,
        )

    def encode(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        """series (3, P, P) counts, log_dose, heat map (1, P, P), and heights (P / 2, P / 2) with −1 away from columns."""
        wave = example["wave"].astype(np.float32)
        wave, columns = _turn(wave[0] + 1j * wave[1], example["columns"], rng)
        shot = random_shot(rng)
        series = expose(wave.astype(np.complex64), shot, rng, pixel=PIXEL)
        some = columns[rng.integers(len(columns)), :2] - self.patch * rng.uniform(
            0.2, 0.8, 2
        )  # not all vacuum
        y, x = np.clip(np.rint(some).astype(int), 0, SIDE - self.patch)
        at = columns[:, :2].astype(float) - (y, x)
        dose, level = told(shot, rng, pixel=PIXEL)
        return {
            "series": series[:, y : y + self.patch, x : x + self.patch],
            "log_dose": np.asarray(np.log10(dose), dtype=np.float32),
            "level": np.asarray(level, dtype=np.float32),
            "heat": draw_heat(at, (self.patch, self.patch))[None],
            "heights": draw_heights(at, columns[:, 2], self.patch),
        }

    def loss(
        self, net: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of the heat map, and of the heights at columns."""
        heat, heights = net(batch["series"], batch["log_dose"], batch["level"])
        where = F.binary_cross_entropy_with_logits(heat.float(), batch["heat"])
        height = F.cross_entropy(heights.float(), batch["heights"], ignore_index=-1)
        return 4 * where + height, {"heat": float(where.detach()), "height": float(height.detach())}

    def picture(self, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.uint8]:
        """Six patches: first and last image, true heights, heights that were read."""
        with torch.no_grad():
            heat, heights = net(batch["series"][:6], batch["log_dose"][:6], batch["level"][:6])
        rows = []
        for k in range(len(heat)):
            shown = [_grey(batch["series"][k, i]) for i in (0, 2)]
            true = (batch["heights"][k] + 1).float() / self.most
            read = (heights[k].argmax(0) + 1) / self.most * (torch.sigmoid(heat[k, 0, ::2, ::2]) > 0.3)
            maps = [m.float().repeat_interleave(2, 0).repeat_interleave(2, 1) for m in (true, read)]
            rows.append(torch.cat([*shown, *maps], 1))
        return (255 * torch.cat(rows, 0)).to(torch.uint8).cpu().numpy()

    def score(self, net: torch.nn.Module, *, seed: int, examples: int) -> Report:
        """Fresh particles imaged on the detector's own fine pixels; half calibrate, half are scored."""
        reader = cast(HeightReader, net)
        found = [self._test(reader, np.random.default_rng([seed, i])) for i in range(examples)]
        half = len(found) // 2
        first, rest = found[:half], found[half:]
        calibration = calibrate(first)
        logits, labels = (np.concatenate([f[key] for f in first]) for key in ("heights", "height"))
        temperature = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
        return Report(
            scores=summarise(rest, calibration, temperature),
            threshold=calibration["threshold"],
            calibration={
                "logit": calibration["logit"],
                "score": calibration["score"],
                "temperature": temperature,
                "position_A": position_errors(first, calibration["logit"]),
            },
        )

    def _test(self, net: HeightReader, rng: np.random.Generator) -> dict[str, Any]:
        particle, shot = self._particle(rng), random_shot(rng)
        side = min(2 * round(0.5 * SIDE * PIXEL / shot.pixel), FINE)
        shot = replace(shot, pixel=SIDE * PIXEL / side)
        wave = particles.exit_wave(
            particle, side=FINE, pixel=PIXEL * SIDE / FINE, thermal=float(rng.uniform(*THERMAL))
        )
        wave = particles.coarser(wave, side)
        series = record(wave, shot, rng)
        dose, level = told(shot, rng, pixel=shot.pixel)
        read = read_series(net, series, pixel=shot.pixel, dose=dose, level=level)
        true = particle.columns / shot.pixel + side / 2
        near = (
            2 * EDGE
            if particle.zone == "110"
            else float(cKDTree(true).query(true, k=2)[0][:, 1].min()) * shot.pixel
        )
        right, missed = match(true, read.position, spacing=near / shot.pixel, shape=(side, side))
        keep = right >= 0
        hit = right > 0
        index = cKDTree(true).query(read.position)[1]
        return {
            "logit": read.logit[keep],
            "right": hit[keep],
            "missed": missed,
            "heights": read.heights[hit],
            "height": particle.heights[index][hit] - 1,
            "hit_logit": read.logit[hit],
            "error": ((read.position - true[index])[hit]) * shot.pixel,
            "dose": 3 * shot.dose,
            "tilt": particle.tilt,
        }


@dataclass(frozen=True)
class Reading:
    """What the network says before calibration. position: (N, 2) [px of the images]. logit: (N,) of being a column.
    heights: (N, K) logits of 1 … K atoms."""

    position: Array
    logit: FloatArray
    heights: FloatArray


def told(shot: Shot, rng: np.random.Generator, *, pixel: float) -> tuple[float, float]:
    """Dose and level of the vacuum as a user knows them: NaN where not, the level with its error."""
    dose = shot.dose if rng.random() < TOLD else np.nan
    known = rng.random() < (TOLD if np.isfinite(dose) else 0.3)
    error = float(np.exp(rng.normal(0, LEVEL_ERR)))
    return dose, shot.dose * pixel**2 * error if known else np.nan


def read_series(
    net: HeightReader, series: npt.ArrayLike, *, pixel: float, dose: float = np.nan, level: float = np.nan
) -> Reading:
    """All columns of images (F, Y, X) with pixels of `pixel` [Å]. dose: [e/Å² and image]. level: of the vacuum above
    the detector's offset [units of the images]. NaN: not known."""
    zoom = pixel / PIXEL
    small = np.stack([zoom_image(image, zoom) for image in np.asarray(series)])
    ny, nx = small.shape[1:]
    fill = [(0, -n % STRIDE) for n in (ny, nx)]
    padded = np.pad(small, [(0, 0), *fill], "reflect")
    about = torch.tensor([[np.log10(dose)], [level]], dtype=torch.float32)
    heat, heights = _read_turned(net, torch.from_numpy(padded), about)
    position, logit, _ = find_peaks(heat[:ny, :nx])
    # the coarse map's pixel j covers pixels 2j and 2j + 1
    at = ((position - 0.5) / 2).T
    values = [ndimage.map_coordinates(m, at, order=1, mode="nearest") for m in heights]
    return Reading(
        from_zoomed(position, zoom),
        logit,
        np.stack(values, 1) if values else np.zeros((len(logit), 0), np.float32),
    )


def _read_turned(
    net: HeightReader, series: torch.Tensor, about: torch.Tensor
) -> tuple[FloatArray, FloatArray]:
    """Heat (Y, X) and heights (K, Y / 2, X / 2), averaged over the eight mirrors and quarter turns of the series."""
    sums: list[torch.Tensor] = []
    with torch.no_grad():
        for quarter in range(4):
            for mirror in (False, True):
                turned = torch.rot90(series, quarter, (1, 2))
                turned = turned.flip(2) if mirror else turned
                maps = [m[0].float() for m in net(turned[None].contiguous(), *about)]
                maps = [torch.rot90(m.flip(2) if mirror else m, -quarter, (1, 2)) for m in maps]
                sums = [a + b for a, b in zip(sums, maps, strict=True)] if sums else maps
    return (sums[0][0] / 8).numpy(), (sums[1] / 8).numpy()


def _turn(
    wave: npt.NDArray[Any], columns: FloatArray, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], FloatArray]:
    """One of the eight mirrors and quarter turns."""
    last, columns = wave.shape[0] - 1, columns.copy()
    for axis in (0, 1):
        if rng.random() < 0.5:
            wave = np.flip(wave, axis)
            columns[:, axis] = last - columns[:, axis]
    if rng.random() < 0.5:
        wave, columns = wave.T, columns[:, [1, 0, 2]]
    return np.ascontiguousarray(wave), columns


def draw_heights(at: Array, heights: FloatArray, side: int) -> npt.NDArray[np.int64]:
    """(side / 2, side / 2) height − 1 at pixels near a column (N, 2) [px of the fine map], −1 elsewhere."""
    grid = np.indices((side // 2, side // 2)).reshape(2, -1).T
    if not len(at):
        return np.full((side // 2, side // 2), -1)
    distance, index = cKDTree((at - 0.5) / 2).query(grid, distance_upper_bound=REACH)
    label = np.append(heights.astype(np.int64), 0)[index] - 1
    return np.asarray(np.where(np.isfinite(distance), label, -1).reshape(side // 2, -1))


def _grey(image: torch.Tensor) -> torch.Tensor:
    low, high = torch.quantile(image.float().flatten(), torch.tensor([0.002, 0.998], device=image.device))
    return ((image - low) / (high - low + 1e-9)).clamp(0, 1)


def position_errors(found: list[dict[str, Any]], logits: list[float]) -> list[float]:
    """Root mean square error per axis [Å] of columns, by the logit of being one: as many as `logits`, never rising."""
    logit = np.concatenate([f["hit_logit"] for f in found])
    square = np.concatenate([(f["error"] ** 2).mean(1) for f in found])
    order = np.argsort(logit)
    parts = [p for p in np.array_split(order, min(12, max(1, len(order) // 50))) if len(p)]
    if not parts:
        return [PIXEL] * len(logits)
    mean = optimize.isotonic_regression(
        [square[p].mean() for p in parts], weights=[len(p) for p in parts], increasing=False
    )
    error = np.sqrt(mean.x)
    return [round(float(v), 4) for v in np.interp(logits, [logit[p].mean() for p in parts], error)]


def summarise(
    found: list[dict[str, Any]], calibration: Mapping[str, Any], temperature: float
) -> dict[str, Any]:
    """Share exact and within one, by total dose and tilt; F1 of columns; how far claimed probabilities are off."""
    groups = {"all": found}
    for low, high in ((150, 1000), (1000, 6000), (6000, 60_000)):
        for name, chosen in (("aligned", lambda f: f["tilt"] == 0), ("tilted", lambda f: f["tilt"] > 0)):
            part = [f for f in found if low <= f["dose"] < high and chosen(f)]
            if part:
                groups[f"{name} {low} to {high}"] = part
    scores = {name: _rates(part, calibration, temperature) for name, part in groups.items()}
    return {**scores.pop("all"), "by_dose": scores}


def _rates(found: list[dict[str, Any]], calibration: Mapping[str, Any], temperature: float) -> dict[str, Any]:
    logit, right = (np.concatenate([f[key] for f in found]) for key in ("logit", "right"))
    called = np.interp(logit, calibration["logit"], calibration["score"]) >= calibration["threshold"]
    total = int(right.sum()) + sum(f["missed"] for f in found)
    heights, height = (np.concatenate([f[key] for f in found]) for key in ("heights", "height"))
    p = torch.from_numpy(heights / temperature).softmax(1).numpy()
    off = np.abs(p.argmax(1) - height)
    top = p.max(1, initial=0.0)
    bins = np.minimum((top * 10).astype(int), 9)
    gap = np.bincount(bins, (off == 0) - top, 10)
    return {
        "particles": len(found),
        "columns": total,
        "f1": round(2 * int((called & right).sum()) / max(1, int(called.sum()) + total), 4),
        "exact": round(float((off == 0).mean()), 4) if len(off) else 0.0,
        "within_one": round(float((off <= 1).mean()), 4) if len(off) else 0.0,
        "calibration_error": round(float(np.abs(gap).sum() / max(1, len(off))), 4),
    }


TASK = HeightsTask()
