"""A bar where somebody watches, silence elsewhere."""

from __future__ import annotations

import pytest

from atomreel.pipeline.progress import progress


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
