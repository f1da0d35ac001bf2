"""Rates of holes and warnings about them, from tables of known truth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from atomreel.core.files import write_table
from atomreel.kinetics.intervals import series_mean
from atomreel.pipeline.holes import hole_kinetics, hole_notes, persistence

FRAMES, INTERVAL, RHO, SITE = 40, 5.0, 0.015, 4e-4


def phases(rng: np.random.Generator, *, grow: bool = True, off: float = 0.0) -> pd.DataFrame:
    """A Yule process from 10 sites on, counted with an error now and then; brightness is `off` σ away."""
    sites = np.full(FRAMES, 10)
    for k in range(1, FRAMES) if grow else ():
        sites[k] = sites[k - 1] + rng.negative_binomial(sites[k - 1], np.exp(-RHO * INTERVAL))
    share = (sites + rng.binomial(1, 0.1, FRAMES)) * SITE
    other = share + (rng.standard_normal(FRAMES) + off) * 2 * SITE
    return pd.DataFrame(
        {
            "frame": np.arange(FRAMES),
            "hole_fraction": share,
            "hole_fraction_err": 0.5 * SITE,
            "hole_fraction_intensity": other,
            "hole_disagreement": share - other,
            "hole_disagreement_err": 2.1 * SITE,
            "vacancy_fraction": rng.poisson(20, FRAMES) * SITE,
            "site_fraction": SITE,
        }
    )


def plan(*, timed: bool = True, dose: float | None = 50.0, pixel: float | None = 0.2) -> SimpleNamespace:
    times = INTERVAL * np.arange(FRAMES) if timed else None
    movie = SimpleNamespace(times=times, shape=(400, 500), dose=dose)
    return SimpleNamespace(movie=movie, pixel=None if pixel is None else (pixel, pixel))


def folder(path: Path, table: pd.DataFrame) -> SimpleNamespace:
    write_table(path / "phases.parquet", table, kind="phases")
    return SimpleNamespace(path=path)


def test_growth_as_share_as_area_and_per_dose(tmp_path: Path, rng: np.random.Generator) -> None:
    run = folder(tmp_path, phases(rng))
    rates = hole_kinetics(plan(), run)
    assert rates["hole_rho"].low < RHO < rates["hole_rho"].high and rates["hole_rho"].unit == "1/s"
    field = 400 * 500 * 0.2**2 / 100
    assert rates["hole_A0_area"].value == pytest.approx(rates["hole_A0"].value * field)
    assert rates["hole_A0"].value + rates["hole_C"].value == pytest.approx(10 * SITE, abs=2 * SITE)
    assert rates["hole_speed_end"].unit == "nm²/s"
    for name in ("rho", "speed_end"):  # 10 e/Å² a second
        per = rates[f"hole_{name}_per_dose"]
        assert per.value == pytest.approx(rates[f"hole_{name}"].value / 10)
    assert rates["hole_rho_per_dose"].unit == "1 per e/Å²"
    assert "gets faster" in rates["hole_exponential"].method and rates["hole_exponential"].value > 10
    vacant = rates["vacancy_share"]
    assert vacant.low < 20 * SITE < vacant.high
    drawn = pd.read_parquet(tmp_path / "phases.parquet")
    assert (drawn.hole_fit_low < drawn.hole_fit).all() and (drawn.hole_fit < drawn.hole_fit_high).all()


def test_what_is_not_known_is_not_told(tmp_path: Path, rng: np.random.Generator) -> None:
    rates = hole_kinetics(plan(timed=False, dose=None, pixel=None), folder(tmp_path, phases(rng)))
    assert rates["hole_rho"].unit == "1/frame" and rates["hole_speed_start"].unit == "1/frame"
    assert not [name for name in rates if "area" in name or "dose" in name]


def test_nothing_that_grows_and_no_lattice(tmp_path: Path, rng: np.random.Generator) -> None:
    still = phases(rng, grow=False)
    assert set(hole_kinetics(plan(), folder(tmp_path, still))) == {"vacancy_share"}
    still.loc[7, "hole_fraction"] = 6 * SITE  # one misread frame
    still.loc[still.index != 7, "hole_fraction"] = 0.0
    assert set(hole_kinetics(plan(), folder(tmp_path, still))) == {"vacancy_share"}
    unfitted = phases(rng).assign(site_fraction=np.nan)
    assert hole_kinetics(plan(), folder(tmp_path, unfitted)) == {}
    some = phases(rng)  # frames without a lattice are left out
    some.loc[::5, ["site_fraction", "vacancy_fraction"]] = np.nan
    some.loc[::5, "hole_fraction"] = 0.5
    found = hole_kinetics(plan(), folder(tmp_path, some))["hole_rho"]
    assert found.low < RHO < found.high and found.count == FRAMES - len(range(0, FRAMES, 5))


def test_a_warning_where_the_measures_disagree_and_none_where_they_do_not(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    assert hole_notes(folder(tmp_path, phases(rng)).path) == []
    apart = hole_notes(folder(tmp_path, phases(rng, off=5.0)).path)
    assert len(apart) == 1 and f"of {FRAMES} frames" in apart[0] and "-0.39 % of the field" in apart[0]
    empty = phases(rng).assign(hole_disagreement=0.0, hole_disagreement_err=0.0)
    assert hole_notes(folder(tmp_path, empty).path) == []


@pytest.mark.parametrize("lasting", [0.0, 5.0, 20.0])
def test_how_long_vacancies_last_is_read_off_their_number(lasting: float, rng: np.random.Generator) -> None:
    """Births at a steady rate, each gone after an exponential time, seen every 2.5 s."""
    n, interval = 4000, 2.5
    start = rng.uniform(-100, n * interval, 3 * n)
    seen = np.zeros(n)
    for first, last in zip(start, start + rng.exponential(lasting or 1e-9, 3 * n), strict=True):
        a, b = (int(np.ceil(edge / interval)) for edge in (first, last))
        seen[max(a, 0) : max(b, 0)] += 1
    seen += rng.poisson(3, n) * (lasting == 0)
    found = persistence(series_mean(seen), n, interval)
    assert found == pytest.approx(lasting, rel=0.35, abs=0.9)
