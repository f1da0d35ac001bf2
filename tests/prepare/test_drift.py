import io
import itertools

import numpy as np
import pytest
from scipy import ndimage

from atomreel.core.errors import InputError
from atomreel.core.image import Movie
from atomreel.prepare.drift import DriftState, advance, aligned, drift_between, measure_drift


@pytest.fixture(scope="module")
def recording():
    """(frames, true drift): a random blobby scene seen through a moving window with Poisson noise."""
    rng = np.random.default_rng(3)
    scene = ndimage.gaussian_filter(rng.random((340, 340)), 2.5)
    scene = (scene - scene.min()) / np.ptp(scene)
    drift = np.cumsum(rng.normal(0.4, 0.5, (40, 2)), axis=0)
    drift -= drift[0]
    frames = [
        rng.poisson(40 * ndimage.shift(scene, shift, order=3)[80:208, 80:208].clip(0)).astype(np.uint16)
        for shift in drift
    ]
    return frames, drift


def test_drift_of_a_movie_with_honest_errors(recording):
    frames, true = recording
    table = measure_drift(Movie(frames, (128, 128)))
    pulls = (table[["dy", "dx"]].to_numpy() - true)[1:] / table[["dy_err", "dx_err"]].to_numpy()[1:]
    assert table["found"].all()
    assert np.abs(table[["dy", "dx"]].to_numpy() - true).max() < 0.3
    assert (np.abs(pulls) < 3).mean() > 0.85
    assert table["dy_err"].max() < 0.15


def test_errors_do_not_pile_up(recording):
    """Against adding up frame-to-frame shifts, which walks away as the root of the number of frames."""
    frames, true = recording
    table = measure_drift(Movie(frames, (128, 128)))
    steps = [drift_between(a, b) for a, b in itertools.pairwise(frames)]
    summed = np.cumsum([(0.0, 0.0), *((s.dy, s.dx) for s in steps)], axis=0)
    ours = np.sqrt(((table[["dy", "dx"]].to_numpy() - true)[20:] ** 2).mean())
    assert ours < np.sqrt(((summed - true)[20:] ** 2).mean())


def test_resumed_state_gives_the_same_bytes(recording):
    frames, _ = recording
    whole = measure_drift(Movie(frames[:12], (128, 128)))
    state = None
    for frame in frames[:7]:
        state, _ = advance(state, frame)
    file = io.BytesIO()
    np.savez(file, **state.arrays())
    file.seek(0)
    state = DriftState.from_arrays(np.load(file))
    for number in range(7, 12):
        state, row = advance(state, frames[number])
        assert all(np.array_equal(row[key], whole[key][number], equal_nan=True) for key in row)


def test_blank_frame_is_not_trusted(recording, rng):
    frames, true = recording
    broken = [*frames[:5], rng.poisson(10, (128, 128)), *frames[6:9]]
    table = measure_drift(Movie(broken, (128, 128)))
    assert table["found"][5] == 0 and table["dy_err"][5] > 10
    assert np.abs(table[["dy", "dx"]].to_numpy() - true[:9])[6:].max() < 0.3


def test_aligned_movie_stands_still(recording):
    frames, _ = recording
    movie = Movie(frames[:15], (128, 128))
    still = aligned(movie, measure_drift(movie))
    assert np.isfinite(still[14].data).all()
    again = measure_drift(still)
    assert again[["dy", "dx"]].abs().max(axis=None) < 0.15


def test_bad_input(recording):
    frames, _ = recording
    with pytest.raises(InputError, match="differ"):
        drift_between(frames[0], frames[1][:100])
    with pytest.raises(InputError, match="max_shift"):
        drift_between(frames[0], frames[1], max_shift=1000)
    movie = Movie(frames[:3], (128, 128))
    with pytest.raises(InputError, match="no drift"):
        aligned(movie, measure_drift(movie[:2]))


def test_a_bright_walker_is_not_taken_for_drift():
    """A Si atom that hops by lattice vectors over a dim crystal at rest: the crystal decides."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:128, :128]
    crystal = sum(np.cos(2 * np.pi / 14 * (y * np.sin(a) + x * np.cos(a))) for a in np.pi / 3 * np.arange(3))
    frames = []
    for step in range(8):
        cy, cx = 64, 40 + step * 14 / np.cos(np.pi / 6) / 2
        walker = 25 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
        frames.append(rng.poisson(3 + crystal + walker))
    table = measure_drift(Movie(frames, (128, 128)))
    assert table[["dy", "dx"]].abs().max(axis=None) < 1
