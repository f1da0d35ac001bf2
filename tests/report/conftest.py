"""Synthetic Run folders: a WS₂ monolayer under the beam, drawn with numpy alone, and poorer ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w
import zarr

from atomreel.core.files import write_json, write_table, write_text

CLASSES = ("square", "rectangular", "centred", "hexagonal", "oblique", "noise")
PIXEL = 0.16  # Å
SPACING = 3.18 / PIXEL  # px


def columns(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) [y, x] px of W (0) and S₂ (1) sites of a hexagonal lattice, and their kinds."""
    a = SPACING * np.array([np.sin(0.1), np.cos(0.1)])
    b = SPACING * np.array([np.sin(0.1 + np.pi / 3), np.cos(0.1 + np.pi / 3)])
    i, j = np.mgrid[-40:40, -40:40].reshape(2, -1)
    tungsten = i[:, None] * a + j[:, None] * b + 3.0
    both = np.concatenate([tungsten, tungsten + (a + b) / 3])
    kind = np.repeat([0, 1], len(tungsten))
    inside = np.all((both > 1) & (both < side - 2), axis=1)
    return both[inside], kind[inside]


def draw(positions: np.ndarray, heights: np.ndarray, side: int) -> np.ndarray:
    image = np.zeros((side, side))
    for (y, x), height in zip(positions, heights, strict=True):
        y0, x0 = round(y), round(x)
        rows, cols = np.arange(y0 - 9, y0 + 10), np.arange(x0 - 9, x0 + 10)
        rows, cols = rows[(rows >= 0) & (rows < side)], cols[(cols >= 0) & (cols < side)]
        image[np.ix_(rows, cols)] += height * np.exp(
            -((rows[:, None] - y) ** 2 + (cols - x) ** 2) / (2 * 2.6**2)
        )
    return image


