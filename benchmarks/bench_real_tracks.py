"""Two real movies of things that are followed: gold particles at 750 °C, and molecules that hop under an STM.

    python benchmarks/bench_real_tracks.py DATA [--pictures FOLDER]

DATA holds au-nanoparticles-750C and stm-molecules. Writes measured/real_tracks.json.

Gold: `pipeline.particles.follow_particles` with its defaults; counts and F1 against the masks of recorded frames 20 and 39 (connected
components; a centre within 3 px), and how many particles of the first frame are still on their track in the last.
Molecules: the GIF has another program's tracks drawn over all frames but the first. Coloured marks are taken out by their colour; the
grey one, and the uneven ground, by the median of the next 12 frames (molecules have moved on by then; one that rests is lost).
Where that median has a ridge only contrasts above 40 grey levels count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.image import Movie
from atomreel.interpret.particles import find_particles, survey_particles
from atomreel.kinetics.diffusion import fit_diffusion
from atomreel.kinetics.hopping import SAME, fit_hops
from atomreel.pipeline.particles import follow_particles
from atomreel.prepare.overlay import remove_overlay
from atomreel.track.link import link

MEASURED = Path(__file__).parent / "measured" / "real_tracks.json"
LATER, RIDGE, CLEAR, LEAST = 12, 6.0, 40.0, 12.0  # frames; grey levels
REACHES = (16.0, 20.0)  # px, of the molecules' longest step: two, to see what hangs on it


def gold(folder: Path) -> dict[str, Any]:
    frames = tifffile.imread(folder / "movie.tif")
    followed = follow_particles(Movie(frames, frames.shape[1:]))
    masks = {}
    for number in (20, 39):
        labels, count = ndimage.label(iio.imread(folder / f"mask_{number}.png")[..., 0] > 127)
        centres = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)))
        sure = followed.tracks[followed.tracks["frame"] == number - 1]  # the movie starts at recorded frame 1
        gap, near = cKDTree(centres).query(sure[["y", "x"]])
        right = len(set(near[gap < 3]))
        masks[str(number)] = {
            "mask": count,
            "found": len(sure),
            "f1": round(2 * right / (count + len(sure)), 4),
            "rms_px": round(float(np.sqrt(np.mean(gap[gap < 3] ** 2))), 3),
        }
    length = followed.tracks.groupby("track").size()
    joined = followed.events[followed.events["event"].isin(["merge", "split"])]
    drift = followed.drift[["dy", "dx"]].to_numpy()
    return {
        **followed.summary(),
        "masks": masks,
        "drift_largest_px": round(float(np.hypot(*drift.T).max()), 1),
        "median_track_frames": float(length.median()),
        "points_on_tracks_of_20_or_more": round(float(length[length >= 20].sum() / length.sum()), 4),
        "events": joined[["event", "frame", "track", "partner", "y", "x", "confidence"]]
        .round(3)
        .to_dict("records"),
    }


def molecules(folder: Path, pictures: Path | None) -> dict[str, Any]:
    film = iio.imread(folder / "demo_movie.gif")
    inner = ~(film[0].min(axis=-1) > 250)  # the white frame around the picture
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    film = film[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    grey = np.stack([remove_overlay(frame)[0] for frame in film])
    count = len(grey)
    ground = [
        np.median(grey[k + 1 : k + 1 + LATER] if k < count - LATER else grey[k - LATER : k], axis=0)
        for k in range(count)
    ]
    look = survey_particles([grey[k] - ground[k] for k in np.linspace(0, count - 1, 4).round().astype(int)])
    parts = []
    for k in range(count):
        found = find_particles(grey[k] - ground[k], look)
        ridge = ndimage.maximum_filter(ground[k] - ndimage.gaussian_filter(ground[k], 5), 3)
        place = np.clip(np.rint(found[["y", "x"]]).astype(int), 0, np.array(ridge.shape) - 1).to_numpy()
        plain = (ridge[tuple(place.T)] < RIDGE) & (found["contrast"] > LEAST)
        kept = (found["score"] >= 0.5) & (plain | (found["contrast"] > CLEAR))
        parts.append(found[kept].assign(frame=k))
    table = pd.concat(parts, ignore_index=True)
    result: dict[str, Any] = {
        "frames": count,
        "radius_px": look.radius,
        "per_frame": float(table.groupby("frame").size().mean()),
        "first_frame": int((table["frame"] == 0).sum()),
    }
    for reach in REACHES:
        tracks = link(table.assign(kind="molecule"), max_step=reach, memory=2)
        result[f"steps up to {reach:g} px"] = hops(tracks)
        if pictures is not None:
            draw(grey, tracks, pictures / f"molecules_{reach:g}.png")
    return result


def hops(tracks: pd.DataFrame) -> dict[str, Any]:
    """Diffusion with the error of the positions taken off, and how often a molecule moves by more than that error."""
    long = tracks[tracks.groupby("track")["frame"].transform("size") >= 5].sort_values(["track", "frame"])
    d = fit_diffusion(long)
    stated = float(np.sqrt((long["y_err"] ** 2 + long["x_err"] ** 2).median() / 2))
    error = max(stated, 0.5)  # the fill under marks moves centres by more than noise does
    moved = 3 * np.sqrt(2) * error
    rate = fit_hops(long, hop=moved / SAME).rate
    step = np.hypot(*np.diff(long[["y", "x"]].to_numpy(), axis=0).T)
    step = step[(np.diff(long["track"]) == 0) & (np.diff(long["frame"]) == 1)]
    jump = step[step > moved]
    length = tracks.groupby("track").size()
    middle = np.quantile(jump, [0.25, 0.5, 0.75])
    return {
        "tracks": len(length),
        "tracks_of_5_or_more": int((length >= 5).sum()),
        "longest": int(length.max()),
        "d_px2_per_frame": [d.d, d.low, d.high],
        "d_steps": d.steps,
        "moved_beyond_px": moved,
        "moves_per_frame": [rate.value, rate.low, rate.high],
        "moves": rate.count,
        "jump_px_quartiles": middle.round(2).tolist(),
        "mean_step_px": np.diff(long[["y", "x"]].to_numpy(), axis=0)[
            (np.diff(long["track"]) == 0) & (np.diff(long["frame"]) == 1)
        ]
        .mean(axis=0)
        .round(3)
        .tolist(),
    }


def draw(grey: np.ndarray, tracks: pd.DataFrame, file: Path) -> None:
    """Frames with the tracks that lead to each molecule, drawn four times as large."""
    from PIL import Image, ImageDraw

    file.parent.mkdir(parents=True, exist_ok=True)
    size, scale = grey.shape[1], 3
    sheet = Image.new("RGB", (2 * scale * size, 2 * scale * size))
    for n, k in enumerate(np.linspace(0, len(grey) - 1, 4).round().astype(int)):
        tile = (
            Image.fromarray(np.uint8(np.clip(grey[k], 0, 255))).resize((scale * size,) * 2, 0).convert("RGB")
        )
        pen = ImageDraw.Draw(tile)
        for track in tracks.loc[tracks["frame"] == k, "track"]:
            own = tracks[(tracks["track"] == track) & (tracks["frame"] <= k)].sort_values("frame")
            points = [((x + 0.5) * scale, (y + 0.5) * scale) for y, x in own[["y", "x"]].to_numpy()]
            if len(points) > 1:
                pen.line(points, fill="orange")
            x, y = points[-1]
            pen.ellipse((x - 12, y - 12, x + 12, y + 12), outline="red")
        sheet.paste(tile, ((n % 2) * scale * size, (n // 2) * scale * size))
    sheet.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    result = {
        "au-nanoparticles-750C": gold(args.data / "au-nanoparticles-750C"),
        "stm-molecules": molecules(args.data / "stm-molecules", args.pictures),
    }
    print(json.dumps(result, indent=1))
    MEASURED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
