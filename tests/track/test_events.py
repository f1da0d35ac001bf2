import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table, empty_table
from atomreel.track.events import find_events


def tracks(rows):
    table = pd.DataFrame(rows, columns=["track", "frame", "kind", "site", "y", "x"])
    return table.assign(y_err=0.1, x_err=0.1, score=1.0)


EXAMPLE = [
    (0, 0, "Mo_W", 5, 0, 0),
    (0, 1, "Mo_W", 5, 0, 0),
    (0, 4, "V_S", 5, 0, 0),
    (0, 5, "V_S", 6, 0, 3),
    (1, 2, "V_S", 9, 8, 8),
    (1, 3, "V_S", 9, 8, 8),
]


def test_every_kind_of_event():
    events = check_table(find_events(tracks(EXAMPLE), times=[0, 1, 2, 3, 10, 11], frames=6), "events")
    found = events[["track", "frame", "event", "before", "after", "gap"]].to_numpy().tolist()
    assert found == [
        [1, 2, "birth", "none", "V_S", 1],
        [0, 4, "change", "Mo_W", "V_S", 3],
        [1, 4, "end", "V_S", "none", 1],
        [0, 5, "hop", "V_S", "V_S", 1],
    ]
    hop = events.iloc[3]
    assert (hop["from_site"], hop["to_site"], hop["moved"]) == (5, 6, 3.0)
    assert events["t_s"].tolist() == [2, 10, 10, 11]


def test_edges_of_the_movie_are_no_events():
    assert len(find_events(tracks(EXAMPLE[:2]), frames=2)) == 0


def test_hops_without_sites_need_a_length():
    table = tracks(EXAMPLE).drop(columns="site")
    assert "hop" not in set(find_events(table)["event"])
    assert (find_events(table, min_hop=2)["event"] == "hop").sum() == 1


def test_state_numbers_are_states():
    table = tracks(EXAMPLE[:2]).assign(state=[1, 2])
    assert find_events(table)[["before", "after"]].to_numpy().tolist() == [["Mo_W:1", "Mo_W:2"]]


def test_empty_and_doubled():
    assert len(find_events(empty_table("tracks"))) == 0
    with pytest.raises(InputError, match="two points"):
        find_events(tracks([EXAMPLE[0], EXAMPLE[0]]))
