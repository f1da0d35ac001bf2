"""From tracks and areas to rates: a defect that switches between two states, watched with missed frames and a pause, and a hole
that grows atom by atom."""

import numpy as np
import pandas as pd

from atomreel.kinetics.growth import fit_growth
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

# A hole of 12 sites, each of which brings forth the next at 0.015 /s; a site is 0.0876 nm².
seconds, site = 2.5 * np.arange(80), 0.0876
sites = [12]
for wait in np.diff(seconds):
    sites.append(sites[-1] + rng.negative_binomial(sites[-1], np.exp(-0.015 * wait)))
growth = fit_growth(seconds, site * np.array(sites), area_err=0.3 * site, unit_area=site, area_unit="nm²")
for name, found in to_rates(growth.estimates()).items():
    print(f"{name}: {found['value']:.3g} ({found['low']:.3g} … {found['high']:.3g}) {found['unit']}")
print(f"growth is {growth.shape}: a straight line has an AIC higher by {growth.delta_aic:.0f}")
