import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.track.occupancy import find_occupancy, presence


def telegraph(rng, *, sites, frames, appear, vanish):
    state = rng.random(sites) < appear / (appear + vanish)
    rows = []
    for frame in range(frames):
        rows.append(pd.DataFrame({"frame": frame, "y": 1.0, "x": 2.0, "site": np.nonzero(state)[0]}))
        flip = rng.random(sites)
        state = np.where(state, flip > vanish, flip < appear)
    return pd.concat(rows, ignore_index=True)


def test_intervals_cover_blinking_sites(rng):
    table = find_occupancy(telegraph(rng, sites=400, frames=200, appear=0.1, vanish=0.1), frames=200)
    covered = ((table["low"] <= 0.5) & (table["high"] >= 0.5)).mean()
    assert 0.91 < covered < 0.99
    # Taking frames as independent would claim ±0.07; the truth scatters by 0.1.
    assert 0.3 < (table["high"] - table["low"]).mean() < 0.5


def test_counts():
    table = pd.DataFrame({"frame": [0, 1, 3], "y": 1.0, "x": 1.0, "site": [4, 4, 4]})
    row = find_occupancy(table, frames=4).iloc[0]
    assert (row["present"], row["occupancy"], row["appearances"], row["disappearances"]) == (3, 0.75, 1, 1)
    with pytest.raises(InputError, match="site"):
        find_occupancy(table.drop(columns="site"))


def test_presence_is_one_row_per_site():
    table = pd.DataFrame({"frame": [0, 1, 3, 2], "y": 1.0, "x": 1.0, "site": [4, 4, 9, -1]})
    sites, there = presence(table)
    assert sites.tolist() == [4, 9]
    assert there.tolist() == [[True, True, False, False], [False, False, False, True]]
    with pytest.raises(InputError, match="frame 3"):
        presence(table, frames=3)
