"""Input that nobody should have, through the command line: refused in one line, or processed with a warning."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile

Call = Callable[..., tuple[int, str, str]]
QUICK = ("--set", "symmetry.passes=0", "--set", "run.preview=2")


def _spectrum(path: Path) -> None:
    tifffile.imwrite(path, np.random.default_rng(0).random((1, 512)).astype(np.float32))


def _truncated(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:100])


UNUSABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zero length": ("a.tif", lambda p: p.write_bytes(b"")),
    "zero length dm4": ("a.dm4", lambda p: p.write_bytes(b"")),
    "truncated": ("a.tif", _truncated),
    "truncated npy": (
        "a.npy",
        lambda p: (np.save(p, np.ones((64, 64))), p.write_bytes(p.read_bytes()[:300])),
    ),
    "another extension": ("a.dm3", lambda p: p.write_bytes(bytes(range(256)) * 9)),
    "wrong extension": ("a.tif", lambda p: iio.imwrite(p, np.zeros((32, 32), np.uint8), extension=".png")),
    "text": ("a.tif", lambda p: p.write_text("Dear diary,\n" * 50)),
    "a text file": ("a.txt", lambda p: p.write_text("Dear diary,\n" * 50)),
    "no extension": ("a", lambda p: p.write_bytes(bytes(range(256)))),
    "complex": ("a.npy", lambda p: np.save(p, np.ones((64, 64), complex))),
    "objects": (
        "a.npy",
        lambda p: np.save(p, np.array([{}] * 64, dtype=object).reshape(8, 8), allow_pickle=True),
    ),
    "all NaN": ("a.npy", lambda p: np.save(p, np.full((64, 64), np.nan))),
    "1 × N": ("a.npy", lambda p: np.save(p, np.ones((1, 512)))),
    "a spectrum": ("a.tif", _spectrum),
    "a vector": ("a.npy", lambda p: np.save(p, np.ones(512))),
    "five dimensions": ("a.npy", lambda p: np.save(p, np.ones((2, 2, 2, 32, 32)))),
    "empty": ("a.npy", lambda p: np.save(p, np.ones((0, 64, 64)))),
    "tiny": ("a.npy", lambda p: np.save(p, np.ones((8, 8)))),
    "an empty folder": ("folder", lambda p: p.mkdir()),
    "a broken link": ("a.tif", lambda p: p.symlink_to(p.with_name("gone.tif"))),
    "nothing": ("a.tif", lambda p: None),
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("verb", ["run", "find"])
def test_an_unusable_file_is_one_line(what: str, verb: str, call: Call, tmp_path: Path) -> None:
    name, make = UNUSABLE[what]
    make(tmp_path / name)
    out = tmp_path / ("out" if verb == "run" else "out.parquet")
    before = set(tmp_path.iterdir())
    code, printed, err = call(verb, tmp_path / name, "-o", out)
    assert code == 2, (printed, err)
    assert err.startswith("error:") and err.count("\n") == 1 and "Traceback" not in err and len(err) < 600
    assert name in err and printed == "" and set(tmp_path.iterdir()) == before


def test_an_unreadable_folder_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the operating system refuses it, since the super-user who may run this test can read everything."""

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "in").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    code, _, err = call("run", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 2 and "Permission denied" in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["run", "find", "symmetry"])
def test_an_output_that_cannot_be_written_is_one_line(verb: str, lattice, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", lattice)
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / ("run" if verb == "run" else "t.csv")
    given = {"symmetry": ["--whole"], "find": ["--set", "columns.contrast=bright"]}.get(verb, [])
    code, printed, err = call(verb, tmp_path / "a.npy", "-o", out, *given)
    assert code == 2 and err.count("\n") == 1 and "file" in err and printed == ""
    assert (tmp_path / "file").read_text() == "x"


def _poor(kind: str, image: np.ndarray) -> np.ndarray:
    data = image.astype(np.float32)
    if kind == "some NaN and Inf":
        data[10:13, 20:24], data[40, 40] = np.nan, np.inf
    if kind == "constant":
        data[:] = 7
    if kind == "saturated":
        data = np.minimum(data, 25)
    if kind == "an empty frame":
        data = np.stack([data, np.full_like(data, np.nan), data])
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("some NaN and Inf", "13 pixels were NaN or Inf"),
        ("constant", "frame is constant"),
        ("saturated", "saturated"),
        ("an empty frame", "not one finite pixel"),
    ],
)
def test_poor_input_is_processed_with_a_warning(
    kind: str, said: str, lattice, call: Call, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", _poor(kind, lattice))
    code, _, err = call("run", tmp_path / "a.npy", "-o", tmp_path / "run", *QUICK)
    assert code == 0, err
    told = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["warnings"]
    assert any(said in text for text in told), told
    page = (tmp_path / "run" / "report.html").read_text()
    assert said.split()[-1] in page[page.find("istrust") :]
    atoms = pd.read_parquet(tmp_path / "run" / "atoms.parquet")
    assert len(atoms) == 0 if kind == "constant" else len(atoms) > 50


@pytest.mark.slow
def test_a_truncated_last_frame(lattice, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([lattice] * 4).astype(np.uint16), imagej=True, metadata={"axes": "TYX"})
    path.write_bytes(path.read_bytes()[:-5000])
    code, _, err = call("run", path, "-o", tmp_path / "run", *QUICK)
    assert code == 0, err
    about = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert about["input"]["frames"] in (3, 4) and about["warnings"]
