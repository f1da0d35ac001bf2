from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atomreel.report.network import draw_network

NAMES = ("Mo_W", "Mo_W+V_S:1", "Mo_W+V_S:2", "Mo_W+V_S:3")


def rates(n: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    q = 0.01 * (1 + np.arange(n * n).reshape(n, n))
    np.fill_diagonal(q, 0)
    return q, (0.5 * q, 2 * q)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_rate_stands_on_its_arrow_with_its_ends(tmp_path: Path, n: int) -> None:
    q, ends = rates(n)
    pictures = {name: np.random.default_rng(0).random((9, 9)) for name in NAMES[1:n]}
    drawn = draw_network(NAMES[:n], q, ends, unit="1/s", folder=tmp_path, pictures=pictures)
    assert all(name in drawn.svg for name in NAMES[:n])
    assert drawn.svg.count(" … ") == n * (n - 1)
    assert f"{q[0, 1]:.2g}" in drawn.svg and f"{0.5 * q[0, 1]:.2g} … {2 * q[0, 1]:.2g}" in drawn.svg
    assert drawn.svg.count("<image") == n - 1
    assert (tmp_path / "network.png").stat().st_size > 5000


def test_what_never_happens_has_no_arrow_and_names_of_files_are_free(tmp_path: Path) -> None:
    q, ends = rates(3)
    q[0, 2] = 0
    drawn = draw_network(NAMES[:3], q, ends, unit="1/frame", folder=tmp_path, name="own")
    assert drawn.svg.count(" … ") == 5 and "1/frame" in drawn.caption
    assert (tmp_path / "own.svg").is_file()
    assert drawn.svg == draw_network(NAMES[:3], q, ends, unit="1/frame", folder=tmp_path, name="own").svg
