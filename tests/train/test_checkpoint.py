"""A checkpoint brings back every number, optimiser included."""

from __future__ import annotations

from pathlib import Path

import torch

from atomreel.train.checkpoint import load_checkpoint, save_checkpoint


def make() -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
    net, average = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)) for _ in range(2))
    return net, average, torch.optim.AdamW(net.parameters(), lr=0.1)


def step(net: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    net(torch.ones(2, 3)).square().sum().backward()
    optimiser.step()


def test_training_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    net, average, optimiser = make()
    step(net, optimiser)
    save_checkpoint(tmp_path / "c", net=net, average=average, optimiser=optimiser, about={"step": 1})
    other, other_average, other_optimiser = make()
    about = load_checkpoint(tmp_path / "c", net=other, average=other_average, optimiser=other_optimiser)
    assert about == {"step": 1}
    step(net, optimiser)
    step(other, other_optimiser)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(average.parameters(), other_average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_saved_is_a_fresh_start(tmp_path: Path) -> None:
    net, average, optimiser = make()
    assert load_checkpoint(tmp_path / "none", net=net, average=average, optimiser=optimiser) == {}


def test_saving_twice_keeps_the_later(tmp_path: Path) -> None:
    net, average, optimiser = make()
    for number in (1, 2):
        step(net, optimiser)
        save_checkpoint(tmp_path / "c", net=net, average=average, optimiser=optimiser, about={"step": number})
    assert load_checkpoint(tmp_path / "c", net=net, average=average, optimiser=optimiser) == {"step": 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]
