import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table
from atomreel.simulate.movie import simulate_ws2_movie


@pytest.fixture(scope="module")
def movie():
    return simulate_ws2_movie(11, frames=30)


def test_shapes_times_and_pauses(movie):
    assert movie.frames.shape == (30, 256, 256) and movie.frames.dtype == np.uint16
    steps = np.diff(movie.times)
    assert np.sum(steps > 4) == 2 and np.sum(steps == 1) == 27


def test_brightness_follows_the_truth(movie):
    """Mean counts at W, Mo, S2 and S1 in that order, and few in the hole; read straight from the frames."""
    atoms = movie.atoms[(movie.atoms.y.between(3, 252)) & (movie.atoms.x.between(3, 252))]
    mean = {}
    for species, group in atoms.groupby("species"):
        values = [
            map_coordinates(movie.frames[f].astype(float), g[["y", "x"]].to_numpy().T, order=1)
            for f, g in group.groupby("frame")
        ]
        mean[species] = np.concatenate(values).mean()
    assert (
        mean["W"] > 50
        and mean["W"] > 1.8 * mean["Mo"] > 1.8 * 1.3 * mean["S2"]
        and mean["S2"] > 1.2 * mean["S1"]
    )


def test_defects_move_with_the_drift(movie):
    fixed = movie.defects.groupby("track").filter(lambda g: len(g) == 30)
    shift = movie.table[["dy", "dx"]].to_numpy()
    jumps = 0
    for _, group in fixed.groupby("track"):
        still = group[["y", "x"]].to_numpy() - shift
        steps = np.hypot(*np.diff(still, axis=0).T) * movie.pixel
        jumps += int((steps > 0.1).sum())
        assert np.all((steps < 1e-6) | (steps > 3.0))  # Å: stays, or goes to another site
    assert jumps > 0


def test_tables_fit_the_contracts(movie):
    events = check_table(movie.events, "events")
    assert (events.frame <= 30).all() and events.t_s.is_monotonic_increasing
    defects = movie.defects
    assert set(defects.kind) <= {"Mo_W", "V_S", "Mo_W+V_S"}
    assert ((defects.state > 0) == (defects.kind == "Mo_W+V_S")).all()
    assert not defects.duplicated(["frame", "track"]).any()


def test_the_hole_is_empty_and_as_large_as_stated(movie):
    last = movie.atoms[movie.atoms.frame == 29]
    per_atom = 1.5 * np.sqrt(3) * 1.8204**2 / 2 / movie.pixel**2  # px
    empty = 256 * 256 - per_atom * len(last)
    assert empty / 256**2 == pytest.approx(movie.table.hole_fraction.iloc[-1], abs=0.015)
    assert movie.table.hole_sites.is_monotonic_increasing


def test_same_seed_same_movie():
    one, two = (simulate_ws2_movie(2, frames=3, size=160, dopants=3, vacancies=3) for _ in range(2))
    assert np.array_equal(one.frames, two.frames) and one.events.equals(two.events)


def test_a_movie_that_is_not_drawn_is_the_same_movie():
    drawn, blank = (
        simulate_ws2_movie(5, frames=4, size=128, dopants=2, vacancies=3, draw=d) for d in (True, False)
    )
    assert drawn.frames.any() and not blank.frames.any() and blank.frames.dtype == np.uint16
    for name in ("atoms", "defects", "table", "events"):
        assert getattr(drawn, name).equals(getattr(blank, name))
    assert drawn.rates == blank.rates


def test_metal_vacancies_are_empty_columns():
    movie = simulate_ws2_movie(4, frames=2, size=200, dopants=3, vacancies=3, metal_vacancies=3, drift=0)
    empty = movie.defects[(movie.defects.kind == "V_W") & (movie.defects.frame == 0)]
    first = movie.atoms[movie.atoms.frame == 0]
    assert len(empty) == 3 and "turn" not in movie.rates
    for _, row in empty.iterrows():
        far = np.hypot(first.y - row.y, first.x - row.x) * movie.pixel
        assert far.min() > 1.6 and (far < 2.0).sum() == 3  # its S, and nothing on it


def test_a_field_can_be_too_small():
    with pytest.raises(InputError, match="no room"):
        simulate_ws2_movie(0, frames=2, size=64, dopants=50)
