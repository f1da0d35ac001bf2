"""The command line from outside: help, tables, errors in one line, and every kind of bad input."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from atomreel import cli
from atomreel.core.recipe import recipe_keys

FOUND = ["file", "frame", "y", "x", "y_err", "x_err", "score", "species", "intensity", "domain"]
CLASSES = ["square", "rectangular", "centred", "hexagonal", "oblique", "noise"]
VERBS = [
    *("run", "info", "find", "heights", "symmetry", "transition", "surface", "reactions", "beam"),
    *("particles", "detect", "merge"),
    *("simulate", "train", "evaluate", "models", "report", "export", "keys", "doctor"),
]
QUICK = ("--set", "symmetry.passes=0", "--set", "run.preview=2")
Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_worth_reading(verb: str, call: Call) -> None:
    code, out, _ = call(verb, "--help")
    assert code == 0 and f"atomreel {verb}" in out
    about = re.split(r"Usage:.*|╭", out)[1]
    assert len(about.split()) >= 5, "a verb says what it does"
    assert f"Example: atomreel {verb}" in out or verb in ("keys", "doctor")


def test_every_verb_is_in_the_overview(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0 and all(re.search(rf"\b{verb}\b", out) for verb in VERBS)
    assert set(VERBS) == {command.callback.__name__ for command in cli.app.registered_commands}


def test_keys_and_models_and_doctor(call: Call) -> None:
    _, out, _ = call("keys")
    assert all(key in out for key in recipe_keys()) and "default: 20" in out
    _, out, _ = call("models")
    assert re.search(r"^columns ", out, re.M) and re.search(r"^bravais ", out, re.M)
    code, out, _ = call("models", "bravais")
    assert code == 0 and tomllib.loads(out)["task"] == "bravais"
    code, out, err = call("models", "bravas")
    assert code == 2 and "did you mean 'bravais'" in err and out == ""
    code, out, _ = call("doctor")
    assert code == 0 and "torch" in out and "atomreel" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("symmetry.windw=64", "did you mean 'symmetry.window'"),
        ("symmetry.passes=many", "symmetry.passes = 'many'"),
        ("input.pixel_A=-1", "greater than 0"),
        ("passes", "expected key=value"),
        ("columns.contrast=gray", "'bright'"),
        ("input.frames=a:b", "whole numbers"),
        ("input.frames=5:9", "none of the 1 frames"),
        ("input.roi=0:10", "y0:y1,x0:x1"),
        ("input.roi=0:10,0:10", "at least 16"),
        ("input.roi=0:900,0:20", "leaves the image"),
        ("input.mask=nowhere.png", "nowhere.png"),
        ("input.times_csv=nowhere.csv", "nowhere.csv"),
        ("columns.model=nothing", "unknown model 'nothing'"),
    ],
)
def test_a_wrong_setting_is_one_line(given: str, said: str, lattice, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", lattice)
    out = tmp_path / "run"
    code, printed, err = call("run", tmp_path / "a.npy", "-o", out, "--set", given)
    assert code == 2 and said in err and err.startswith("error:") and err.count("\n") == 1
    assert printed == "" and not out.exists()


def test_a_recipe_file(lattice, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", lattice)
    (tmp_path / "bad.toml").write_text("[columns]\ntreshold = 0.4\n")
    code, _, err = call("run", tmp_path / "a.npy", "-r", tmp_path / "bad.toml", "-o", tmp_path / "run")
    assert code == 2 and "did you mean 'columns.threshold'" in err
    code, _, err = call("run", tmp_path / "a.npy", "-r", tmp_path / "none.toml", "-o", tmp_path / "run")
    assert code == 2 and "none.toml" in err and not (tmp_path / "run").exists()


def test_info(lattice, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.stack([lattice, lattice]).astype(np.uint16), imagej=True, metadata={"axes": "TYX"}
    )
    code, out, _ = call("info", path)
    assert code == 0 and re.search(r"frames\s+2", out) and "80" in out
    code, out, _ = call("info", path, "--set", "input.pixel_A=0.25")
    assert code == 0 and "0.25" in out
    assert call("info", tmp_path / "none.tif")[0] == 2


def test_find_in_several_files(lattice, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", lattice)
    tifffile.imwrite(tmp_path / "two.tif", np.stack([lattice] * 2).astype(np.uint16))
    code, out, _ = call("find", tmp_path / "one.npy", tmp_path / "two.tif", "-o", tmp_path / "atoms.parquet")
    assert code == 0 and out.split()[-1] == str(tmp_path / "atoms.parquet")
    table = pd.read_parquet(tmp_path / "atoms.parquet")
    assert list(table.columns) == FOUND
    sizes = table.groupby(["file", "frame"]).size()
    assert list(sizes.index) == [("one.npy", 0), ("two.tif", 0), ("two.tif", 1)]
    assert sizes.between(60, 110).all()
    assert table[["y", "x"]].ge(-0.5).all().all() and table[["y", "x"]].le(79.5).all().all()
    assert table.y_err.between(0.005, 1.0).mean() > 0.95 and table.score.between(0, 1).all()
    assert table.species.str.fullmatch(r"I\d").all()
    code, _, _ = call("find", tmp_path / "one.npy", "-o", tmp_path / "atoms.csv")
    assert code == 0 and list(pd.read_csv(tmp_path / "atoms.csv").columns) == FOUND
    code, _, err = call("find", tmp_path / "one.npy", "-o", tmp_path / "atoms.xlsx")
    assert code == 2 and ".parquet or .csv" in err


def test_region_mask_and_frames(lattice, call: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "a.npy", tmp_path / "t.csv"
    np.save(path, np.stack([lattice] * 6))
    mask = np.zeros((80, 80), np.uint8)
    mask[:, 40:] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    sets = [
        "--set",
        f"input.mask={tmp_path / 'mask.tif'}",
        "--set",
        "input.roi=10:70,16:80",
        "--set",
        "input.frames=1:6:2",
    ]
    assert call("find", path, "-o", out, *sets)[0] == 0
    table = pd.read_csv(out)
    assert table.frame.unique().tolist() == [1, 3, 5]
    assert table.x.min() >= 40 - 16 - 0.5 and table.x.max() < 64 and table.y.max() < 60


def test_symmetry_of_whole_frames_and_of_windows(lattice, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([lattice] * 2))
    code, told, _ = call("symmetry", tmp_path / "a.npy", "--whole", "-o", tmp_path / "s.csv")
    assert code == 0
    table = pd.read_csv(tmp_path / "s.csv")
    names = ["file", "frame", *(f"p_{c}" for c in CLASSES), *(f"std_{c}" for c in CLASSES), "class"]
    assert list(table.columns[: len(names)]) == names
    assert {
        "a_px",
        "gamma_deg_err",
        "shear_hexagonal",
        "shear_hexagonal_err",
        "consistent",
        "verdict",
    } <= set(table)
    assert "hexagonal as imaged" in told
    assert table.frame.tolist() == [0, 1] and table.file.unique().tolist() == ["a.npy"]
    assert np.allclose(table[[f"p_{c}" for c in CLASSES]].sum(axis=1), 1, atol=1e-5)
    assert (table.p_hexagonal > 0.5).all() and (table[[f"std_{c}" for c in CLASSES]] >= 0).all().all()
    sets = ["--set", "symmetry.window=48", "--set", "symmetry.step=16"]
    code, _, _ = call("symmetry", tmp_path / "a.npy", "-o", tmp_path / "s.zarr", *sets)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert code == 0 and group["p_hexagonal"].shape == (2, 3, 3) and group.attrs["window"] == 48
    code, _, err = call("symmetry", tmp_path / "a.npy", "-o", tmp_path / "s.csv")
    assert code == 2 and "--whole" in err
    for name, said in (("bravias", "did you mean 'bravais'"), ("columns", "does not tell Bravais lattices")):
        code, _, err = call(
            "symmetry", tmp_path / "a.npy", "--whole", "--model", name, "-o", tmp_path / "s.csv"
        )
        assert code == 2 and said in err


def test_a_folder_gives_one_run_each_and_a_summary(lattice, call: Call, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    np.save(folder / "good.npy", lattice)
    np.save(folder / "bad.npy", np.full((40, 40), np.nan))
    (folder / "notes.txt").write_text("not a microscope file")
    code, printed, _ = call("run", folder, "-o", out, *QUICK)
    assert code == 0 and printed.splitlines()[-1] == str(out)
    with (out / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["file"]).name for row in rows] == ["bad.npy", "good.npy"]
    assert "finite" in rows[0]["error"] and not rows[1]["error"]
    assert float(rows[1]["columns_per_frame"]) > 50 and float(rows[1]["a_px"]) == pytest.approx(9, abs=0.2)
    assert sorted(p.name for p in out.iterdir()) == ["good.atomreel", "summary.csv"]
    again = call("run", folder / "good.npy", "-o", out / "good.atomreel", *QUICK)
    assert again[0] == 0 and again[1].splitlines()[-1] == str(out / "good.atomreel")
    assert "nothing was changed" in again[2]


@pytest.mark.slow
def test_calibration_bar_and_named_defects(
    call: Call, lattice_image: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """A honeycomb whose file claims a pixel size that is 6 % wrong, above a burnt-in data bar."""
    image = lattice_image(128, spacing=10.0, kind="honeycomb")
    bar = np.zeros((18, 128))
    bar[7:9, 10:60] = 60
    bar[5:12, 80:82] = bar[5:12, 90:92] = bar[5:6, 82:90] = 60
    path = tmp_path / "graphene.npy"
    np.save(path, np.vstack([image, bar]))
    settings = {
        "input.pixel_A": 0.15,
        "calibrate.material": "graphene",
        "defects.material": "graphene",
        "symmetry.passes": 0,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    code, _, err = call("run", path, "-o", tmp_path / "run", *sets)
    assert code == 0, err
    about = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    rows, width = about["input"]["shape"]
    assert width == 128 and rows in (127, 128), "the data bar is cut off, with at most the row beside it"
    found = about["calibration"]
    assert found["pixel_before"] == [0.15, 0.15]
    assert np.allclose(found["pixel_after"], 1.42 / 10.0, rtol=0.01) and abs(found["shear"]) < 0.01
    lattice = pd.read_parquet(tmp_path / "run" / "lattice.parquet")
    assert lattice.a_A.iloc[0] == pytest.approx(2.46, rel=0.01)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "graphene" in page


@pytest.mark.slow
def test_times_of_a_recording_that_paused(lattice, call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "m.npy", rng.poisson(np.stack([lattice] * 3)))
    (tmp_path / "t.csv").write_text("frame,time_s\n0,0\n1,1.5\n2,40\n")
    sets = ["--set", f"input.times_csv={tmp_path / 't.csv'}"]
    code, _, err = call("run", tmp_path / "m.npy", "-o", tmp_path / "run", *sets, *QUICK)
    assert code == 0, err
    assert pd.read_parquet(tmp_path / "run" / "phases.parquet").t_s.tolist() == [0, 1.5, 40]
    for to, name in (("csv", "csv"), ("xyz", "xyz")):
        code, printed, err = call("export", tmp_path / "run", "--to", to, "-o", tmp_path / name)
        assert code == 0 and Path(printed.split()[-1]).exists(), err
    code, printed, _ = call("report", tmp_path / "run")
    assert code == 0 and printed.split()[-1] == str(tmp_path / "run" / "report.html")
    code, _, err = call("report", tmp_path)
    assert code == 2 and err.count("\n") == 1
    code, _, err = call("export", tmp_path / "run", "--to", "docx")
    assert code == 2 and "hyperspy" in err
