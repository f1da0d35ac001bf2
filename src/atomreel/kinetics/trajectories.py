"""What kind of trajectory a track is: weakly moving, diffusing or flickering, with a probability, or too short to tell.

Weakly moving: positions scatter about one place. Diffusing: they follow a random walk seen with the same scatter. Flickering: what is seen switches
on and off, or between two states, more than misreadings alone would make it. Each is a model with a likelihood, averaged over its unknown numbers
(scatter, diffusion coefficient; misreading, switching rate) on a grid with even weight in their logarithms, so that a model with more freedom has to earn it.
The random walk's likelihood is that of a Kalman filter (the model is that of A. J. Berglund, Phys. Rev. E 82, 011917 (2010), motion blur included).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logsumexp

from atomreel.core.errors import InputError
from atomreel.kinetics.markov import frame_clock

Floats = npt.NDArray[np.float64]
KINDS = ("weakly moving", "diffusing", "flickering")
SHORT = "too short to tell"
ONCE = 0.1  # share of the steady ones that change once and for good, which is a reaction and no flickering


@dataclass(frozen=True)
class Criteria:
    """What the kinds mean.

    diffusing, flickering: shares expected beforehand. sure: probability from which on a kind is told. scatter: range of the scatter about
    a place, times the error of the positions. move: range of the mean square step of a frame along an axis, 2·D·Δt, over the
    square of that error; what moves less is called weakly moving. misread: probability that a frame is misread, known within a factor of two. switch: range of the
    rate at which a flickering one forgets its state, per frame; what switches more rarely has states, and their rates are another matter. Ranges are (lowest, highest).
    """

    diffusing: float = 1 / 3
    flickering: float = 1 / 3
    sure: float = 0.9
    scatter: tuple[float, float] = (0.7, 3.0)
    move: tuple[float, float] = (0.2, 200.0)
    misread: float = 0.01
    switch: tuple[float, float] = (0.15, 1.0)


def classify_trajectories(
    tracks: pd.DataFrame,
    *,
    times: npt.ArrayLike | None = None,
    by: str | None = None,
    judged: Sequence[int] | None = None,
    exposure: float = 0.0,
    criteria: Criteria | None = None,
) -> pd.DataFrame:
    """One row per track: track, points, frames (from first to last), switches, p_weak, p_diffusing, p_flickering, kind, d, d_low, d_high.

    tracks: track, frame, y, x, y_err, x_err [px], drift taken off. times: (T,) [s], one per frame. by: a column whose most usual value
    counts as "on" and everything else, absence included, as "off"; by default presence alone. judged: frames in which
    something could be seen, by default all of the table's; an absence in another frame says nothing. exposure: how long a thing is looked at
    in each frame [s, or frames without times], 0 where a scan passes it at once; what moves meanwhile is seen at its mean place. d: diffusion
    coefficient were it diffusing, the median and the 95 % ends of the grid's posterior [px²/s, px²/frame without times].
    Raises InputError for missing columns, errors that are not above 0, two points of a track in one frame, and an exposure longer than the
    usual time between frames.
    """
    rule = criteria or Criteria()
    needed = ["track", "frame", "y", "x", "y_err", "x_err", *([by] if by else [])]
    missing = [c for c in needed if c not in tracks]
    if missing or not len(tracks):
        raise InputError(
            f"trajectories need rows with {', '.join(needed)}; {', '.join(missing) or 'rows'} missing"
        )
    if not (tracks[["y_err", "x_err"]].to_numpy() > 0).all():
        raise InputError("y_err, x_err: expected above 0 everywhere; give the 1σ errors of the positions")
    if tracks.duplicated(["track", "frame"]).any():
        raise InputError("tracks: one track has two points in one frame; link the table again")
    frames = np.unique(tracks["frame"] if judged is None else np.asarray(judged, dtype=np.int64))
    usual = _usual_step(frames, times)
    if not 0 <= exposure <= 1.001 * usual:
        raise InputError(
            f"exposure {exposure}: expected a time from 0 to {usual:g}, the usual one between frames"
        )
    rows = []
    for number, own in tracks.sort_values("frame").groupby("track", sort=True):
        rows.append({"track": number, **_one(own, frames, (times, usual, exposure / usual), by, rule)})
    return pd.DataFrame(rows)


def _usual_step(frames: npt.NDArray[np.int64], times: npt.ArrayLike | None) -> float:
    clock = frame_clock(frames, times)
    return float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0


def _one(
    own: pd.DataFrame,
    frames: npt.NDArray[np.int64],
    clock: tuple[npt.ArrayLike | None, float, float],
    by: str | None,
    rule: Criteria,
) -> dict[str, object]:
    times, usual, open_for = clock
    frame = own["frame"].to_numpy(np.int64)
    seconds = frame_clock(frame, times)
    moving, walk = _motion(own, seconds, (usual, open_for), rule)
    between = frames[(frames >= frame[0]) & (frames <= frame[-1])]
    between = np.union1d(between, frame)
    on = np.isin(between, frame)
    if by is not None:
        top = own[by].mode().iloc[0]
        on = np.isin(between, frame[(own[by] == top).to_numpy()])
    blinking = flicker_evidence(on, frame_clock(between, times) / usual, rule)
    p_flicker = float(expit(blinking + np.log(rule.flickering / (1 - rule.flickering))))
    p_moving = float(expit(moving + np.log(rule.diffusing / (1 - rule.flickering - rule.diffusing))))
    chance = np.array([(1 - p_flicker) * (1 - p_moving), (1 - p_flicker) * p_moving, p_flicker])
    best = int(chance.argmax())
    return {
        "points": len(own),
        "frames": int(frame[-1] - frame[0] + 1),
        "switches": int(np.abs(np.diff(on.astype(int))).sum()),
        **dict(zip(("p_weak", "p_diffusing", "p_flickering"), chance.tolist(), strict=True)),
        "kind": KINDS[best] if chance[best] >= rule.sure else SHORT,
        **dict(zip(("d_low", "d", "d_high"), walk, strict=True)),
    }


def _motion(
    own: pd.DataFrame, seconds: Floats, frame: tuple[float, float], rule: Criteria
) -> tuple[float, tuple[float, float, float]]:
    """ln of the evidence for a random walk over that for one place, and D's 2.5 %, 50 % and 97.5 % quantiles. frame: its usual length, and for which part of it it is exposed."""
    usual, exposure = frame
    where, error = own[["y", "x"]].to_numpy(float), own[["y_err", "x_err"]].to_numpy(float)
    unit = float(np.sqrt((error**2).mean()))
    scatter = np.geomspace(*rule.scatter, 9)
    move = np.geomspace(*rule.move, 25)
    still = motion_evidence(where, error, np.diff(seconds) / usual, scatter=scatter, step=np.zeros(1))
    walk = motion_evidence(
        where, error, np.diff(seconds) / usual, scatter=scatter, step=move * unit**2, exposure=exposure
    )
    gain = _mean_log(walk) - _mean_log(still)
    share = np.cumsum(np.exp(logsumexp(walk, axis=0) - logsumexp(walk)))
    # Each point of the grid stands for as much below as above it.
    edge = np.log(move[0]) + np.log(move[1] / move[0]) * (np.arange(len(move) + 1) - 0.5)
    low, middle, high = np.exp(np.interp([0.025, 0.5, 0.975], np.r_[0.0, share], edge))
    low = low if share[0] < 0.025 else 0.0  # nothing speaks against a slower one
    scale = unit**2 / (2 * usual)
    return gain, (float(low * scale), float(middle * scale), float(high * scale))


