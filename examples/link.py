"""Link positions of anybody's table into tracks: three walkers, seen in nine frames of ten."""

import numpy as np
import pandas as pd

from atomreel.track.events import find_events
from atomreel.track.link import link

rng = np.random.default_rng(0)
rows = []
for walker in range(3):
    where = np.array([30.0, 30.0 + 40 * walker])
    for frame in range(40):
        where = where + rng.normal(0, 0.5, 2)
        if rng.random() < 0.9:
            rows.append({"frame": frame, "y": where[0], "x": where[1]})
table = pd.DataFrame(rows).assign(y_err=0.2, x_err=0.2, kind="Si_C", score=0.95)

tracks = link(table, max_step=5.0, memory=2)
print(tracks.groupby("track").frame.agg(["first", "last", "count"]).to_string())
print(find_events(tracks, frames=40)[["track", "frame", "before", "after"]].to_string())
