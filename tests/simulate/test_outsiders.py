"""Outsiders: reproducible, of every kind, without a two-dimensional lattice; and put beside an image where it is said."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.simulate.outsiders import KINDS, band_noise, put_beside, random_outsider, stripes, vacuum


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_an_image_and_reproducible(kind: str) -> None:
    one, two, other = (random_outsider(seed, size=(80, 112), kind=kind) for seed in (3, 3, 4))
    assert one.kind == kind and one.image.shape == (80, 112) and one.image.dtype == np.float32
    assert np.isfinite(one.image).all() and one.image.std() > 0
    assert one.image.tobytes() == two.image.tobytes() != other.image.tobytes()


def test_all_kinds_are_drawn() -> None:
    assert {random_outsider(seed, size=(32, 32)).kind for seed in range(60)} == set(KINDS)


def test_vacuum_is_counts_without_any_structure() -> None:
    """Apart from slopes and lines no frequency stands out from the others of its size."""
    for seed in range(8):
        image = vacuum((128, 128), np.random.default_rng(seed)).astype(float)
        power = np.abs(np.fft.fft2(image - image.mean())) ** 2
        q = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
        ring = (128 * q).astype(int)
        free = (np.abs(np.fft.fftfreq(128)) > 4 / 128)[:, None] & (np.abs(np.fft.fftfreq(128)) > 4 / 128)
        mean = np.bincount(ring[free], power[free]) / np.maximum(np.bincount(ring[free]), 1)
        assert (power[free] < 30 * mean[ring[free]]).all()  # P(one of 14161 exponentials > 30 means) < 2e-9


def test_stripes_run_in_one_direction() -> None:
    """All strong frequencies lie on one line through the origin: there are planes and no columns."""
    for seed in range(6):
        image = stripes((128, 128), np.random.default_rng(seed)).astype(float)
        power = np.abs(np.fft.fft2(image - image.mean())) ** 2
        q = np.stack(np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128), indexing="ij"), -1)
        scatter = np.einsum("yx,yxi,yxj->ij", np.where(power > 0.1 * power.max(), power, 0), q, q)
        low, high = np.linalg.eigvalsh(scatter)
        assert low < 0.1 * high


def test_grain_has_the_frequencies_that_were_asked_for() -> None:
    grain = band_noise((256, 256), np.random.default_rng(1), low=0.1, high=0.2, sharp=0.1)
    power = np.abs(np.fft.fft2(grain)) ** 2
    q = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    inside = (q > 0.08) & (q < 0.22)
    assert abs(grain.mean()) < 1e-9 and abs(grain.std() - 1) < 1e-9
    assert power[inside].sum() > 0.9 * power.sum()


def test_a_part_is_replaced_where_the_mask_says() -> None:
    rng = np.random.default_rng(2)
    own, other = np.full((96, 96), 5.0, np.float32), rng.normal(0, 3, (96, 96))
    own[::2] = 7.0
    before = own.copy()
    mixed, mask = put_beside(own, other, rng)
    assert np.array_equal(own, before) and 0.3 < mask.mean() < 0.7
    changed = np.abs(mixed - own) > 0.05
    assert (changed & mask).sum() > 0.8 * mask.sum()
    from scipy.ndimage import binary_erosion

    deep = binary_erosion(~mask, iterations=12, border_value=1)
    assert deep.any() and not changed[deep].any()


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="outsider"):
        random_outsider(0, kind="cat")
    with pytest.raises(InputError, match="32 px"):
        random_outsider(0, size=(8, 64))
    with pytest.raises(InputError, match="shape"):
        put_beside(np.zeros((40, 40)), np.zeros((40, 41)), np.random.default_rng(0))
