"""Recipes that name a material and a microscope: a finder for those alone, or one line that says what is wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from atomreel.core.card import Card, read_card, write_card
from atomreel.core.errors import ModelError, RecipeError
from atomreel.core.image import Movie
from atomreel.core.material import load_material
from atomreel.predict.model import check, load_model
from atomreel.tasks.columns import TASK
from atomreel.tasks.task import build_network
from atomreel.train import evaluate_model, train_model
from atomreel.train.loop import recipe_for
from atomreel.train.order import FINE_TUNING, claim, first_weights, read_order, task_of

Call = Callable[..., tuple[int, str, str]]
ZINC_BLENDE = """data_GaAs
_space_group_name_H-M_alt 'F -4 3 m'
_space_group_IT_number 216
_cell_length_a 5.653
_cell_length_b 5.653
_cell_length_c 5.653
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
"""
ATOMS = "Ga1 Ga 0 0 0\nAs1 As 0.25 0.25 0.25\n"
DUMBBELL = 5.653 / 4  # Å, by hand: along [1 1 0] zinc blende shows pairs a/4 apart
SCOPE = """modality = "stem"
counts = [200, 2000]
fwhm = [0.4, 0.7]
abf = 0
nn_px = [8, 12]
"""
SMALL = "batch = 4\nfirst = 16\nfresh = 0.2\nwindow = 32\nexamples = 4\n"


def write_recipe(folder: Path, more: str = "", *, zone: str = "[1, 1, 0]", scope: str = SCOPE) -> Path:
    """A recipe with its CIF file and its microscope beside it."""
    (folder / "gaas.cif").write_text(ZINC_BLENDE + ATOMS)
    (folder / "microscope.toml").write_text(scope)
    text = f'task = "columns"\nmaterial = "gaas.cif"\nzone = {zone}\nscope = "microscope.toml"\n{more}'
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


def untrained(folder: Path, **changes: object) -> Path:
    """A model folder with first weights, and a card that says what a finder of columns says."""
    card = Card("untrained", "columns", "Knows nothing.", dict(TASK.network), classes=("column",))
    folder.mkdir()
    write_card(folder / "card.toml", replace(card, **changes))  # type: ignore[arg-type]
    net = build_network(TASK.network)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
    return folder


def test_the_material_of_a_recipe_is_all_that_is_simulated(tmp_path: Path) -> None:
    task = read_order(write_recipe(tmp_path)).task
    assert task.scope["materials"] == ["gaas"] and task.scope["zone"] == [1, 1, 0]
    assert task.scope["species"] == ["As", "Ga"] and task.classes == ("column",)
    assert task.scope["nearest_A"] == pytest.approx(DUMBBELL, abs=1e-3)
    assert task.scope["pixel_A"] == pytest.approx([DUMBBELL / 12, DUMBBELL / 8], abs=1e-3)
    assert task.scope["counts"] == [200, 2000] and "dose" not in task.scope and "lobe" not in task.scope
    assert "gaas along [1 1 0] in STEM images" in task.purpose
    facts = [task.sample(np.random.default_rng(i))["facts"] for i in range(12)]
    spacing, bright, counts = np.array(facts).T
    assert ((spacing >= 8) & (spacing <= 12)).all() and bright.all()
    assert ((counts >= 200) & (counts <= 2000)).all()


def test_a_simulated_image_shows_the_dumbbells_of_the_cif(tmp_path: Path) -> None:
    """Ratios of squared distances in a perfect crystal, by hand: the columns are at (0, 0), (1/4, 0), (1/2, 1/2),
    (3/4, 1/2) of a cell a × a/√2."""
    task = read_order(write_recipe(tmp_path)).task
    cell = np.array([5.653, 5.653 / np.sqrt(2)])
    site = np.array([(0, 0), (0.25, 0), (0.5, 0.5), (0.75, 0.5)])
    grid = np.stack(np.meshgrid(range(-2, 3), range(-2, 3)), -1).reshape(-1, 1, 2)
    wanted = {
        round(d, 3) for s in site for d in np.linalg.norm((grid + site - s) * cell, axis=2).ravel() if d < 5
    }
    pattern = task.material.project()
    shifts = np.stack(np.meshgrid(range(-3, 4), range(-3, 4)), -1).reshape(-1, 2) @ pattern.vectors
    gaps = np.linalg.norm(pattern.basis[:, None, None] - pattern.basis[None, :, None] + shifts, axis=-1)
    assert {round(d, 3) for d in gaps.ravel() if d < 5} == wanted


def test_a_scope_alone_keeps_every_material(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('task = "columns"\nsteps = 7\n[scope]\nmodality = "hrtem"\ndose = 500\n')
    order = read_order(tmp_path / "r.toml")
    assert order.changes == {"steps": 7} and order.about == {"scope": {"modality": "hrtem", "dose": 500}}
    assert order.task.scope["materials"] == [] and order.task.scope["dose"] == [500, 500]
    assert "counts" not in order.task.scope
    assert read_order("columns").task is TASK
    assert set(TASK.scope) >= {"dose", "counts", "lobe"} and "zone" not in TASK.scope


def test_a_shipped_material_along_another_axis(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('task = "columns"\nmaterial = "gaas110"\nzone = [1, 0, 0]\n')
    order = read_order(tmp_path / "r.toml")
    assert order.task.material == load_material("gaas110", zone=(1, 0, 0))
    card = Card("m", "columns", "", {}, training={"order": order.about})
    write_card(tmp_path / "card.toml", card)
    assert task_of(read_card(tmp_path / "card.toml")) == order.task
    assert task_of(replace(card, training={})) is TASK


WRONG: dict[str, tuple[str, str]] = {
    "no such CIF": ('material = "none.cif"\nzone = [1, 1, 0]', "none.cif: no such file"),
    "no such TOML": ('material = "none.toml"', "none.toml: no such file"),
    "no such material": ('material = "gas110"', "did you mean 'gaas110'"),
    "no atoms": ('material = "empty.cif"\nzone = [1, 1, 0]', "a cell and atoms are needed"),
    "no CIF at all": ('material = "text.cif"\nzone = [1, 1, 0]', "a cell and atoms are needed"),
    "no zone": ('material = "gaas.cif"', "zone is missing"),
    "zone of fractions": ('material = "gaas.cif"\nzone = [1.5, 1, 0]', "three whole numbers"),
    "zone of two": ('material = "gaas.cif"\nzone = [1, 1]', "three whole numbers"),
    "zone in words": ('material = "gaas.cif"\nzone = "110"', "three whole numbers"),
    "zone of truth": ('material = "gaas.cif"\nzone = [true, true, false]', "three whole numbers"),
    "zone of nothing": ('material = "gaas.cif"\nzone = [0, 0, 0]', "not be zero"),
    "zone twice as long": ('material = "gaas.cif"\nzone = [2, 2, 0]', "common factor"),
    "zone too long": ('material = "gaas.cif"\nzone = [31, 17, 5]', "choose smaller indices"),
    "zone alone": ("zone = [1, 1, 0]", "zone without a material"),
    "material is a number": ("material = 3", "a name or a file is needed"),
    "unknown key": ('materials = "gaas.cif"', "did you mean 'material'"),
    "unknown condition": ('material = "ws2"\n[scope]\ncount = 3', "did you mean 'counts'"),
    "condition upside down": ("[scope]\ncounts = [9, 3]", "low must not be above high"),
    "unknown microscope": ('[scope]\nmodality = "sem"', "modality 'sem'"),
    "no scope file": ('scope = "none.toml"', "none.toml: not a scope"),
    "materials twice": ('material = "ws2"\n[scope]\nmaterials = ["mos2"]', "only one of them"),
    "no such start": ('start = "colums"', "unknown model 'colums'"),
    "steps in words": ('material = "ws2"\nsteps = "many"', "steps = 'many'; a whole number"),
    "a fraction of a step": ("steps = 2.5", "steps = 2.5; a whole number"),
    "not TOML": ("material = ws2", "can be read"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_recipe_is_one_line(what: str, call: Call, tmp_path: Path) -> None:
    text, said = WRONG[what]
    write_recipe(tmp_path)
    (tmp_path / "empty.cif").write_text(ZINC_BLENDE)
    (tmp_path / "text.cif").write_text("Dear diary,\n" * 50)
    (tmp_path / "wrong.toml").write_text(f'task = "columns"\n{text}\n')
    code, out, err = call("train", tmp_path / "wrong.toml", "-o", tmp_path / "model")
    assert code == 2 and re.search(said, err), err
    assert err.startswith("error:") and err.count("\n") == 1 and out == ""
    assert not (tmp_path / "model").exists()


def test_a_task_without_materials_says_so(call: Call, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('task = "bravais"\nmaterial = "ws2"\n')
    code, _, err = call("train", tmp_path / "r.toml", "-o", tmp_path / "model")
    assert code == 2 and "bravais is trained as it comes" in err


def test_a_start_gives_its_weights_and_fewer_steps(tmp_path: Path) -> None:
    untrained(tmp_path / "old")
    order = read_order(write_recipe(tmp_path, 'start = "old"\nrate = 1e-4\n'))
    assert order.about["start"] == "old"
    assert dict(order.changes) == {**FINE_TUNING, "rate": 1e-4}
    recipe = recipe_for(order.task, order.changes)
    assert recipe.steps == FINE_TUNING["steps"] < recipe_for(order.task).steps < recipe_for(TASK).steps
    assert order.start is not None
    weights, (net, _) = first_weights(order.start, order.task), load_model(tmp_path / "old")
    assert all(torch.equal(weights[key], value) for key, value in net.state_dict().items())
    untrained(tmp_path / "other", task="bravais")
    with pytest.raises(ModelError, match="learned bravais"):
        read_order(write_recipe(tmp_path, 'start = "other"\n'))


def test_a_folder_is_not_shared_by_two_materials(tmp_path: Path) -> None:
    claim(tmp_path / "m", {"material": {"name": "a"}})
    claim(tmp_path / "m", {"material": {"name": "b"}})  # nothing was trained yet
    (tmp_path / "m" / "checkpoint").mkdir()
    claim(tmp_path / "m", {"material": {"name": "b"}})
    for other in ({"material": {"name": "c"}}, {}):
        with pytest.raises(RecipeError, match="choose another folder"):
            claim(tmp_path / "m", other)


def test_the_card_warns_of_images_outside(tmp_path: Path) -> None:
    """No training: the card of an order, as `write_model` writes it, against movies that do and do not fit."""
    task = read_order(write_recipe(tmp_path, scope=SCOPE + "voltage = 300\n")).task
    folder = untrained(tmp_path / "m", scope=task.scope, input=task.input)

    def told(**facts: object) -> str:
        movie = Movie(frames=[np.zeros((64, 64))], shape=(64, 64))
        return " | ".join(check(folder, replace(movie, **facts), spacing_px=10.0))  # type: ignore[arg-type]

    fits = {"pixel": (0.14, 0.14), "modality": "stem", "voltage": 300.0, "dose": 1e6}
    assert told(**fits) == told() == ""
    assert "not on stm" in told(**{**fits, "modality": "stm"})
    assert "voltage 80 is outside" in told(**{**fits, "voltage": 80.0})
    assert "pixel_A 0.05 is outside" in told(**{**fits, "pixel": (0.05, 0.05)})
    wide = told(**{**fits, "pixel": (0.3, 0.3)})
    assert "columns are about 3 Å apart, 1.4 Å in what" in wide and "(gaas, zone [1, 1, 0])" in wide


@pytest.mark.slow
def test_a_finder_for_one_material_is_one_command(call: Call, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "steps = 50\n" + SMALL.replace("examples = 4", "examples = 16"))
    code, out, err = call("train", recipe, "-o", tmp_path / "finder", "--device", "cpu")
    assert code == 0 and out.split()[-1] == str(tmp_path / "finder"), err
    with (tmp_path / "finder" / "curve.csv").open() as stream:
        first, last = (float(row["loss"]) for row in csv.DictReader(stream))
    # a constant answer cannot be better than the entropy of the mean of the map, 0.25
    assert last < 0.22 and last < 0.6 * first
    card = load_model(tmp_path / "finder")[1]
    assert card.scope["materials"] == ["gaas"] and card.scope["zone"] == [1, 1, 0]
    assert card.scope["species"] == ["As", "Ga"] and card.scope["nn_px"] == [8, 12]
    assert card.classes == ("column",) and card.scores["f1"] > 0.5
    assert load_material(tmp_path / "gaas.cif", zone=(1, 1, 0)) == task_of(card).material  # type: ignore[attr-defined]
    (tmp_path / "gaas.cif").unlink()  # the card is enough to test again
    assert evaluate_model(tmp_path / "finder", examples=16, out=tmp_path / "again.toml").scores == card.scores
    code, _, err = call("train", "columns", "-o", tmp_path / "finder")
    assert code == 2 and "choose another folder" in err


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes(one_thread: None, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "steps = 4\n" + SMALL.replace("examples = 4", "examples = 2"))
    made = [train_model(recipe, out=tmp_path / f"{i}", workers=i, device="cpu") for i in (0, 1)]
    one, two = ((folder / "weights.safetensors").read_bytes() for folder in made)
    assert one == two
