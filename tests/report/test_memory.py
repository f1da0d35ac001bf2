from __future__ import annotations

from pathlib import Path

import numpy as np

from atomreel.report.memory import draw_powers, draw_survival


def test_a_panel_for_every_dwell(tmp_path: Path) -> None:
    time = np.array([0.0, 1.0, 4.0])
    share = np.array([1.0, 0.6, 0.2])
    curve = (time, share, share - 0.1, np.minimum(share + 0.1, 1))
    drawn = draw_survival(
        [("Mo_W", curve, (0.2, 0.1, 0.3)), ("V_S at a site", curve, None), ("V_W at a site", curve, None), ("more", curve, None)],
        unit="s",
        folder=tmp_path,
    )  # fmt: skip
    assert all(name in drawn.svg for name in ("Mo_W", "V_S at a site", "V_W at a site", "more", "time (s)"))
    assert (tmp_path / "survival.png").stat().st_size > 5000
    assert "frames" in draw_survival([("Mo_W", curve, None)], unit="frames", folder=tmp_path).svg


def test_powers_have_a_panel_for_each_pair_and_say_p(tmp_path: Path) -> None:
    share = np.full((3, 2, 2), 0.5)
    seen = share.copy()
    seen[:, 1] = np.nan  # a state that nothing started from
    drawn = draw_powers(
        ("a", "b"),
        (2, 3, 5),
        (seen, share, share - 0.1, share + 0.1),
        tau=2.0,
        p=0.034,
        unit="s",
        folder=tmp_path,
    )
    assert all(f"{i} → {j}" in drawn.svg for i in "ab" for j in "ab")
    assert "p = 0.034" in drawn.caption and (tmp_path / "chapman_kolmogorov.svg").is_file()
