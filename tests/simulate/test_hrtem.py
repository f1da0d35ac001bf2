import numpy as np
import pytest
import torch

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.hrtem import (
    Optics,
    best_defocus,
    image_waves,
    interaction,
    padded,
    phase_object,
    scattering_factor,
    transfer,
)


def grating(q, amplitude=0.01, n=128, pixel=0.1):
    """Weak phase grating of frequency q [1/Å] along x."""
    x = np.arange(n) * pixel
    wave = np.exp(1j * amplitude * np.cos(2 * np.pi * q * x))
    return torch.from_numpy(np.tile(wave, (n, 1)).astype(np.complex64))[None]


@pytest.mark.parametrize(
    "optics",
    [Optics(80, defocus=50, cs=10), Optics(300, defocus=-80, cs=-15, c5=3), Optics(200, defocus=120)],
)
def test_a_weak_grating_has_the_contrast_of_the_book(optics):
    """I − 1 = 2 φ sin χ, with χ written out here anew (de Graef, Introduction to CTEM, ch. 10)."""
    q = 6 / 12.8
    lam = {80: 0.041757, 300: 0.019687, 200: 0.025079}[int(optics.voltage)]
    angle = lam * q
    chi = (
        2
        * np.pi
        / lam
        * (-optics.defocus * angle**2 / 2 + optics.cs * 1e4 * angle**4 / 4 + optics.c5 * 1e7 * angle**6 / 6)
    )
    image = image_waves(grating(q), 0.1, [optics])[0].numpy()
    assert image[0, 0] - 1 == pytest.approx(0.02 * np.sin(chi), abs=3e-4)


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("cs", [-12.0, 15.0])
def test_best_defocus_gives_the_sign(cs, bright):
    q = 6 / 12.8
    optics = Optics(80, defocus=best_defocus(q, voltage=80, cs=cs, bright=bright), cs=cs)
    centre = float(image_waves(grating(q), 0.1, [optics])[0, 0, 0]) - 1
    assert centre == pytest.approx(0.02 if bright else -0.02, abs=2e-3)


def test_focal_spread_and_deflection_damp():
    q = 6 / 12.8
    defocus = best_defocus(q, voltage=80, cs=0, bright=True)
    sharp, spread, shaken = (
        float(image_waves(grating(q), 0.1, [Optics(80, defocus=defocus, **more)])[0, 0, 0]) - 1
        for more in ({}, {"focal_spread": 30.0}, {"deflection": 0.3})
    )
    assert spread / sharp == pytest.approx(np.exp(-0.5 * (np.pi * 0.041757 * 30 * q**2) ** 2), rel=0.02)
    assert shaken / sharp == pytest.approx(np.exp(-2 * np.pi**2 * 0.09 * q**2), rel=0.02)


def test_astigmatism_turns_with_its_angle():
    """Underfocus by A along the axis: −Δf + A cos 2(φ − φ_A). Vertical frequencies see the opposite sign."""
    only = transfer((64, 64), 0.2, [Optics(80, astigmatism=50, angle=0.0)])[0]
    as_defocus = transfer((64, 64), 0.2, [Optics(80, defocus=-50), Optics(80, defocus=50)])
    assert torch.allclose(only[0, :20], as_defocus[0, 0, :20], atol=1e-4)
    assert torch.allclose(only[:20, 0], as_defocus[1, :20, 0], atol=1e-4)
    turned = transfer((64, 64), 0.2, [Optics(80, astigmatism=50, angle=45.0)])[0]
    diagonal = [-5, 5]  # up and to the right: y down
    assert torch.allclose(
        turned[tuple(diagonal)],
        transfer((64, 64), 0.2, [Optics(80, defocus=-50)])[0][tuple(diagonal)],
        atol=1e-4,
    )


def test_batches_equal_single_images():
    waves = torch.cat([grating(0.3), grating(0.5)])
    optics = [Optics(80, defocus=30, deflection=0.1), Optics(200, cs=5)]
    both = image_waves(waves, 0.1, optics)
    assert torch.allclose(both[1], image_waves(waves[1:], 0.1, optics[1:])[0], atol=1e-6)


def test_odd_sizes_and_vacuum():
    assert torch.allclose(
        image_waves(torch.ones(1, 33, 47, dtype=torch.complex64), 0.1, [Optics(80, defocus=9)]),
        torch.ones(1, 33, 47),
    )


def test_scattering_factors_of_the_literature():
    """f(0) of C, Au and W in Å (Lobato & Van Dyck 2014; Doyle & Turner 1968 agree within some per cent)."""
    assert [float(scattering_factor(s, 0.0)) for s in ("C", "Au", "Si")] == pytest.approx(
        [2.51, 10.57, 5.83], rel=0.03
    )
    assert interaction(100) == pytest.approx(9.244e-4, rel=1e-3)  # rad/(V Å)
    with pytest.raises(UnknownNameError, match="element"):
        scattering_factor("Xx", 0.0)


def test_the_mean_phase_is_that_of_the_mean_potential():
    """∫V dA = 47.878 f(0) V Å² per atom; the phase must add up to σ times that."""
    at = np.array([[20.3, 30.7], [40.0, 10.2]])
    wave = phase_object({"C": at}, {"C": np.ones(2)}, (64, 64), pixel=0.15, voltage=100)
    assert np.angle(wave).sum() * 0.15**2 == pytest.approx(2 * 47.878 * 2.51 * 9.244e-4, rel=0.01)
    assert np.abs(wave) == pytest.approx(1.0, abs=1e-5)


def test_the_grid_is_larger_than_the_field():
    shape, pad = padded((100, 80), 0.2)
    assert shape[0] >= 100 + 2 * pad and shape[1] >= 80 + 2 * pad and pad >= 24
