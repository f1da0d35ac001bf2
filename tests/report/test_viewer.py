"""What is packed for the page's script comes out as it went in."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from atomreel.core.files import read_table
from atomreel.report.results import open_results
from atomreel.report.viewer import colour_tables, frame_viewer, strain_viewer, symmetry_viewer


def test_atoms_to_a_64th_of_a_pixel(whole_run: Path) -> None:
    view = frame_viewer(open_results(whole_run))
    atoms = read_table(whole_run / "atoms.parquet").query("frame == 7")
    raw = base64.b64decode(view["atoms"][7])
    n = len(atoms)
    assert len(raw) == 8 * n
    x, y, error = np.frombuffer(raw, "<u2", 3 * n).reshape(3, n) / np.array([[64], [64], [1000]])
    np.testing.assert_allclose(x - 1, atoms["x"], atol=1 / 128)
    np.testing.assert_allclose(y - 1, atoms["y"], atol=1 / 128)
    np.testing.assert_allclose(error, np.hypot(atoms["y_err"], atoms["x_err"]) / np.sqrt(2), atol=6e-4)
    code, score = np.frombuffer(raw, np.uint8, offset=6 * n).reshape(2, n)
    assert [view["species"][c]["name"] for c in code] == list(atoms["species"])
    np.testing.assert_allclose(score / 255, atoms["score"], atol=0.004)


def test_pictures_defects_and_tracks(whole_run: Path) -> None:
    results = open_results(whole_run)
    view = frame_viewer(results)
    data = base64.b64decode(view["frames"][3]["image"].split(",")[1])
    difference = np.asarray(Image.open(io.BytesIO(data)), float) - results.preview.frames[3]
    assert np.sqrt(np.mean(difference**2)) < 8
    defects = read_table(whole_run / "defects.parquet")
    assert sum(map(len, view["defects"])) == len(defects)
    assert {k["name"]: k["count"] for k in view["kinds"]} == defects["kind"].value_counts().to_dict()
    tracks, drift = read_table(whole_run / "tracks.parquet"), read_table(whole_run / "drift.parquet")
    path = next(t for t in view["tracks"] if t["track"] == 50)
    rows = tracks[tracks["track"] == 50].merge(drift[["frame", "dy", "dx"]])
    shift = np.array([view["frames"][f]["shift"] for f in rows["frame"]])
    np.testing.assert_allclose(np.array(path["x"]) + shift[:, 0], rows["x"], atol=0.07)
    np.testing.assert_allclose(np.array(path["y"]) + shift[:, 1], rows["y"], atol=0.07)


def test_what_the_model_does_not_know_is_marked(whole_run: Path) -> None:
    """Rectangles cover exactly the pixels of the unknown cells."""
    results = open_results(whole_run)
    unknown = np.asarray(results.field("domain").maps["domain"][2]) < 0.5
    shown = np.zeros(np.multiply(unknown.shape, 8), int)
    for x, y, width, height in frame_viewer(results)["unknown"][2]:
        rows, cols = (slice(round(v + 0.5), round(v + 0.5 + n)) for v, n in ((y, height), (x, width)))
        shown[rows, cols] += 1
    assert 0 < unknown.mean() < 0.2
    assert np.array_equal(shown, np.kron(unknown, np.ones((8, 8), int)))


def test_maps_keep_their_values_and_gaps(whole_run: Path) -> None:
    results = open_results(whole_run)
    view = strain_viewer(results)
    truth = 100 * np.asarray(results.field("strain").maps["exx"][5])
    shown = next(m for m in view["maps"] if m["name"] == "strain exx")
    packed = np.frombuffer(base64.b64decode(shown["data"][5]), np.uint8).reshape(
        view["height"], view["width"]
    )
    assert np.array_equal(packed == 255, np.isnan(truth))
    value = shown["low"] + packed / 254 * (shown["high"] - shown["low"])
    known = np.isfinite(truth)
    step = (shown["high"] - shown["low"]) / 254
    np.testing.assert_allclose(
        value[known], np.clip(truth[known], shown["low"], shown["high"]), atol=0.51 * step
    )
    assert shown["low"] == -shown["high"] and "±0.2" in shown["note"]


def test_most_probable_class(whole_run: Path) -> None:
    results = open_results(whole_run)
    view = symmetry_viewer(results)
    hard = view["maps"][0]
    names = [c["name"] for c in hard["classes"]]
    field = results.field("symmetry")
    truth = np.argmax([np.asarray(field.maps[f"p_{n}"][23]) for n in names], axis=0)
    packed = np.frombuffer(base64.b64decode(hard["data"][23]), np.uint8)
    assert np.array_equal(packed, truth.ravel())
    assert view["bar"]["words"].split()[1] in ("Å", "nm") and 0.09 < view["bar"]["fraction"] <= 0.2501


def test_maps_of_doubt_are_there_with_their_units(whole_run: Path) -> None:
    results = open_results(whole_run)
    maps = {m["name"]: m for m in symmetry_viewer(results)["maps"]}
    assert maps["entropy"]["unit"] == maps["mutual information"]["unit"] == "nats"
    assert maps["change of the lattice"]["unit"] == "°" and maps["change of the lattice"]["high"] >= 3
    within = maps["class within the shear bound"]
    packed = np.frombuffer(base64.b64decode(within["data"][5]), np.uint8)
    codes = np.asarray(results.field("symmetry").maps["within_shear"][5])
    assert np.array_equal(packed, codes.ravel()) and within["classes"][3]["name"] == "hexagonal"


def test_nothing_to_show(tmp_path: Path, bare_run: Path) -> None:
    results = open_results(bare_run)
    assert symmetry_viewer(results) is None and strain_viewer(results) is None
    view = frame_viewer(results)
    assert view["atoms"] == [""] and view["tracks"] == [] and view["defects"] == [[]]


def test_colour_tables_have_255_colours() -> None:
    assert {len(base64.b64decode(text)) for text in colour_tables().values()} == {765}
