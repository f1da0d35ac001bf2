"""From tracks to rates: a defect that switches between two states, watched with missed frames and a pause."""

import numpy as np
import pandas as pd

from atomreel.kinetics.intervals import to_rates
from atomreel.kinetics.markov import count_transitions, fit_rates

rng = np.random.default_rng(0)
times = np.cumsum(np.where(np.arange(200) == 100, 30.0, 1.0))
rows = []
for track in range(10):
    state = 0
    for frame, pause in enumerate(np.diff(times, prepend=times[0] - 1)):
        # Two states, 0.05 /s there and 0.1 /s back: the exact chance to differ after `pause`.
        leave, back = 0.05, 0.1
        to_one = leave / (leave + back) * (1 - np.exp(-(leave + back) * pause))
        to_zero = back / (leave + back) * (1 - np.exp(-(leave + back) * pause))
        state = int(rng.random() < (to_one if state == 0 else 1 - to_zero))
        if rng.random() > 0.1:
            rows.append({"track": track, "frame": frame, "kind": ("V_S", "Mo_W+V_S")[state]})

fit = fit_rates(count_transitions(pd.DataFrame(rows), times=times))
for name, found in to_rates(fit.estimates()).items():
    print(f"{name}: {found['value']:.3f} ({found['low']:.3f} … {found['high']:.3f}) {found['unit']}")
