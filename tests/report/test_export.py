"""Other programs read back what was exported: ase, pandas, roifile, RosettaSciIO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import RunError, UnknownNameError
from atomreel.core.files import read_table
from atomreel.report.export import FORMATS, export_run

PIXEL = 0.16


def test_extended_xyz(whole_run: Path, tmp_path: Path) -> None:
    from ase.io import read

    frames = read(export_run(whole_run, "xyz", tmp_path / "a.xyz"), index=":")
    atoms = read_table(whole_run / "atoms.parquet")
    assert len(frames) == 24
    for number in (0, 23):
        rows, found = atoms[atoms["frame"] == number], frames[number]
        assert found.info["frame"] == number and found.info["unit"] == "Angstrom"
        assert found.info["time_s"] == pytest.approx(0.5 * number)
        np.testing.assert_allclose(found.positions[:, 0], rows["x"] * PIXEL, atol=1e-5)
        np.testing.assert_allclose(found.positions[:, 1], (255 - rows["y"]) * PIXEL, atol=1e-5)
        np.testing.assert_allclose(found.arrays["score"], rows["score"], rtol=1e-5)
        assert list(found.arrays["label"]) == list(rows["species"])


def test_csv(whole_run: Path, tmp_path: Path) -> None:
    out = export_run(whole_run, "csv", tmp_path / "tables")
    assert {p.stem for p in out.iterdir()} == {p.stem for p in whole_run.glob("*.parquet")} | {"rates"}
    for name in ("atoms", "events", "bond_lengths"):
        again = pd.read_csv(out / f"{name}.csv", keep_default_na=False)
        pd.testing.assert_frame_equal(
            again, read_table(whole_run / f"{name}.parquet"), check_dtype=False, rtol=1e-12
        )
    with pytest.raises(RunError, match="exists"):
        export_run(whole_run, "csv", out)


def test_imagej(whole_run: Path, tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile", reason="roifile is not installed")
    rois = {roi.name: roi for roi in roifile.roiread(export_run(whole_run, "imagej", tmp_path / "a.zip"))}
    defects = read_table(whole_run / "defects.parquet")
    for (frame, kind), rows in defects.groupby(["frame", "kind"]):
        roi = rois[f"{frame:05d}-defects-{kind}"]
        assert roi.roitype == roifile.ROI_TYPE.POINT and roi.position == frame + 1
        # the centre of pixel (0, 0) is (0.5, 0.5) to ImageJ
        np.testing.assert_allclose(roi.coordinates(), rows[["x", "y"]].to_numpy() + 0.5, atol=1e-4)
    hops = read_table(whole_run / "tracks.parquet").query("track == 50")
    line = rois["track-00050"]
    assert line.roitype == roifile.ROI_TYPE.POLYLINE
    np.testing.assert_allclose(line.coordinates(), hops[["x", "y"]].to_numpy() + 0.5, atol=1e-4)
    again = export_run(whole_run, "imagej", tmp_path / "b.zip")
    assert again.read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_hyperspy(whole_run: Path, tmp_path: Path) -> None:
    from rsciio.hspy import file_reader

    (signal,) = file_reader(str(export_run(whole_run, "hyperspy", tmp_path / "a.hspy")))
    assert signal["data"].shape == (24, 256, 256)
    assert [(a["name"], float(a["scale"]), a["units"]) for a in signal["axes"]] == [
        ("time", 0.5, "s"),
        ("y", PIXEL, "Å"),
        ("x", PIXEL, "Å"),
    ]
    defects = signal["original_metadata"]["atomreel"]["defects"]
    truth = read_table(whole_run / "defects.parquet")
    np.testing.assert_allclose(defects["y"], truth["y"])
    assert [str(kind) for kind in defects["kind"]] == list(truth["kind"])


def test_hyperspy_prefers_the_aligned_movie(whole_run: Path, tmp_path: Path) -> None:
    import shutil

    import zarr
    from rsciio.hspy import file_reader

    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    movie = np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    zarr.open_group(run / "aligned.zarr", mode="w").create_array("movie", data=movie)
    (signal,) = file_reader(str(export_run(run, "hyperspy", None)))
    np.testing.assert_array_equal(signal["data"], movie)
    assert (tmp_path / "run.hspy").is_file()


def test_what_cannot_be_exported(bare_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="hyperspy, imagej"):
        export_run(bare_run, "imagj", tmp_path / "a")
    for to in ("xyz", "imagej"):
        with pytest.raises(RunError, match="has no columns"):
            export_run(bare_run, to, tmp_path / "a.out")
    for to in sorted(set(FORMATS) - {"csv"}):
        with pytest.raises(RunError, match="is a folder"):
            export_run(bare_run, to, tmp_path)
    assert list(tmp_path.iterdir()) == []
