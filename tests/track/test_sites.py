"""Sites against particles whose every column, drift and turn is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.track.sites import find_sites

GAP = 12.0


def particle(rings: int) -> np.ndarray:
    """A hexagon of a triangular lattice, centred on 0; inner columns have six neighbours."""
    n = np.arange(-rings, rings + 1)
    u, v = (g.ravel() for g in np.meshgrid(n, n, indexing="ij"))
    keep = np.abs(u + v) <= rings
    return GAP * np.stack([u[keep] * np.sqrt(3) / 2, v[keep] + u[keep] / 2], 1)


def movie(rng, places, there, *, drift=0.0, turn=0.0, jitter=0.3, false=0.0, centre=(90.0, 100.0)):
    """Rows frame, y, x, truth; there: (S, T). turn: degrees per frame, counter-clockwise as the eye sees it."""
    rows, path = [], np.cumsum(rng.normal(0, drift, (there.shape[1], 2)), axis=0)
    for t in range(there.shape[1]):
        angle = np.deg2rad(turn * t)
        right, up = places[:, 1], -places[:, 0]
        seen = np.stack(
            [-(right * np.sin(angle) + up * np.cos(angle)), right * np.cos(angle) - up * np.sin(angle)], 1
        )
        seen = seen + centre + path[t] + rng.normal(0, jitter, places.shape)
        own = np.flatnonzero(there[:, t])
        rows.append(pd.DataFrame({"frame": t, "y": seen[own, 0], "x": seen[own, 1], "truth": own}))
        extra = rng.random((rng.poisson(false), 2)) * (180, 200)
        rows.append(pd.DataFrame({"frame": t, "y": extra[:, 0], "x": extra[:, 1], "truth": -1}))
    table = pd.concat(rows, ignore_index=True)
    return table.sample(frac=1, random_state=1, ignore_index=True), path


def same(found, places, table):
    """Site of every true place, by majority; asserts that it is one to one."""
    good = found.atoms[(found.atoms.truth >= 0) & (found.atoms.site >= 0)]
    best = good.groupby("truth").site.agg(lambda s: s.mode()[0])
    assert best.is_unique and len(best) == len(places)
    assert (good.site == good.truth.map(best)).mean() > 0.999
    return best.to_numpy()


def test_every_place_is_found_through_drift_turn_and_false_columns(rng):
    places = particle(4)
    there = rng.random((len(places), 60)) < 0.95
    table, _ = movie(rng, places, there, drift=1.0, turn=0.15, false=1.0)
    found = find_sites(table, shape=(180, 200))
    site = same(found, places, table)
    often = found.table["present"] > 3  # two false columns of sixty may meet, which makes a site filled twice
    assert often.sum() == len(places) and len(found.table) < len(places) + 6
    assert ((found.found[site] == 1) != there).mean() < 1e-3  # a false column may stand at a vacant site
    inner = np.hypot(*places.T) < 3.2 * GAP
    row = found.table.iloc[site]
    assert not row.surface[inner].any() and (row.neighbours[inner] == 6).all()
    rim = np.isclose(np.abs(places[:, 0]), 4 * GAP * np.sqrt(3) / 2) | (
        np.hypot(*places.T) > 3.99 * GAP * 0.98
    )
    assert row.surface[rim].all() and (row.neighbours[rim] < 6).all()
    turns = found.motion.turn_deg.to_numpy()
    np.testing.assert_allclose(turns - turns[0], 0.15 * np.arange(60), atol=0.3)
    # the errors are those of a mean over about 57 frames
    assert 0.8 < np.median(row.y_err) / (0.3 / np.sqrt(57)) < 1.25


def test_the_drift_table_carries_over_what_no_neighbour_frame_shows(rng):
    places = particle(3)
    there = np.ones((len(places), 30), dtype=bool)
    table, path = movie(rng, places, there, drift=15.0)
    drift = pd.DataFrame({"frame": np.arange(30), "dy": path[:, 0], "dx": path[:, 1]})
    found = find_sites(table, drift=drift)
    assert len(found.table) == len(places) and (found.found == 1).all()
    with pytest.raises(InputError, match="drift"):
        find_sites(table, drift=drift.iloc[:20])


def test_adatoms_that_come_and_go_are_sites_and_leave_the_layer_below_at_the_surface(rng):
    places = particle(3)
    extra = places[np.argmax(places[:, 0])] + [
        [GAP * np.sqrt(3) / 2, GAP / 2],
        [GAP * np.sqrt(3) / 2, -GAP / 2],
    ]
    everything = np.vstack([places, extra])
    there = np.ones((len(everything), 80), dtype=bool)
    there[-2:] = rng.random((2, 80)) < 0.2
    found = find_sites(movie(rng, everything, there)[0])
    site = same(found, everything, None)
    assert found.table.surface.iloc[site[-2:]].all()
    assert found.table.surface.iloc[site[int(np.argmax(places[:, 0]))]]
    np.testing.assert_array_equal(found.table.present.iloc[site[-2:]], there[-2:].sum(1))


def test_what_lies_outside_the_field_or_was_not_looked_at_is_not_vacant(rng):
    places = particle(3)
    there = np.ones((len(places), 20), dtype=bool)
    there[:, 7] = False
    table, _ = movie(rng, places, there, centre=(20.0, 100.0))
    table = table[table.y >= 0]
    found = find_sites(table, shape=(180, 200), frames=20)
    assert np.isnan(found.found[:, 7]).all()
    judged = np.delete(found.found, 7, axis=1)
    inside = found.table.y > 0.5 * GAP + 2
    assert np.isnan(judged[found.table.y < 0.5 * GAP - 2]).all()
    assert (judged[inside] == 1).all()
    assert found.table.edge[found.table.y < GAP].all() and not found.table.surface[found.table.edge].any()


def test_scores_are_carried_to_the_sites(rng):
    places = particle(2)
    table, _ = movie(rng, places, rng.random((len(places), 12)) < 0.8)
    table["score"] = rng.uniform(0.4, 1.0, len(table))
    plain, scored = (find_sites(table, scores=flag) for flag in (False, True))
    np.testing.assert_array_equal(scored.found > 0, plain.found == 1)
    assert scored.found.sum() == pytest.approx(table.score.sum())
    pd.testing.assert_frame_equal(scored.table, plain.table)
    with pytest.raises(InputError, match="score"):
        find_sites(table.drop(columns="score"), scores=True)


def test_nothing_is_changed_and_bad_tables_are_refused(rng):
    table, _ = movie(rng, particle(2), np.ones((19, 5), dtype=bool))
    before = table.copy()
    find_sites(table)
    pd.testing.assert_frame_equal(table, before)
    for bad, words in (
        (table.drop(columns="y"), "y missing"),
        (table.iloc[:0], "finite"),
        (table.assign(y=np.nan), "finite"),
        (table.assign(frame=-1), "frames"),
    ):
        with pytest.raises(InputError, match=words):
            find_sites(bad)
    with pytest.raises(InputError, match="reach"):
        find_sites(table, reach=0.8)


def test_columns_that_share_two_bins_evenly_are_one_site(rng):
    """Half of the frames each a bin's width apart: the density has two equal tops there, which are one place."""
    places = particle(3)
    table, _ = movie(rng, places, np.ones((len(places), 40), dtype=bool), jitter=0.0)
    side = np.array([rng.permutation(np.repeat([-0.5, 0.5], 20)) for _ in places])
    table["y"] += 0.1 * GAP * side[table["truth"], table["frame"]]
    found = find_sites(table, shape=(180, 200))
    assert len(found.table) == len(places) and (found.found == 1).all()
