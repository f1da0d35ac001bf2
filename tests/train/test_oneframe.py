"""Training on one frame: the same weights for the same seed, also after a kill; crops keep labels on what they label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from atomreel.core.card import read_card
from atomreel.core.errors import InputError
from atomreel.interpret.sampling import residual_at
from atomreel.interpret.scenes import Scene, pristine, scene_of
from atomreel.predict.model import load_model
from atomreel.simulate.movie import simulate_ws2_movie
from atomreel.train.oneframe import Plan, make_batch, train_on_frames

SHORT = Plan(steps=6, batch=4, crop=48)


@pytest.fixture(scope="module")
def scene() -> Scene:
    movie = simulate_ws2_movie(5, frames=1, size=160, pixel=0.3, dopants=5, vacancies=3)
    return scene_of(residual_at(movie.frames[0].astype(float), 1.0))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def test_the_same_seed_gives_the_same_weights_also_after_a_kill(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, record = train_on_frames([scene], tmp_path / "whole", plan=SHORT, about={"frame": 3})
    assert record["steps"] == 6

    eager = Plan(steps=6, batch=4, crop=48, save_every=0.0)
    calls = {"n": 0}

    def stop(*args: object, step: int) -> object:
        calls["n"] += 1
        if calls["n"] == 4:
            raise KeyboardInterrupt
        return make_batch(*args, step=step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("atomreel.train.oneframe.make_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train_on_frames([scene], tmp_path / "killed", plan=eager)
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    train_on_frames([scene], tmp_path / "killed", plan=eager)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    train_on_frames([scene], tmp_path / "other", plan=Plan(steps=6, batch=4, crop=48, seed=1))
    assert not torch.equal(one["head.weight"], weights(tmp_path / "other")["head.weight"])


def test_the_model_folder_is_one_that_loads(scene: Scene, tmp_path: Path) -> None:
    net, record = train_on_frames([scene], tmp_path / "m", plan=SHORT, about={"frame": 3})
    again, card = load_model(tmp_path / "m")
    image = torch.from_numpy(scene.channels()[None])
    with torch.no_grad():
        assert torch.allclose(net(image), again(image), atol=1e-4)
    assert read_card(tmp_path / "m" / "card.toml").input["frame"] == 3
    assert card.classes == ("background", "brighter", "dimmer")
    assert record["loss"][-1] < record["loss"][0] * 1.5


def test_labels_stay_on_what_they_label(scene: Scene) -> None:
    twin = pristine(scene, np.random.default_rng(0))
    hits = []
    for step in range(4):
        image, target, weight = make_batch([scene], [twin], Plan(batch=8, crop=64), step=step)
        assert image.shape == (8, 2, 64, 64)
        assert target.shape == (8, 3, 64, 64)
        for number, sign in ((1, 1), (2, -1)):
            labelled = (target[:, number] > 0.9) & (weight > 0)
            hits.append((sign * image[:, 1][labelled]).mean())
        clean = (target[:, 0] > 0.99) & (weight > 0)
        assert np.abs(image[:, 1][clean].mean()) < 0.1
    assert np.mean(hits) > 0.6  # z/4 of labelled pixels: 2.4 σ and more


def test_without_a_frame_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frame"):
        train_on_frames([], tmp_path)