def motion_evidence(
    where: npt.ArrayLike,
    error: npt.ArrayLike,
    gap: npt.ArrayLike,
    *,
    scatter: Floats,
    step: Floats,
    exposure: float = 0.0,
) -> Floats:
    """(S, M) ln likelihood of positions (N, 2) with 1σ errors (N, 2), `gap` (N − 1,) frames apart, up to a constant.

    scatter: (S,) factors of the errors. step: (M,) mean square step of a frame along an axis [px²]; 0 for one place. exposure: part of a frame [in frames]
    over which a position is a mean. The first position is wherever it is (flat prior), in all of them alike. Independent in y and x.
    What is followed is the place at the end of an exposure of length τ: of a walk that moves by s per frame, the mean over it scatters by sτ/3
    about where it began, and goes with where it ends by sτ/2.
    """
    where, error = np.asarray(where, dtype=float), np.asarray(error, dtype=float)
    spread = (scatter[:, None, None] * error[None]) ** 2  # (S, N, 2)
    place = np.broadcast_to(where[0], (len(scatter), len(step), 2)).copy()
    blur = (step * exposure)[None, :, None]
    variance = np.broadcast_to(spread[:, None, 0] + blur / 3, place.shape)
    total = np.zeros((len(scatter), len(step)))
    for k, dt in enumerate(np.asarray(gap, dtype=float), start=1):
        variance = variance + step[None, :, None] * dt
        seen = variance - blur * (2 / 3) + spread[:, None, k]
        off = where[k] - place
        total -= 0.5 * (off**2 / seen + np.log(seen)).sum(axis=-1)
        together = variance - blur / 2
        place = place + together / seen * off
        variance = variance - together**2 / seen
    return total


