"""A bar and a line where somebody watches, silence elsewhere."""

from __future__ import annotations

from collections import defaultdict

import numba
import pytest
from numba.core import event

from atomreel.pipeline.progress import progress, tell_translation


def test_nothing_is_printed_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("frames", 3) as done:
        for _ in range(3):
            done(1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_the_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("frames", 3) as done:
        done(3)
    out, err = capsys.readouterr()
    assert out == "" and "frames" in err


def translated(name: str) -> None:
    """A loop of a module called `name`, translated where none is kept."""

    def loop(n: int) -> int:
        return n + 1

    loop.__module__ = name
    assert numba.njit(loop)(1) == 2


def test_translating_is_told_once_and_only_for_our_loops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(event, "_registered", defaultdict(list))
    tell_translation.cache_clear()
    tell_translation()
    tell_translation()
    translated("atomreel.interpret.loops")
    assert capsys.readouterr() == ("", "")  # nobody watches
    tell_translation.cache_clear()
    monkeypatch.setattr(event, "_registered", defaultdict(list))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    tell_translation()
    translated("another.program")
    assert capsys.readouterr().err == ""
    translated("atomreel.interpret.loops")
    translated("atomreel.interpret.normal")
    assert capsys.readouterr().err.count("translating") == 1
    tell_translation.cache_clear()
