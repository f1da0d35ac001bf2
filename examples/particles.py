"""Particles of a simulated movie: two coalesce, the stage drifts."""

import numpy as np

from atomreel.core.image import Movie
from atomreel.pipeline.particles import describe_particles, follow_particles

rng = np.random.default_rng(0)
y, x = np.mgrid[:160, :160]
spots = np.stack(np.meshgrid(np.arange(20, 150, 20.0), np.arange(20, 150, 20.0)), axis=-1).reshape(-1, 2)
spots += rng.uniform(-2, 2, spots.shape)
radius = rng.uniform(3.5, 4.5, len(spots))
spots[25] = spots[24] + [radius[24] + radius[25] + 1, 0]  # two that touch
frames = []
for t in range(10):
    if t == 5:  # they flow together: volumes add up
        radius[24] = (radius[24] ** 3 + radius[25] ** 3) ** (1 / 3)
        spots[24] = (spots[24] + spots[25]) / 2
        spots, radius = np.delete(spots, 25, axis=0), np.delete(radius, 25)
    image = np.full(y.shape, 100.0) + rng.normal(0, 3, y.shape)
    for (a, b), r in zip(spots + np.array([0.8, -0.5]) * t, radius, strict=True):
        image -= 30 / (1 + np.exp(2 * (np.hypot(y - a, x - b) - r)))
    frames.append(image.astype(np.float32))

followed = follow_particles(Movie(np.stack(frames), (160, 160)))
print(describe_particles(followed.summary()))
print(followed.counts[["frame", "count", "count_err", "area"]].round(2).to_string())
print(followed.events[["frame", "event", "track", "partner", "confidence"]].to_string())
