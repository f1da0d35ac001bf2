"""Task: which point defect a window of a layer shows near its middle, none, or nothing of the kind (METHODS S3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from atomreel.core.errors import RecipeError
from atomreel.core.material import Material, load_material
from atomreel.simulate.strangers import random_strangers
from atomreel.simulate.windows import (
    CELL_PX,
    JITTER,
    NOISES,
    PRISTINE,
    ROUGH,
    SCALE_OFF,
    SIDE,
    add_noise,
    checked_kinds,
    random_noise,
    random_windows,
)
from atomreel.tasks.task import Arrays, Report

NONE = "none"  # of these
BLOCK = 64  # windows drawn together
STRANGERS = 0.25  # share of the windows that are none of these
SMOOTHED = 0.3  # share of the windows whose noise neighbours share, as in resampled images
BINS = 15  # of the reliability table


@dataclass(frozen=True)
class WindowsTask:
    """Windows are drawn without noise once; every time one is shown it has another turn and another noise."""

    material: Material
    kinds: tuple[str, ...]
    name: str = "windows"
    width: int = 12
    depth: int = 3

    @property
    def purpose(self) -> str:
        return (
            f"names the point defect near the middle of a window of {self.material.title}, "
            f"none, or says that it is none of these"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.kinds, PRISTINE, NONE)

    @property
    def input(self) -> Mapping[str, Any]:
        return {"window_px": SIDE, "lattice_px": CELL_PX, "smallest_px": SIDE}

    @property
    def scope(self) -> Mapping[str, Any]:
        return {
            "modality": ["stem"],
            "material": [self.material.name],
            "lattice_px": [CELL_PX * np.exp(-SCALE_OFF), CELL_PX * np.exp(SCALE_OFF)],
            "defect_off_middle_px": [0.0, JITTER],
            **{f"noise_{name}": list(levels) for name, levels in NOISES.items()},
        }

    @property
    def network(self) -> Mapping[str, Any]:
        return {"kind": "windows", "classes": len(self.classes), "width": self.width, "depth": self.depth}

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {
            "steps": 6000,
            "batch": 128,
            "rate": 4e-3,
            "weight_decay": 1e-2,
            "first": 16,
            "fresh": 0.5,
            "window": 600,
            "examples": 200,
        }

    def narrowed(self, *, material: Material | None, scope: Mapping[str, Any]) -> WindowsTask:
        """The same for another layer, with the kinds of its file or those that `scope` names as `kinds`.

        Raises RecipeError, InputError, UnknownNameError.
        """
        if unknown := sorted(set(scope) - {"kinds"}):
            raise RecipeError(f"scope of task windows: unknown {', '.join(unknown)}; it may name kinds only")
        material = material or self.material
        return replace(self, material=material, kinds=checked_kinds(material, scope.get("kinds")))

    def sample(self, rng: np.random.Generator) -> Arrays:
        """clean (BLOCK, SIDE, SIDE) float16, label (BLOCK,), position (BLOCK, 2) [px], nan where there is no defect."""
        strange = round(STRANGERS * BLOCK)
        labels = np.arange(BLOCK - strange) % (len(self.kinds) + 1)
        own = random_windows(self.material, rng, labels=labels, kinds=self.kinds, rough=ROUGH)
        other, _ = random_strangers(self.material, strange, rng)
        return {
            "clean": np.concatenate([own.images, other]).astype(np.float16),
            "label": np.concatenate([own.label, np.full(strange, len(self.classes) - 1)]),
            "position": np.concatenate([own.position, np.full((strange, 2), np.nan)]),
        }

    def encode(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        which = int(rng.integers(len(example["label"])))
        image = np.asarray(example["clean"][which], dtype=np.float32)
        image = np.rot90(image, int(rng.integers(4)))
        image = spoilt(image.T if rng.random() < 0.5 else image, rng)[0]
        return {"image": np.ascontiguousarray(image), "label": np.asarray(example["label"][which])}

    def loss(
        self, net: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        logits = net(batch["image"]).float()
        loss = torch.nn.functional.cross_entropy(logits, batch["label"])
        return loss, {"wrong": float((logits.argmax(1) != batch["label"]).float().mean())}

    def picture(self, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.uint8]:
        """Twelve windows, and under each its activation map for the class that the network names."""
        images = batch["image"][:12].float()
        with torch.no_grad():
            features = net.features(images)  # type: ignore[operator]
            chosen = net.answer(features).argmax(1)  # type: ignore[operator]
            maps = net.maps(features)[torch.arange(len(images)), chosen]  # type: ignore[operator]
            maps = torch.nn.functional.interpolate(maps[:, None], size=images.shape[1:], mode="bilinear")[
                :, 0
            ]
        rows = [torch.cat([_grey(one) for one in part], 1) for part in (images, maps)]
        return np.asarray(torch.cat(rows).cpu().numpy(), dtype=np.uint8)

    def score(self, net: torch.nn.Module, *, seed: int, examples: int) -> Report:
        """`examples` blocks: one half sets the temperature, the other half gives the scores."""
        logits, label, noise = self._answers(net, seed, range(examples))
        half = max(1, examples // 2) * BLOCK
        temperature = fit_temperature(logits[:half], label[:half])
        test = slice(half, None) if len(label) > half else slice(None)
        p = torch.softmax(logits[test] / temperature, 1).double().numpy()
        scores = score_classes(p, label[test].numpy(), noise[test])
        return Report(scores=scores, calibration={"temperature": temperature})

    def _answers(
        self, net: torch.nn.Module, seed: int, blocks: range
    ) -> tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.str_]]:
        """Logits, labels and the noise of every window of fresh blocks."""
        logits, labels, noises = [], [], []
        for k in blocks:
            rng = np.random.default_rng([seed, 2, k])
            block = self.sample(rng)
            made = [spoilt(image.astype(np.float32), rng) for image in block["clean"]]
            with torch.no_grad():
                logits.append(net(torch.from_numpy(np.stack([image for image, _ in made]))))
            labels.append(torch.from_numpy(block["label"]))
            noises += [name for _, name in made]
        return torch.cat(logits), torch.cat(labels), np.array(noises)


def spoilt(image: npt.NDArray[np.float32], rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], str]:
    """`image` (Y, X) with one of the four noises at a random level, some of it smoothed; and the noise's name."""
    name, level = random_noise(rng)
    noisy = add_noise(image, name, level, rng=rng)
    if rng.random() < SMOOTHED:
        noisy = gaussian_filter(noisy, float(rng.uniform(0.3, 0.9)))
    return noisy, name


