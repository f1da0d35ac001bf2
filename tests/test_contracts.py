"""What every analysis, material, model and task must keep to, whoever adds it: found through the registries."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from atomreel.core.card import Card, read_card
from atomreel.core.errors import AtomreelError
from atomreel.core.files import sha256
from atomreel.core.material import load_material, material_names
from atomreel.core.registry import Analysis, analyses, modules
from atomreel.core.tables import SCHEMAS, empty_table
from atomreel.predict.model import load_model, model_folder, model_names, shipped
from atomreel.tasks.task import build_network, load_task
from atomreel.train.models import data_hash, data_marks
from atomreel.train.order import task_of
from atomreel.train.stock import make_block

UNIT = re.compile(r"\[px|\[Å|_px|_pm|px\b|degrees|_deg|\[s\]|frames?\b")
ELEMENT = re.compile(r"[A-Z][a-z]?")
TASKS = sorted(m.TASK.name for m in modules("atomreel.tasks").values() if hasattr(m, "TASK"))
LARGEST_MB = 15


def atoms(*, frames: int = 2) -> pd.DataFrame:
    """A honeycomb of two intensities with small errors: enough for every analysis to have something to do."""
    rng = np.random.default_rng(4)
    grid = np.array([(y, x) for y in range(7) for x in range(7)], float)
    cell = grid @ np.array([[17.32, 10.0], [0.0, 20.0]])
    where = np.concatenate([cell, cell + np.array([17.32 * 2 / 3, 20.0])])
    rows = pd.DataFrame(
        np.tile(where, (frames, 1)) + rng.normal(0, 0.1, (frames * len(where), 2)), columns=["y", "x"]
    )
    rows.insert(0, "frame", np.repeat(np.arange(frames), len(where)))
    more = {"y_err": 0.1, "x_err": 0.1, "score": 0.99, "intensity_err": 0.05, "domain": 1.0}
    intensity = np.tile(np.repeat([1.0, 2.0], len(grid)), frames) + rng.normal(0, 0.05, len(rows))
    species = np.tile(np.repeat(["I1", "I2"], len(grid)), frames)
    return rows.assign(**more, intensity=intensity, species=species, grain=0)


GIVEN: dict[str, Any] = {
    "atoms": atoms(),
    "pixel": (0.1, 0.1),
    "shape": (160, 260),
    "times": np.array([0.0, 1.0]),
    **{name: empty_table(name) for name in SCHEMAS if name != "atoms"},
}


def perform(entry: Analysis, **changed: Any) -> pd.DataFrame:
    given = GIVEN | changed
    result = entry.function(*(given[need] for need in entry.needs))
    assert isinstance(result, pd.DataFrame)
    return result


@pytest.fixture(params=sorted(analyses()))
def entry(request: pytest.FixtureRequest) -> Analysis:
    return analyses()[request.param]


def test_there_is_something_to_check() -> None:
    assert len(analyses()) >= 4 and len(material_names()) >= 12
    assert {"columns", "bravais"} <= set(model_names()) and {"columns", "bravais"} <= set(TASKS)
    gives = [a.gives for a in analyses().values()]
    assert len(set(gives)) == len(gives), "two analyses write the same table"


def test_an_analysis_says_what_it_takes_and_gives(entry: Analysis) -> None:
    text = inspect.getdoc(entry.function) or ""
    assert len(text.split()) > 10 and UNIT.search(text), "the docstring gives meaning and units"
    parameters = list(inspect.signature(entry.function).parameters.values())
    plain = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert tuple(plain) == entry.needs and set(entry.needs) <= set(GIVEN)
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)


def test_an_analysis_of_a_crystal_gives_rows(entry: Analysis) -> None:
    before = {name: GIVEN[name].copy() for name in entry.needs if hasattr(GIVEN[name], "copy")}
    first, second = perform(entry), perform(entry)
    if "atoms" in entry.needs:
        assert len(first), "a perfect honeycomb has something to tell"
    pd.testing.assert_frame_equal(first, second)
    for name, value in before.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(GIVEN[name], value)
        else:
            np.testing.assert_array_equal(GIVEN[name], value)


def test_an_analysis_of_nothing_or_of_one_row(entry: Analysis) -> None:
    columns = list(perform(entry).columns)
    for few in (GIVEN["atoms"].iloc[:0], GIVEN["atoms"].iloc[:1], GIVEN["atoms"].iloc[[0, 120]]):
        try:
            result = perform(entry, atoms=few)
        except AtomreelError:
            continue
        assert list(result.columns) == columns
        numbers = result.select_dtypes("number").to_numpy(float)
        assert not np.isinf(numbers).any()


def test_an_analysis_passes_over_rows_without_position(entry: Analysis) -> None:
    if "atoms" not in entry.needs:
        return
    lost = GIVEN["atoms"].iloc[[3, 50]].assign(y=np.nan, x=np.nan)
    result = perform(entry, atoms=pd.concat([GIVEN["atoms"], lost], ignore_index=True))
    pd.testing.assert_frame_equal(result, perform(entry), check_dtype=False)


def test_an_analysis_takes_single_precision_and_any_index(entry: Analysis) -> None:
    if "atoms" not in entry.needs:
        return
    plain = perform(entry)
    shuffled = GIVEN["atoms"].set_axis(np.arange(len(GIVEN["atoms"]))[::-1] + 7)
    pd.testing.assert_frame_equal(perform(entry, atoms=shuffled), plain)
    single = GIVEN["atoms"].astype({"y": "float32", "x": "float32"})
    result = perform(entry, atoms=single)
    assert list(result.columns) == list(plain.columns) and abs(len(result) - len(plain)) <= 1
    total = [frame.select_dtypes("number").sum().to_numpy(float) for frame in (result, plain)]
    np.testing.assert_allclose(*total, rtol=1e-2, atol=0.05)


def test_an_analysis_without_a_pixel_size_stays_in_pixels(entry: Analysis) -> None:
    if "pixel" in entry.needs:
        columns = perform(entry, pixel=None).columns
        assert not [c for c in columns if c.endswith(("_A", "_pm"))]


@pytest.mark.parametrize("name", material_names())
def test_a_material_is_complete(name: str) -> None:
    material = load_material(name)
    assert material.name == name and material.title and material.source, "where its numbers come from"
    assert min(material.cell) > 0 and max(material.cell[:3]) < 50
    assert all(ELEMENT.fullmatch(site.species) and 0 < site.occupancy <= 1 for site in material.sites)
    assert all(defect.name and defect.atoms >= 1 for defect in material.defects)
    assert len({defect.name for defect in material.defects}) == len(material.defects)
    assert load_material(name) == material


@pytest.fixture(params=model_names())
def model(request: pytest.FixtureRequest) -> tuple[Path, Card]:
    folder = model_folder(request.param)
    return folder, read_card(folder / "card.toml")


def test_a_model_is_what_its_card_says(model: tuple[Path, Card]) -> None:
    folder, card = model
    assert card.name == folder.name and len(card.purpose.split()) >= 5 and card.licence
    assert card.weights_sha256 == sha256(folder / "weights.safetensors")
    assert card.scores and card.input and "seed" in card.training and "data_sha256" in card.training
    ranges = [v for v in card.scope.values() if isinstance(v, list) and v and isinstance(v[0], (int, float))]
    assert all(low <= high for low, high in ranges)
    task = load_task(card.task)
    assert tuple(task.classes) == tuple(card.classes) and dict(task.network) == dict(card.network)
    net, again = load_model(card.name)
    assert again == card and not net.training and not any(p.requires_grad for p in net.parameters())


def test_the_code_still_makes_what_a_model_was_trained_on(model: tuple[Path, Card]) -> None:
    """Else the model is to be trained again. A processor that rounds otherwise moves marks by 4e-5 of a standard deviation; one
    of the steps that read a spectrum left out moves them by 1e-2."""
    card = model[1]
    examples = make_block(task_of(card), int(card.training["seed"]), 0)
    if data_hash(examples) != card.training["data_sha256"]:
        made, said = (np.reshape(v, (-1, 2)) for v in (data_marks(examples), card.training["data_marks"]))
        assert (np.abs(made - said).max(1) <= 1e-4 * said[:, 1]).all()


def test_models_are_small() -> None:
    size = sum(p.stat().st_size for p in shipped().rglob("*") if p.is_file())
    assert size <= LARGEST_MB * 1e6


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return set(first) == set(second) and all(
        np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f") for key in first
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_the_same_for_the_same_seed(name: str) -> None:
    task = load_task(name)
    assert task.name == name and task.purpose and inspect.getdoc(type(task))
    first, second = (task.sample(np.random.default_rng(5)) for _ in range(2))
    assert set(first) == set(second) and same(first, second)
    before = {key: value.copy() for key, value in first.items()}
    batch = [task.encode(first, np.random.default_rng(k)) for k in (1, 1, 2)]
    assert same(before, first), "encoding changes its example"
    assert same(batch[0], batch[1])
    assert {k: v.shape for k, v in batch[0].items()} == {k: v.shape for k, v in batch[2].items()}
    tensors = {k: torch.from_numpy(np.stack([item[k] for item in batch])) for k in batch[0]}
    with torch.random.fork_rng(devices=[]):
        loss, parts = task.loss(build_network(task.network).train(), tensors)
    assert torch.isfinite(loss) and loss.ndim == 0 and all(np.isfinite(v) for v in parts.values())
