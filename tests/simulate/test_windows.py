"""Windows with one defect: brightness and place are what the material says, and nothing depends on the drawing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.core.material import load_material
from atomreel.simulate.windows import (
    BOX,
    CELL_PX,
    JITTER,
    NOISES,
    RIM,
    SIDE,
    Views,
    add_noise,
    changed_heights,
    draw,
    grow,
    kinds_of,
    random_frames,
    random_noise,
    random_windows,
)

WS2 = load_material("ws2")
KINDS = ("Mo_W", "V_S", "V_W", "W_S")
BEFORE = {"Mo_W": (74,), "V_S": (16, 16), "V_W": (74,), "W_S": (16, 16)}  # atomic numbers at the site
AFTER = {"Mo_W": (42,), "V_S": (16,), "V_W": (), "W_S": (74,)}


def test_a_drawing_is_a_sum_of_gaussians(rng):
    """Against the sum written down directly, with sites between pixels and a line that is shifted."""
    sigma, count = 2.1, 3
    sites = rng.uniform(-8, SIDE + 8, (count, 40, 2))
    heights = rng.uniform(0, 1, (count, 40))
    qy, qx = np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX)
    transfer = 2 * np.pi * sigma**2 * np.exp(-2 * np.pi**2 * sigma**2 * (qy**2 + qx**2))
    wobble = rng.normal(0, 0.4, (count, BOX)).astype(np.float32)
    views = Views(
        sites,
        np.zeros((count, 40), np.int64),
        heights,
        np.broadcast_to(transfer, (count, *transfer.shape)).astype(np.float32),
        wobble,
        np.full((count, SIDE, SIDE), 0.3, np.float32),
        np.ones(count),
        np.ones(count),
    )
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    seen_x = x[None] + wobble[:, (BOX - SIDE) // 2 : (BOX + SIDE) // 2, None]
    direct = np.zeros((count, SIDE, SIDE))
    for k in range(40):
        r2 = (y - sites[:, k, 0, None, None]) ** 2 + (seen_x - sites[:, k, 1, None, None]) ** 2
        direct += heights[:, k, None, None] * np.exp(-r2 / 2 / sigma**2)
    np.testing.assert_allclose(draw(views), direct + 0.3, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_its_column_by_the_scattering_of_its_atoms(kind):
    """Σ Z^n before and after, over that of tungsten: the sum over the pixels of what changed, and where it lies."""
    made = random_windows(WS2, 7, labels=[KINDS.index(kind)] * 12, kinds=KINDS)
    quiet = replace(made.views, wobble=np.zeros_like(made.views.wobble))
    whole = quiet.heights.copy()
    n = quiet.exponent
    whole[:, 0] = sum(np.array(z, float) ** n for z in BEFORE[kind]) / 74.0**n
    change = draw(quiet).astype(float) - draw(replace(quiet, heights=whole))
    wanted = (sum(np.array(z, float) ** n for z in AFTER[kind]) if AFTER[kind] else 0.0) / 74.0**n - whole[
        :, 0
    ]
    area = quiet.transfer[:, 0, 0]
    np.testing.assert_allclose(change.sum((1, 2)) / area, wanted, rtol=0.02, atol=2e-3)
    grid = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1)
    centre = (change[..., None] * grid).sum((1, 2)) / change.sum((1, 2))[:, None]
    np.testing.assert_allclose(centre, made.position, atol=0.5)
    assert (np.abs(made.position - (SIDE - 1) / 2) <= JITTER).all()
    assert np.ptp(made.position, axis=0).min() > JITTER, "the place differs from window to window"


def test_pristine_windows_have_no_position_and_further_defects_stay_at_the_rim():
    made = random_windows(WS2, 3, labels=[4] * 60, kinds=KINDS)
    assert np.isnan(made.position).all() and (made.site == -1).all() and made.classes[4] == "pristine"
    usual = np.stack([changed_heights(made.views, WS2, "V_S")[:, 0]] * 2) * [[2.0], [0]]
    usual[1] = 1
    off = np.abs(made.views.heights - np.take_along_axis(usual.T, 1 - _heavy(made.views), 1))
    changed = (off > 0.05) & (made.views.column >= 0)
    far = np.abs(made.views.sites - (SIDE - 1) / 2).max(2)
    assert changed.any() and far[changed].min() > RIM


def _heavy(views: Views) -> np.ndarray:
    """1 for sulphur columns, 0 for tungsten ones, by the cell's order."""
    first = WS2.project().labels[0]
    return np.where((views.column == 0) == (first == "W"), 0, 1)