def _grey(image: torch.Tensor) -> torch.Tensor:
    low, high = image.min(), image.max()
    return (255 * (image - low) / (high - low).clamp_min(1e-12)).to(torch.uint8)


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The divisor of the logits with the least cross-entropy (Guo et al., ICML 2017)."""
    trials = torch.exp(torch.linspace(np.log(0.4), np.log(3.0), 161))
    losses = [torch.nn.functional.cross_entropy(logits / t, labels) for t in trials]
    return round(float(trials[int(torch.stack(losses).argmin())]), 4)


def score_classes(
    p: npt.NDArray[Any], label: npt.NDArray[Any], noise: npt.NDArray[np.str_]
) -> dict[str, float]:
    """Of probabilities (N, C) whose last class is none of these: accuracy on the material's own windows, in all and by
    noise; shares called none among strangers and among own; expected calibration error and NLL over all."""
    top, none = p.argmax(1), p.shape[1] - 1
    own, right = label < none, p.argmax(1) == label
    by = {f"accuracy_{name}": float(right[own & (noise == name)].mean()) for name in np.unique(noise[own])}
    true = p[np.arange(len(p)), label]
    return {
        "windows": float(len(p)),
        "accuracy": float(right[own].mean()),
        "strangers_called_none": float(right[~own].mean()) if (~own).any() else float("nan"),
        "own_called_none": float((top[own] == none).mean()),
        "ece": calibration_error(p.max(1), right),
        "nll": float(-np.log(true.clip(1e-9)).mean()),
        **by,
    }


def calibration_error(confidence: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: mean |share right − mean confidence| over BINS bins, weighted by their number."""
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, right - confidence, BINS)).sum() / len(right))


TASK = WindowsTask(load_material("ws2"), ("Mo_W", "V_S", "V_W", "W_S"))
