"""Learning to find atomic columns: simulated images of any material, at any scale and in either contrast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from torch.nn import functional as F

from atomreel.core.errors import InputError
from atomreel.core.material import Material
from atomreel.core.scope import Scope, make_scope
from atomreel.nets.columns import STRIDE
from atomreel.prepare.scale import to_zoomed, zoom_image, zoomed_shape
from atomreel.tasks.scores import calibrate, evidence, fit_evidence, summarise, sureness
from atomreel.tasks.spoil import cut, spoil, turn
from atomreel.tasks.task import Arrays, Report

FloatArray = npt.NDArray[np.float32]
SPACING = (5.0, 14.0)  # column spacings of the network's input [px]
SIMULATED = (4.0, 30.0)  # column spacings of the simulated images [px]
SIGMA = 1.5  # of the Gaussian that marks a column [px]
APART = 2  # px: two columns are at least this far apart, plus one
EMPTY = 0.07  # share of training patches that show nothing but noise
FINEST = 0.45  # Å: no image shows columns that are nearer to each other
MATCH = 0.25  # of the spacing: a found column this near to a true one is right


@dataclass(frozen=True)
class ColumnTask:
    """patch: side of the pieces that the U-Net trains on [px].

    sizes: smallest and largest side of a simulated image [px], which shows about `columns_across` spacings.
    conditions: what the microscopes are drawn from. material: the only one that is simulated; None for those of the
    conditions, or any.
    """

    patch: int = 192
    sizes: tuple[int, int] = (320, 512)
    columns_across: float = 26.0
    name: str = "columns"
    purpose: str = "Finds atomic columns in STEM, HRTEM and STM images of any material at any pixel size."
    classes: tuple[str, ...] = ("column",)
    conditions: Scope = field(default_factory=lambda: Scope(nn_px=SIMULATED))
    material: Material | None = None
    network: Mapping[str, Any] = field(default_factory=lambda: {"kind": "columns", "width": 32})
    recipe: Mapping[str, Any] = field(
        default_factory=lambda: {
            "steps": 14_000,
            "batch": 12,
            "rate": 2e-3,
            "first": 160,
            "fresh": 1.0,
            "window": 2000,
            "examples": 300,
        }
    )

    @property
    def input(self) -> Mapping[str, Any]:
        return {"spacing_px": list(SPACING), "smallest_px": 16}

    @property
    def scope(self) -> Mapping[str, Any]:
        from atomreel.simulate.sample import MODALITIES

        told = self.conditions.stated() | {"modality": list(self.conditions.modality or MODALITIES)}
        if self.material is None:
            return told
        pattern, (low, high) = self.material.project(), self.conditions.range("nn_px")
        names = sorted({n for n, seen in zip(pattern.labels, pattern.visible, strict=True) if seen})
        return told | {
            "materials": [self.material.name],
            "zone": list(self.material.zone),
            "species": names,
            "nearest_A": round(pattern.nearest, 4),
            "pixel_A": [round(pattern.nearest / high, 4), round(pattern.nearest / low, 4)],
        }

    def narrowed(self, *, material: Material | None, scope: Mapping[str, Any]) -> ColumnTask:
        """The same task for one material, or for the conditions `scope` (those of a Scope that differ), or both.

        Raises UnknownNameError, RecipeError, InputError for what cannot be simulated.
        """
        conditions = make_scope({"nn_px": SIMULATED, **scope})
        if material is not None and (nearest := material.project().nearest) < FINEST:
            raise InputError(
                f"{material.name} along {_axis(material)}: columns are {nearest:.2g} Å apart, which no microscope "
                f"resolves ({FINEST:g} Å at best); choose smaller indices"
            )
        what = f"{material.title} along {_axis(material)}" if material else "the materials in its scope"
        how = ", ".join(kind.upper() for kind in conditions.modality) or "STEM, HRTEM and STM"
        task = replace(
            self,
            material=material,
            conditions=conditions,
            purpose=f"Finds atomic columns of {what} in {how} images.",
            recipe={**self.recipe, "steps": 600, "fresh": 0.5, "examples": 60},
        )
        task.sample(np.random.default_rng(0))  # what cannot be simulated is told now and not under way
        return task

    def sample(self, rng: np.random.Generator) -> Arrays:
        """image (Y, X) float16 of mean 0 and standard deviation 1, columns (N, 2), and facts about them."""
        from atomreel.simulate.sample import random_image

        spacing = float(np.exp(rng.uniform(*np.log(self.conditions.range("nn_px")))))
        side = int(np.clip(self.columns_across * spacing, *self.sizes))
        made = random_image(
            rng,
            size=(side, side),
            materials=None if self.material is None else [self.material],
            nn_px=(spacing, spacing),
            scope=self.conditions,
        )
        image = np.asarray(made.image, dtype=np.float32)
        image = (image - image.mean()) / max(float(image.std()), 1e-12)
        return {
            "image": np.clip(image, -6e4, 6e4).astype(np.float16),
            "columns": np.asarray(made.columns, dtype=np.float32).reshape(-1, 2),
            "facts": np.array([made.nn_px, made.bright, np.nan_to_num(made.dose)], dtype=np.float32),
        }

    def encode(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        """patch and its heat map."""
        image, columns = turn(example["image"].astype(np.float32), example["columns"], rng)
        image = spoil(image, rng)
        spacing, bright = float(example["facts"][0]), bool(example["facts"][1])
        patch, zoom, corner = cut(
            image if bright else -image, self.patch, rng, spacing=spacing, wanted=SPACING
        )
        heat = draw_heat(to_zoomed(columns.astype(float), zoom) - corner, patch.shape)
        if rng.random() < EMPTY:
            patch, heat = disorder(patch, rng), np.zeros_like(heat)
        return {"patch": patch[None], "heat": heat[None]}

    def loss(
        self, net: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of the heat map."""
        return F.binary_cross_entropy_with_logits(net(batch["patch"]).float(), batch["heat"]), {}

    def picture(self, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.uint8]:
        """Six patches: input, truth, answer."""
        with torch.no_grad():
            answer = torch.sigmoid(net(batch["patch"][:6].float()))
        rows = []
        for patch, heat, found in zip(batch["patch"][:6], batch["heat"][:6], answer, strict=True):
            low, high = torch.quantile(patch.flatten(), torch.tensor([0.01, 0.995], device=patch.device))
            shown = ((patch - low) / (high - low + 1e-9)).clamp(0, 1)
            rows.append(torch.cat([shown[0], heat[0], found[0]], 1))
        return (255 * torch.cat(rows, 0)).to(torch.uint8).cpu().numpy()

    def score(self, net: torch.nn.Module, *, seed: int, examples: int) -> Report:
        """Whole fresh images at a scale that is off by as much as a survey may be, a few with nothing in them; half
        calibrate, half are scored."""
        found = [self._test(net, np.random.default_rng([seed, i])) for i in range(examples)]
        half = len(found) // 2
        weights = fit_evidence(found[:half])
        found = [f | {"logit": evidence(f["logit"], f["sure"], weights)} for f in found]
        calibration = calibrate(found[:half])
        return Report(
            scores=summarise(found[half:], calibration),
            threshold=calibration["threshold"],
            calibration={
                "weights": weights,
                "evidence": calibration["logit"],
                "score": calibration["score"],
            },
        )

    def _test(self, net: torch.nn.Module, rng: np.random.Generator) -> dict[str, Any]:
        example = self.sample(rng)
        image, columns = example["image"].astype(np.float32), example["columns"].astype(float)
        if rng.random() < EMPTY:
            image, columns = disorder(image, rng), columns[:0]
        spacing, bright, dose = (float(v) for v in example["facts"])
        zoom = float(np.exp(rng.uniform(np.log(6.0), np.log(12.0)))) / spacing
        zoomed = pad_to_stride(zoom_image(image if bright else -image, zoom))
        with torch.no_grad():
            logits = net(torch.from_numpy(zoomed)[None, None])[0, 0].numpy()
        ny, nx = zoomed_shape((image.shape[0], image.shape[1]), zoom)
        peaks, height, _ = find_peaks(logits[:ny, :nx])
        right, missed = match(to_zoomed(columns, zoom), peaks, spacing=zoom * spacing, shape=(ny, nx))
        keep = right >= 0
        return {
            "logit": height[keep],
            "sure": sureness(peaks, height)[keep],
            "right": right[keep] > 0,
            "missed": missed,
            "dose": dose,
        }