def test_every_window_has_the_lattice_of_the_stated_scale(rng):
    vectors = WS2.project().vectors @ random_frames(400, rng)
    length = np.linalg.norm(vectors, axis=2) / 3.153
    assert length.mean() == pytest.approx(1, abs=0.005) and length.std() < 0.03
    assert (np.linalg.det(vectors) > 0).mean() == pytest.approx(0.5, abs=0.1), "mirrored as often as not"
    made = random_windows(WS2, rng, labels=[4] * 50, kinds=KINDS)
    heavy = _heavy(made.views) == 0
    gaps = []
    for sites, which, column in zip(made.views.sites, heavy, made.views.column, strict=True):
        own = sites[which & (column >= 0)]
        gaps.append(np.sort(np.linalg.norm(own[:, None] - own[None], axis=2), axis=1)[:, 1].min())
    assert np.mean(gaps) == pytest.approx(CELL_PX, rel=0.04) and np.std(gaps) > 0.02 * CELL_PX


def test_sites_fill_the_window(rng):
    square = 10.0 * np.eye(2)[None]
    sites, which = grow(
        square, np.zeros((1, 1, 2)), target=np.array([[31.0, 33.0]]), column=np.zeros(1, np.int64)
    )
    np.testing.assert_array_equal(sites[0, 0], [31, 33])
    inside = (sites[0] >= 0).all(1) & (sites[0] <= SIDE - 1).all(1) & (which[0] >= 0)
    assert inside.sum() == 49 or inside.sum() == 42  # 7 × 7 or 7 × 6 places
    assert len(np.unique(sites[0][which[0] >= 0], axis=0)) == (which[0] >= 0).sum()


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = (random_windows(WS2, s, labels=[0, 1, 4], kinds=KINDS) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.images, second.images)
    assert np.abs(first.images - other.images).max() > 0.1


def test_rough_windows_stand_on_worse_backdrops():
    smooth, rough = (random_windows(WS2, 4, labels=[4] * 40, kinds=KINDS, rough=r).views for r in (0.0, 1.0))
    spread = [np.median(v.backdrop.std((1, 2))) for v in (smooth, rough)]
    assert spread[1] > 2.5 * spread[0] and rough.backdrop.max() < 3


@pytest.mark.parametrize("name", ["graphene", "hbn", "mose2"])
def test_other_layers_by_their_file(name):
    material = load_material(name)
    kinds = kinds_of(material)
    made = random_windows(material, 0, labels=range(len(kinds) + 1))
    assert made.classes == (*kinds, "pristine") and np.isfinite(made.images).all()


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_the_stated_strength(noise, rng):
    image = np.full((200, 200), 0.8, np.float32)
    image[:, 100:] = 0.2
    level = NOISES[noise][1]
    noisy = add_noise(image, noise, level, rng=rng)
    spread = [float((noisy - image)[:, half].std()) for half in (slice(0, 100), slice(100, 200))]
    share = np.sqrt(level / 2) * 0.6  # half of the pixels hit already have the value that they get
    wanted = {
        "gaussian": (level, level),
        "speckle": (0.8 * level, 0.2 * level),
        "poisson": (np.sqrt(0.8) * level, np.sqrt(0.2) * level),
        "salt_pepper": (share, share),
    }[noise]
    assert spread == pytest.approx(wanted, rel=0.08)
    assert noisy.dtype == np.float32 and image.max() == np.float32(0.8)


def test_noises_are_drawn_evenly(rng):
    drawn = [random_noise(rng) for _ in range(800)]
    names = [name for name, _ in drawn]
    assert all(150 < names.count(name) < 250 for name in NOISES)
    assert all(NOISES[name][0] <= level <= NOISES[name][1] for name, level in drawn)


@pytest.mark.parametrize(
    ("material", "given", "error", "said"),
    [
        ("au100", {"labels": [0]}, InputError, "layer"),
        ("ws2", {"labels": [9]}, InputError, "labels"),
        ("ws2", {"labels": []}, InputError, "labels"),
        ("ws2", {"labels": [0], "kinds": ["V_Se"]}, UnknownNameError, "V_Se"),
    ],
)
def test_what_cannot_be_drawn_is_refused(material, given, error, said):
    with pytest.raises(error, match=said):
        random_windows(load_material(material), 0, **given)


def test_an_unknown_noise_is_refused(rng):
    with pytest.raises(UnknownNameError, match="pink"):
        add_noise(np.ones((4, 4)), "pink", 0.1, rng=rng)