def make_run(
    path: Path, *, frames: int = 24, side: int = 256, calibrated: bool = True, shown: int = 24
) -> Path:
    """A whole Run: everything that a pipeline can write, with plausible numbers."""
    rng = np.random.default_rng(7)
    path.mkdir(parents=True, exist_ok=True)
    sites, kinds = columns(side)
    drift = np.stack([0.25 * np.arange(frames), -0.12 * np.arange(frames)], axis=1) * min(1, 24 / frames)
    edge = min(45, side // 5)
    inner = np.flatnonzero(np.all((sites > edge) & (sites < side - edge), axis=1))
    vacancies = rng.choice(inner[kinds[inner] == 1], min(5, (kinds[inner] == 1).sum()), replace=False)
    appear = np.sort(rng.integers(0, max(frames // 2, 1), len(vacancies)))
    tungsten = inner[kinds[inner] == 0]
    nearby = tungsten[np.argsort(np.hypot(*(sites[tungsten] - sites[tungsten[0]]).T))[:4]]
    dopant = nearby[np.minimum(np.arange(frames) // max(frames // 4, 1), len(nearby) - 1)]
    index = sorted({int(i) for i in np.linspace(0, frames - 1, min(shown, frames))})
    atoms, defects, pictures = [], [], []
    for t in range(frames):
        heights = np.where(kinds == 0, 1.0, 0.38)
        gone = vacancies[appear <= t]
        heights[gone] = 0.19
        heights[dopant[t]] = 0.5
        moved = sites + drift[t]
        noisy = moved + rng.normal(0, 0.12, moved.shape)
        error = np.where(heights < 0.4, 0.14, 0.06)
        atoms.append(
            pd.DataFrame(
                {
                    "frame": t,
                    "y": noisy[:, 0],
                    "x": noisy[:, 1],
                    "y_err": error * rng.uniform(0.8, 1.2, len(error)),
                    "x_err": error * rng.uniform(0.8, 1.2, len(error)),
                    "score": np.clip(0.97 - 0.1 * (heights < 0.3) - rng.exponential(0.02, len(error)), 0, 1),
                    "species": np.where(heights > 0.7, "I2", "I1"),
                    "intensity": heights * 4000 + rng.normal(0, 260, len(error)),
                }
            )
        )
        for number, site, kind in [*((n, s, "V_S") for n, s in enumerate(gone)), (50, dopant[t], "Mo_W")]:
            y, x = moved[site] + rng.normal(0, 0.2, 2)
            score = rng.uniform(0.75, 0.99)
            defects.append((t, y, x, 0.2, 0.2, kind, score, number))
        if t in index:
            pictures.append(rng.poisson(np.clip(draw(moved, heights * 60, side) + 8, 0, None)).astype(float))
    _tables(path, atoms=atoms, defects=defects, drift=drift, frames=frames, calibrated=calibrated, rng=rng)
    _pictures(path, np.array(pictures), index, rng)
    _fields(path, frames, index, side, rng)
    _about(path, frames, side, calibrated)
    return path


def _tables(path, *, atoms, defects, drift, frames, calibrated, rng) -> None:
    number = np.arange(frames)
    write_table(path / "atoms.parquet", pd.concat(atoms, ignore_index=True), kind="atoms")
    names = ["frame", "y", "x", "y_err", "x_err", "kind", "score", "track"]
    table = pd.DataFrame(defects, columns=names)
    write_table(path / "defects.parquet", table.drop(columns="track"), kind="defects")
    write_table(path / "tracks.parquet", table, kind="tracks")
    moves = table.groupby("track").first().reset_index()
    events = pd.DataFrame(
        {
            "track": moves["track"],
            "frame": moves["frame"],
            "t_s": 0.5 * moves["frame"],
            "before": "none",
            "after": moves["kind"],
            "y": moves["y"],
            "x": moves["x"],
        }
    )
    events.loc[len(events)] = [50, frames // 2, 0.25 * frames, "Mo_W", "Mo_W+V_S", 100.0, 90.0]
    write_table(path / "events.parquet", events, kind="events")
    size = rng.normal(SPACING, 0.01, (2, frames))
    lattice = pd.DataFrame({"frame": number, "grain": 0, "a_px": size.min(0), "b_px": size.max(0)})
    lattice = lattice.assign(gamma_deg=60 + rng.normal(0, 0.05, frames), angle_deg=-5.7, columns=280)
    lattice = lattice.assign(residual_px=0.12, symmetry="hexagonal")
    for name, error in (("a_px", 0.01), ("b_px", 0.01), ("gamma_deg", 0.05), ("angle_deg", 0.05)):
        lattice[f"{name}_err"] = error
    if calibrated:
        for name in "ab":
            lattice[f"{name}_A"] = lattice[f"{name}_px"] * PIXEL
            lattice[f"{name}_A_err"] = 0.01 * PIXEL
    write_table(path / "lattice.parquet", lattice, kind="lattice")
    _grains(path, frames, calibrated)
    rise = 0.25 / (1 + np.exp(-(number - 0.7 * frames) / max(frames / 8, 1)))
    phases = pd.DataFrame({"frame": number, "t_s": 0.5 * number})
    for name in CLASSES:
        mean = {"hexagonal": 0.93 - rise, "noise": 0.01 + rise, "oblique": 0.04 + 0 * rise}.get(name, 0.004)
        phases[f"mean_{name}"] = mean + rng.normal(0, 0.006, frames)
        phases[f"mean_{name}_err"] = 0.015
        phases[f"hard_{name}"] = np.round(np.clip(phases[f"mean_{name}"], 0, 1), 1)
    phases["hole_fraction"] = rise / 2
    phases = phases.assign(grains=2, grain_area_px2=32768.0, grain_area_px2_err=200.0)
    write_table(path / "phases.parquet", phases, kind="phases")
    shift = pd.DataFrame(
        {"frame": number, "dy": drift[:, 0], "dx": drift[:, 1], "dy_err": 0.05, "dx_err": 0.05}
    )
    write_table(path / "drift.parquet", shift, kind="drift")
    bonds = pd.DataFrame({"frame": 0, "length_A": rng.normal(1.84, 0.03, 800)})
    write_table(path / "bond_lengths.parquet", bonds, kind="bond_lengths")
    r = np.linspace(0.05, 11.95, 120)
    g = 1 + sum(np.exp(-((r - k) ** 2) / 0.02) for k in (1.84, 3.18, 3.67, 5.5)) - np.exp(-(r**2))
    write_table(
        path / "pair_distances.parquet",
        pd.DataFrame({"from_A": r - 0.05, "to_A": r + 0.05, "count": 100, "g": g, "g_err": 0.05}),
        kind="pairs",
    )


def _grains(path: Path, frames: int, calibrated: bool) -> None:
    """Two halves of the frame, the right one turned by 12°."""
    rows = pd.DataFrame({"frame": np.repeat(np.arange(frames), 2), "grain": [1, 2] * frames})
    rows = rows.assign(symmetry="hexagonal", p=0.95, a_px=SPACING, b_px=SPACING, gamma_deg=60.0)
    rows = rows.assign(angle_deg=[-5.7, 6.3] * frames, area_px2=32768.0, y=128.0, x=[64.0, 192.0] * frames)
    rows = rows.assign(windows=50, cut=True)
    errors = {
        "a_px_err": 0.02,
        "b_px_err": 0.02,
        "gamma_deg_err": 0.1,
        "angle_deg_err": 0.1,
        "area_px2_err": 200.0,
    }
    rows = rows.assign(**errors)
    edges = pd.DataFrame({"frame": np.arange(frames), "first": 1, "second": 2, "turn_deg": 12.0})
    edges = edges.assign(turn_deg_err=0.15, change_deg=12.0, length_px=256.0)
    if calibrated:
        for name in "ab":
            rows[f"{name}_A"], rows[f"{name}_A_err"] = SPACING * PIXEL, 0.02 * PIXEL
        rows = rows.assign(area_nm2=32768 * PIXEL**2 / 100, area_nm2_err=2 * PIXEL**2)
        edges = edges.assign(length_nm=25.6 * PIXEL)
    write_table(path / "grains.parquet", rows, kind="grains")
    write_table(path / "boundaries.parquet", edges, kind="boundaries")


def _pictures(path: Path, pictures: np.ndarray, index: list[int], rng: np.random.Generator) -> None:
    low, high = np.quantile(pictures, (0.001, 0.999))
    group = zarr.open_group(path / "preview.zarr", mode="w")
    scaled = np.clip((pictures - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    group.create_array("frames", data=scaled)
    group.create_array("residual", data=rng.normal(0, 3, pictures.shape[1:]).astype(np.float32))
    group.attrs.update({"index": index, "scale": 1.0, "low": float(low), "high": float(high)})
    y, x = np.mgrid[:64, :64] / 32
    cell = zarr.open_group(path / "cell.zarr", mode="w")
    picture = np.cos(2 * np.pi * x) + np.cos(2 * np.pi * (x / 2 + y)) + np.cos(2 * np.pi * (x / 2 - y))
    cell.create_array("cell", data=picture.astype(np.float32))
    cell.attrs.update({"vectors_px": [[2.0, SPACING], [-16.2, 11.7]]})


def _fields(path: Path, frames: int, index: list[int], side: int, rng: np.random.Generator) -> None:
    window, step = 96, 16
    n = max((side - window) // step + 1, 2)
    y, x = np.mgrid[:n, :n] / n
    logits = np.zeros((len(index), len(CLASSES), n, n))
    for k, t in enumerate(index):
        logits[k, 3] = 4
        logits[k, 5] = 9 * np.exp(-((y - 0.7) ** 2 + (x - 0.3) ** 2) / 0.05) * t / frames
        logits[k] += rng.normal(0, 0.4, logits[k].shape)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    group = zarr.open_group(path / "symmetry.zarr", mode="w")
    for c, name in enumerate(CLASSES):
        group.create_array(f"p_{name}", data=p[:, c].astype(np.float32))
        group.create_array(f"std_{name}", data=(p[:, c] * (1 - p[:, c]) * 0.4).astype(np.float32))
    entropy = -(p * np.log(p)).sum(1)
    for name, values in (("entropy", entropy), ("mutual_information", 0.1 * entropy)):
        group.create_array(name, data=values.astype(np.float32))
    change = np.broadcast_to(20 * np.exp(-((x - 0.5) ** 2) / 0.01), entropy.shape).astype(np.float32)
    group.create_array("lattice_change_deg", data=change)
    group.create_array("within_shear", data=np.where(change < 10, 3, 5).astype(np.float32))
    about = {"origin": [window / 2, window / 2], "step": [step, step], "window": window, "frames": index}
    group.attrs.update(about)
    halves = np.tile(np.where(np.arange(-(-side // 5)) * 5 < side / 2, 1, 2), (len(index), -(-side // 5), 1))
    group = zarr.open_group(path / "grains.zarr", mode="w")
    group.create_array("grain", data=halves.astype(np.float32))
    group.attrs.update({"origin": [2.0, 2.0], "step": [5.0, 5.0], "frames": index})
    y, x = np.mgrid[: side // 8, : side // 8] / (side // 8)
    group = zarr.open_group(path / "strain.zarr", mode="w")
    for name, wave in (
        ("exx", np.sin(6 * x)),
        ("eyy", np.cos(5 * y)),
        ("exy", x - y),
        ("rotation_deg", x * y),
    ):
        size = 50 if name == "rotation_deg" else 1
        values = size * 0.01 * wave + size * rng.normal(0, 0.002, (len(index), *x.shape))
        values[:, :2] = np.nan
        group.create_array(name, data=values.astype(np.float32))
        group.create_array(f"{name}_err", data=np.full_like(values, size * 0.002, dtype=np.float32))
    group.attrs.update({"origin": [4.0, 4.0], "step": [8.0, 8.0], "frames": index})
    group = zarr.open_group(path / "domain.zarr", mode="w")
    corner = np.hypot(y - 1, x) < 0.3
    values = np.broadcast_to(np.where(corner, 0.1, 0.97), (len(index), *corner.shape))
    group.create_array("domain", data=values.astype(np.float32))
    group.attrs.update({"origin": [3.5, 3.5], "step": [8.0, 8.0], "frames": index})


def _about(path: Path, frames: int, side: int, calibrated: bool) -> None:
    about: dict = {
        "format": "atomreel-run",
        "version": 1,
        "plan": "0" * 64,
        "command": "atomreel run ws2.tif -o run",
        "input": {
            "path": "ws2.tif",
            "name": "ws2.tif",
            "sha256": "ab" * 32,
            "frames": frames,
            "shape": [side, side],
            "sources": {"times": "ImageJ finterval", "pixel": "TIFF resolution tag"},
            "modality": "stem",
            "voltage_kV": 60.0,
            "exposure_s": 0.5,
            "notices": ["The last frame is cut off after 240 rows and was left out."],
        },
        "recipe": {"columns": {"refine": True, "contrast": "auto"}, "symmetry": {"passes": 20}},
        "versions": {"atomreel": "0.1.0", "numpy": "2.4.6", "torch": "2.13.0"},
        "models": {"columns": {"name": "columns", "sha256": "cd" * 32}},
        "survey": {
            "zoom": 0.8,
            "bright": True,
            "p_bright": 0.93,
            "spacing_px": 11.5,
            "scale_source": "peak of the power spectrum",
        },
        "warnings": ["Frame 17: 3 % of the pixels are saturated."],
    }
    if calibrated:
        about["input"] |= {"pixel_A": [PIXEL, PIXEL]}
    write_text(path / "run.toml", tomli_w.dumps(about))
    quality = {
        "short_pairs": {"value": 0.004, "meaning": "pairs below 0.6 of the lattice spacing", "warn": False},
        "coverage_gaps": {"value": 0.021, "meaning": "holes and edges of grains count too", "warn": True},
        "outside_domain_fraction": {"value": 0.01, "meaning": "few: the model knows this", "warn": False},
        "residual_rms_over_noise": {"value": 1.08, "meaning": "1 is perfect", "warn": False},
        "half_dose_agreement_px": {"value": None, "meaning": "not possible without counts"},
    }
    write_json(path / "quality.json", quality)
    rates = {
        "V_S births": {
            "value": 0.42,
            "low": 0.14,
            "high": 0.97,
            "unit": "1/s",
            "count": 5,
            "method": "Poisson",
        },
        "Mo_W hops": {
            "value": 0.25,
            "low": 0.05,
            "high": 0.73,
            "unit": "1/s",
            "count": 3,
            "method": "Poisson",
        },
    }
    write_json(path / "rates.json", rates)


@pytest.fixture(scope="session")
def builder() -> Callable[..., Path]:
    return make_run


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Run of 24 frames, with its report. Tests read it and write elsewhere."""
    from atomreel.report.page import write_report

    run = make_run(tmp_path_factory.mktemp("run") / "ws2")
    write_report(run)
    return run


@pytest.fixture(scope="session")
def bare_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uncalibrated image of which only the preview and a table without rows exist."""
    from atomreel.core.tables import empty_table

    run = tmp_path_factory.mktemp("bare") / "image"
    run.mkdir()
    about = {
        "format": "atomreel-run",
        "version": 1,
        "input": {"name": "a.png", "frames": 1, "shape": [64, 96]},
    }
    write_text(run / "run.toml", tomli_w.dumps(about))
    group = zarr.open_group(run / "preview.zarr", mode="w")
    group.create_array("frames", data=np.arange(64 * 96, dtype=np.uint8).reshape(1, 64, 96))
    group.attrs.update({"index": [0], "scale": 1.0})
    for name in ("atoms", "defects", "tracks", "events", "lattice"):
        write_table(run / f"{name}.parquet", empty_table(name), kind=name)
    return run