def _axis(material: Material) -> str:
    return f"[{' '.join(map(str, material.zone))}]"


def disorder(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The same grey values without any order: sharp, grainy, or with one typical distance, as amorphous matter has.

    Here is nothing to be found, however much it looks like columns."""
    noise = rng.permutation(patch.ravel()).reshape(patch.shape)
    grain = float(rng.choice([0.0, rng.uniform(0.4, 3.0)]))
    if grain == 0:
        return noise
    smooth = ndimage.gaussian_filter(noise, grain)
    if rng.random() < 0.5:
        smooth = smooth - ndimage.gaussian_filter(noise, grain * float(rng.uniform(1.3, 3.0)))
    smooth = smooth / max(float(smooth.std()), 1e-6)
    return smooth + float(rng.choice([0.0, rng.uniform(0.1, 1.0)])) * rng.permutation(noise.ravel()).reshape(
        noise.shape
    )


def draw_heat(columns: npt.NDArray[np.float64], shape: tuple[int, int]) -> FloatArray:
    """(N, 2) → (Y, X): at every pixel the largest of unit Gaussians of SIGMA at the columns."""
    reach = int(np.ceil(4 * SIGMA))
    grid = np.arange(-reach, reach + 1)
    near = np.all((columns > -reach) & (columns < np.array(shape) + reach), axis=1)
    whole = np.rint(columns[near]).astype(int)
    gy, gx = (
        np.exp(-0.5 * ((w[:, None] + grid - c[:, None]) / SIGMA) ** 2)
        for w, c in zip(whole.T, columns[near].T, strict=True)
    )
    heat = np.zeros((shape[0] + 4 * reach + 1, shape[1] + 4 * reach + 1), dtype=np.float32)
    rows, cols = (whole[:, axis, None] + grid + 2 * reach for axis in (0, 1))
    np.maximum.at(
        heat, (rows[:, :, None], cols[:, None, :]), (gy[:, :, None] * gx[:, None, :]).astype(np.float32)
    )
    return heat[2 * reach : 2 * reach + shape[0], 2 * reach : 2 * reach + shape[1]].copy()


def pad_to_stride(image: FloatArray, stride: int = STRIDE) -> FloatArray:
    """Mirrored at the far edges to whole strides."""
    fill = [(0, -n % stride) for n in image.shape]
    return np.pad(image, fill, "symmetric") if any(b for _, b in fill) else image


def find_peaks(logits: FloatArray) -> tuple[npt.NDArray[np.float64], FloatArray, npt.NDArray[np.int_]]:
    """Local maxima of a map of logits: positions (N, 2) by a parabola, heights (N,), and their pixels (N, 2).

    Those under −6 are left out.
    """
    top = ndimage.maximum_filter(logits, 2 * APART + 1, mode="nearest")
    y, x = np.nonzero((logits == top) & (logits > -6))
    position = np.stack([y, x], 1).astype(float)
    for axis, n in enumerate(logits.shape):
        inner = (position[:, axis] > 0) & (position[:, axis] < n - 1)
        iy, ix = y[inner], x[inner]
        dy, dx = (1, 0) if axis == 0 else (0, 1)
        below, here, above = logits[iy - dy, ix - dx], logits[iy, ix], logits[iy + dy, ix + dx]
        bend = np.minimum(below + above - 2 * here, -1e-6)
        position[inner, axis] += np.clip((below - above) / (2 * bend), -0.5, 0.5)
    return position, logits[y, x], np.stack([y, x], 1)


def match(
    true: npt.NDArray[np.float64],
    found: npt.NDArray[np.float64],
    *,
    spacing: float,
    shape: tuple[int, int],
) -> tuple[npt.NDArray[np.int_], int]:
    """For each found column 1 (right), 0 (wrong) or −1 (within half a spacing of the border), and how many are missed.

    Pairs are taken in order of distance, each column once.
    """
    edge = 0.5 * spacing
    inside = [np.all((p >= edge) & (p <= np.array(shape) - 1 - edge), axis=1) for p in (true, found)]
    right = np.zeros(len(found), dtype=int)
    taken = np.zeros(len(true), dtype=bool)
    if len(true) and len(found):
        distance, index = cKDTree(true).query(
            found, k=min(3, len(true)), distance_upper_bound=MATCH * spacing
        )
        distance, index = distance.reshape(len(found), -1), index.reshape(len(found), -1)
        for flat in np.argsort(distance, axis=None):
            i, j = np.unravel_index(flat, distance.shape)
            if not np.isfinite(distance[i, j]):
                break
            if not right[i] and not taken[index[i, j]]:
                right[i], taken[index[i, j]] = 1, True
    right[(~inside[1]) & (right == 0)] = -1
    return right, int((inside[0] & ~taken).sum())


TASK = ColumnTask()