def flicker_evidence(on: npt.ArrayLike, clock: npt.ArrayLike, rule: Criteria) -> float:
    """ln of the evidence for switching over that for misreadings alone, given (N,) whether on, at times (N,) in frames.

    Steady: on (or off) throughout, or one of them and then the other for good, each frame misread independently. Switching: a two-state process in continuous time, its share of time on between
    0.2 and 0.8, misread as often. The first and the last frame are taken as given, since a track begins and ends where something is seen.
    """
    seen = np.asarray(on, dtype=bool)
    if len(seen) < 3:
        return 0.0
    misread = rule.misread * np.array([0.5, 1.0, 2.0])
    if misread.max() >= 0.5:
        raise InputError(f"misread {rule.misread}: expected below 0.25")
    rate, share = np.geomspace(*rule.switch, 7), np.linspace(0.2, 0.8, 7)
    steady = [_steady(seen, m) for m in misread]
    switching = [_switching(seen, np.diff(np.asarray(clock, dtype=float)), (m, rate, share)) for m in misread]
    return float(_mean_log(np.array(switching)) - _mean_log(np.array(steady)))


def _mean_log(values: Floats) -> float:
    return float(logsumexp(values) - np.log(values.size))


def _steady(seen: npt.NDArray[np.bool_], misread: float) -> float:
    """ln likelihood of all but the ends, given these, where what is there does not change, or does so once and for good."""
    chance = np.where(seen, 1 - misread, misread)
    always_on, always_off = np.log(chance).sum(), np.log(1 - chance).sum()
    ends = np.log(chance[[0, -1]]).sum(), np.log(1 - chance[[0, -1]]).sum()
    still = np.logaddexp(always_on, always_off) - np.logaddexp(*ends)
    # Changed after frame k, from on to off or from off to on, any k as likely.
    on, off = np.log(chance), np.log(1 - chance)
    turned = [
        np.cumsum(a)[:-1] + np.cumsum(b[::-1])[::-1][1:] - (a[0] + b[-1]) for a, b in ((on, off), (off, on))
    ]
    weight = [a[0] + b[-1] for a, b in ((on, off), (off, on))]
    once = np.logaddexp(*(w + _mean_log(t) for w, t in zip(weight, turned, strict=True))) - np.logaddexp(
        *weight
    )
    return float(np.logaddexp(np.log1p(-ONCE) + still, np.log(ONCE) + once))


def _switching(
    seen: npt.NDArray[np.bool_], gap: Floats, numbers: tuple[float, Floats, Floats]
) -> npt.NDArray[np.float64]:
    """(R, S) ln likelihood by filtering, of all but the ends, given these."""
    misread, rate, share = numbers
    up = np.broadcast_to(share, (len(rate), len(share)))

    def step(chance: Floats, value: bool, dt: float) -> tuple[Floats, Floats]:
        ahead = up + (chance - up) * np.exp(-rate * dt)[:, None]
        yes = ahead * ((1 - misread) if value else misread)
        both = yes + (1 - ahead) * (misread if value else (1 - misread))
        return yes / both, np.log(both)

    start, _ = step(up, bool(seen[0]), 0.0)
    chance, total = start, np.zeros_like(up)
    for value, dt in zip(seen[1:], gap, strict=True):
        chance, gain = step(chance, bool(value), dt)
        total = total + gain
    return np.asarray(total - step(start, bool(seen[-1]), float(gap.sum()))[1])
