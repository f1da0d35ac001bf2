import numpy as np
import pytest

from atomreel.simulate.stem import AberratedProbe, Probe, point_spectrum, render_stem, wavelength, z_contrast


def direct(positions, weights, shape, sigma):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return sum(
        w * np.exp(-((y - p[0]) ** 2 + (x - p[1]) ** 2) / (2 * sigma**2))
        for p, w in zip(positions, weights, strict=True)
    )


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0])
def test_equals_a_direct_sum_of_gaussians(rng, sigma):
    positions, weights = rng.uniform(-5, 70, (60, 2)), rng.uniform(0.1, 1, 60)
    image = render_stem(
        positions, weights, (64, 50), probe=Probe(sigma * np.sqrt(8 * np.log(2))), pixel=1.0, pad=40
    )
    truth = direct(positions, weights, (64, 50), sigma)
    # a Gaussian of 1 px is not quite band-limited: its samples alias, the rendering does not
    assert np.abs(image - truth).max() < (0.02 if sigma == 1 else 0.003) * truth.max()


@pytest.mark.parametrize(
    "probe", [Probe(1.0, tail=0.3), AberratedProbe(80, 30), AberratedProbe(200, 25, defocus=20, source=0.7)]
)
def test_a_column_is_seen_where_it_is(rng, probe):
    """Centroid of a lone column, by plain moments."""
    for at in rng.uniform(28, 36, (5, 2)):
        image = render_stem(at[None], np.ones(1), (64, 64), probe=probe, pixel=0.15, pad=40)
        y, x = np.mgrid[:64, :64]
        square = image.astype(float) ** 2  # squared, for faint rings reach beyond the field
        total = square.sum()
        assert ((y * square).sum() / total, (x * square).sum() / total) == pytest.approx(tuple(at), abs=0.005)
        assert image.max() == pytest.approx(1.0, abs=0.06)  # unit height, between pixels


def test_width_of_the_probe_is_its_fwhm():
    image = render_stem(
        np.array([[32.0, 32.0]]), np.ones(1), (64, 64), probe=Probe(1.2, ratio=1.5, angle=90), pixel=0.1
    )
    assert image[32, 32] == pytest.approx(1, abs=1e-3)
    along = np.interp(0.5, image[32:, 32][::-1], np.arange(32)[::-1])  # half height, in y
    across = np.interp(0.5, image[32, 32:][::-1], np.arange(32)[::-1])
    assert along / across == pytest.approx(1.5, rel=0.02)
    assert np.sqrt(along * across) == pytest.approx(6.0, rel=0.01)


def test_wavelength_by_the_book():
    assert [wavelength(v) for v in (60, 100, 300)] == pytest.approx([0.0487, 0.0370, 0.0197], abs=1e-4)


def test_diffraction_limited_probe():
    """Airy disc: FWHM = 0.515 λ/α."""
    image = render_stem(
        np.array([[64.0, 64.0]]),
        np.ones(1),
        (128, 128),
        probe=AberratedProbe(200, 20, source=0.0),
        pixel=0.05,
        pad=120,
    )
    half = np.interp(0.5, image[64, 64:][::-1], np.arange(64)[::-1])
    assert 2 * half * 0.05 == pytest.approx(0.515 * 0.02508 / 0.020, rel=0.03)


def test_heavier_is_brighter():
    assert z_contrast(("W",)) / z_contrast(("Mo",)) == pytest.approx((74 / 42) ** 1.7)
    assert z_contrast(("S", "S")) == 2 * z_contrast(("S",))


def test_no_columns_no_signal():
    assert not point_spectrum(np.empty((0, 2)), np.empty(0), (8, 8)).any()
