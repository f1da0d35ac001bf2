"""The images of a focal series that a particle of given columns makes, and how they change with every unknown.

Multislice on natural slices (E. J. Kirkland, Advanced Computing in Electron Microscopy, 2010, chapter 6), quasi-coherent
image formation as in `simulate.hrtem`. Images are compared as Fourier coefficients of |q| ≤ CUT, the vacuum being 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import interpolate, special

from atomreel.simulate.hrtem import MOTT, interaction, scattering_factor
from atomreel.simulate.stem import wavelength

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Complex = npt.NDArray[np.complex64]
COARSE = 0.31  # Å: images are computed on it
MEDIUM = 0.16  # Å: the wave of all columns, with what they do to each other
FINE = 0.065  # Å: waves of single columns; electrons scattered by up to 5 1/Å come back in thick ones
PATCH = 17.0  # Å: field in which one column matters
CUT = 1.4  # 1/Å: the images' highest frequency that counts
# unknowns that all columns share: focus [Å] of the plane z = 0 against the nominal one, Cs [µm], C5 [mm], astigmatism
# A cos 2φ_A, A sin 2φ_A [Å], focal spread² [Å²], deflection² [Å²], log contrast of all images and of each, shifts of the
# later images [Å], thermal displacement² [Å²], slope of the columns along y and x
COMMON = ("focus", "cs", "c5", "a_cos", "a_sin", "spread2", "deflection2", "contrast")
THICK = ("thermal2", "tilt_y", "tilt_x")  # those that change the exit wave


def names(images: int) -> tuple[str, ...]:
    """Names of the shared unknowns for a series of so many images."""
    single = [f"contrast_{k}" for k in range(images)]
    moved = [f"{axis}_{k}" for k in range(1, images) for axis in ("y", "x")]
    return (*COMMON, *single, *moved, *THICK)


@dataclass(frozen=True)
class Columns:
    """position: (N, 2) middle of each column [Å]. low: (N,) plane of its lowest atom. count: (N,) atoms, 0 allowed.
    layers: planes from atom to atom. step: distance of planes [Å]; plane 0 is at z = 0, the beam runs to larger z."""

    position: Array
    low: Index
    count: Index
    layers: int
    step: float

    @property
    def high(self) -> Index:
        return np.asarray(self.low + self.layers * (self.count - 1))

    @property
    def middle(self) -> Array:
        """(N,) z [Å]."""
        return np.asarray(0.5 * self.step * (self.low + self.high))


@dataclass(frozen=True)
class Grid:
    """A periodic square field. side: [Å]. focus: (F,) nominal [Å], positive is underfocus."""

    side: float
    focus: tuple[float, ...]
    voltage: float
    element: str

    @cached_property
    def coarse(self) -> int:
        return _fast(self.side / COARSE)

    @property
    def pixel(self) -> float:
        return self.side / self.coarse

    @cached_property
    def patch(self) -> int:
        """Side of the field of one column [coarse px]."""
        return min(self.coarse, _fast(PATCH / self.pixel))

    @cached_property
    def rows(self) -> tuple[Index, Index]:
        """Indices into the rfft grid of the coefficients that are compared, each once."""
        k = np.rint(np.fft.fftfreq(self.coarse) * self.coarse)[:, None], np.arange(self.coarse // 2 + 1)[None]
        radius = np.hypot(*k)
        found = np.nonzero((radius > 1.5) & (radius <= CUT * self.side) & ((k[1] > 0) | (k[0] > 0)))
        return found[0], found[1]

    @cached_property
    def at(self) -> tuple[Array, Array]:
        """Frequencies (R,), (R,) of `rows` [1/Å]."""
        q: Array = np.fft.fftfreq(self.coarse, self.pixel).astype(np.float64)
        return q[self.rows[0]], np.abs(q[self.rows[1]])

    @cached_property
    def medium(self) -> Medium:
        return Medium(self.side, _fast(self.side / MEDIUM), self.voltage, self.element)

    @cached_property
    def small(self) -> tuple[Medium, Medium]:
        """Fields of one column: fine, and with the bandwidth of `medium`."""
        side = self.patch * self.pixel
        fine, low = _fast(side / FINE), _fast(side / MEDIUM)
        return (
            Medium(side, fine, self.voltage, self.element),
            Medium(side, low, self.voltage, self.element, self.medium.band),
        )


@dataclass(frozen=True)
class Medium:
    """Grid (n, n) on which a wave flies. side: [Å]. cut: bandwidth [1/Å]; 0: two thirds of the Nyquist frequency."""

    side: float
    n: int
    voltage: float
    element: str
    cut: float = 0.0

    @property
    def band(self) -> float:
        return self.cut or self.n / (3 * self.side)

    @cached_property
    def q(self) -> Array:
        return np.asarray(np.fft.fftfreq(self.n, self.side / self.n), dtype=np.float64)

    @cached_property
    def q2(self) -> Array:
        return np.asarray(self.q[:, None] ** 2 + self.q[None] ** 2)

    def free(self, distance: float) -> Complex:
        """Free flight over a distance [Å]."""
        turn = np.exp(-1j * np.pi * wavelength(self.voltage) * distance * self.q2)
        return np.where(self.q2 <= self.band**2, turn, 0).astype(np.complex64)

    def atom(self, thermal2: float) -> Complex:
        """(n, n) transform of what one atom at (0, 0) adds to the transmission 1 of a plane."""
        spline = _atom(self.element, self.voltage, thermal2)
        return np.asarray(spline(np.sqrt(self.q2)) * (self.n / self.side) ** 2, dtype=np.complex64)

    def slit(self, atoms: npt.NDArray[np.complexfloating]) -> Complex:
        """Transmission of a plane with the transform of its atoms' additions: they do not touch within a plane."""
        return np.asarray(1 + scipy.fft.ifft2(atoms.astype(np.complex64)), dtype=np.complex64)

    def cropped(self, spectrum: Complex, side: int) -> Complex:
        """Coefficients of the (side, side) lowest frequencies."""
        keep = np.r_[0 : side // 2, self.n - side // 2 : self.n]
        return np.asarray(spectrum[np.ix_(keep, keep)] / np.float32(self.n**2), dtype=np.complex64)


@lru_cache(maxsize=4)
def _hankel() -> tuple[Array, Array, Array]:
    """Frequencies [1/Å], radii [Å] and J₀(2πqr), for transforms of things that are round."""
    q = np.asarray(0.02 * (np.arange(600) + 0.5), dtype=np.float64)
    r = np.asarray(0.01 * (np.arange(600) + 0.5), dtype=np.float64)
    return q, r, np.asarray(special.j0(2 * np.pi * np.outer(q, r)))


def _atom(element: str, voltage: float, thermal2: float) -> interpolate.CubicSpline:
    """Transform [Å²] of exp(iσV) − 1 of one atom by |q| [1/Å]; it is sharper than the potential V."""
    q, r, kernel = _hankel()
    power = scattering_factor(element, q**2) * np.exp(-2 * np.pi**2 * thermal2 * q**2) * q
    phase = interaction(voltage) * MOTT * 2 * np.pi * 0.02 * (power @ kernel)
    found = 2 * np.pi * 0.01 * (kernel @ ((np.exp(1j * phase) - 1) * r))
    return interpolate.CubicSpline(np.append(-q[0], q), np.append(found[0], found))


def _fast(least: float) -> int:
    n = 2 * int(np.ceil(least / 2))
    while (best := scipy.fft.next_fast_len(n)) % 2:
        n = best + 1
    return int(best)


@dataclass(frozen=True)
class Library:
    """What single columns add to the wave. fine: (M + 1, m, m) transforms on the patch grid for 0 … M atoms, the lowest at
    (0, 0), in the plane of the last atom. rough: the same with the bandwidth of the whole field. tilt: shift per z."""

    fine: Complex
    rough: Complex
    tilt: tuple[float, float]


def column_library(
    grid: Grid, most: int, *, spacing: float, thermal2: float, tilt: tuple[float, float] = (0.0, 0.0)
) -> Library:
    """Waves of columns of up to `most` atoms, `spacing` apart [Å]. thermal2: mean square displacement per axis [Å²]."""
    fine, rough = (_columns_alone(grid, m, most, (spacing, thermal2, *tilt)) for m in grid.small)
    return Library(fine, rough, tilt)


def _columns_alone(
    grid: Grid, medium: Medium, most: int, about: tuple[float, float, float, float]
) -> Complex:
    spacing, thermal2, *tilt = about
    out = np.zeros((most + 1, grid.patch, grid.patch), dtype=np.complex64)
    atom, step = medium.atom(thermal2), medium.free(spacing)
    slit = medium.slit(atom)
    wave = slit
    for k in range(1, most + 1):
        spectrum = scipy.fft.fft2(wave)
        out[k] = medium.cropped(spectrum, grid.patch) * np.float32(grid.patch**2)
        out[k, 0, 0] -= grid.patch**2
        if k == most:
            break
        if any(tilt):
            moved = [np.exp(-2j * np.pi * medium.q * k * spacing * t) for t in tilt]
            slit = medium.slit(atom * moved[0][:, None] * moved[1])
        wave = scipy.fft.ifft2(spectrum * step) * slit
    return out


def exit_wave(grid: Grid, columns: Columns, library: Library, *, thermal2: float) -> Complex:
    """Fourier coefficients (n, n) on the coarse grid of the wave behind the columns, brought back to the plane z = 0.

    Multislice of all columns at a moderate bandwidth, plus what the columns alone gain from the full one (within 2 % of
    a multislice of all at 0.06 Å, tested).
    """
    medium = grid.medium
    planes, where = _atoms(columns, library.tilt)
    atom = medium.atom(thermal2)
    wave, last = np.ones((medium.n, medium.n), dtype=np.complex64), None
    for plane in np.unique(planes):
        here = where[planes == plane]
        ey = np.exp(-2j * np.pi * medium.q[:, None] * here[:, 0]).astype(np.complex64)
        ex = np.exp(-2j * np.pi * here[:, 1:] * medium.q).astype(np.complex64)
        slit = medium.slit((ey @ ex) * atom)
        if last is not None:
            wave = scipy.fft.fft2(wave, overwrite_x=True) * medium.free((plane - last) * columns.step)
            wave = scipy.fft.ifft2(wave, overwrite_x=True)
        wave, last = wave * slit, plane
    low = medium.cropped(scipy.fft.fft2(wave), grid.coarse)
    if last is not None:
        q2 = _q2(grid.coarse, grid.pixel)
        low *= np.exp(1j * np.pi * wavelength(grid.voltage) * last * columns.step * q2)
    gain = Library(library.fine - library.rough, library.rough, library.tilt)
    return np.asarray(low + together(grid, columns, gain), dtype=np.complex64)


def together(grid: Grid, columns: Columns, library: Library) -> Complex:
    """(n, n) coefficients of the sum of the fine waves of all columns, in the plane z = 0."""
    total = np.zeros((grid.coarse, grid.coarse), dtype=np.complex64)
    for i in np.flatnonzero(columns.count):
        rows, cols, wave = _placed(grid, columns, library, int(i))
        total[rows[:, None], cols] += scipy.fft.ifft2(wave)
    return np.asarray(scipy.fft.fft2(total) / np.float32(grid.coarse**2), dtype=np.complex64)


def _placed(grid: Grid, columns: Columns, library: Library, i: int) -> tuple[Index, Index, Complex]:
    """Rows and columns (m,) of the patch around a column, and its wave's transform (m, m) there in the plane z = 0."""
    n = int(columns.count[i])
    low = int(columns.low[i])
    rows, cols, ramp = _patch(grid, columns.position[i])
    return rows, cols, ramp * _standing(grid, columns, library, (i, n, low))


def _patch(grid: Grid, position: Array) -> tuple[Index, Index, Complex]:
    m, pixel = grid.patch, grid.pixel
    corner = np.rint(position / pixel).astype(np.int64) - m // 2
    q = np.fft.fftfreq(m, pixel)
    ey, ex = (np.exp(-2j * np.pi * q * v).astype(np.complex64) for v in position - corner * pixel)
    index = [(c + np.arange(m)) % grid.coarse for c in corner]
    return index[0], index[1], ey[:, None] * ex


def _standing(grid: Grid, columns: Columns, library: Library, what: tuple[int, int, int]) -> Complex:
    """Transform of n atoms from plane `low` on in place of column i, relative to its middle, in the plane z = 0."""
    i, n, low = what
    z = columns.step * (low + columns.layers * (n - 1))
    turn = np.exp(1j * np.pi * wavelength(grid.voltage) * z * _q2(grid.patch, grid.pixel)).astype(
        np.complex64
    )
    wave = library.fine[n] * turn
    if any(library.tilt):
        q = np.fft.fftfreq(grid.patch, grid.pixel)
        below = columns.step * low - columns.middle[i]
        moved = [np.exp(-2j * np.pi * q * t * below).astype(np.complex64) for t in library.tilt]
        wave = wave * moved[0][:, None] * moved[1]
    return wave


def _atoms(columns: Columns, tilt: Sequence[float]) -> tuple[Index, Array]:
    """Plane (M,) and position (M, 2) of all atoms."""
    which = np.repeat(np.arange(len(columns.count)), columns.count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(columns.count) - columns.count, columns.count)
    plane = columns.low[which] + columns.layers * number
    above = columns.step * plane - columns.middle[which]
    return plane, columns.position[which] + above[:, None] * np.asarray(tilt)


def _q2(n: int, pixel: float) -> Array:
    q = np.fft.fftfreq(n, pixel)
    return np.asarray(q[:, None] ** 2 + q[None] ** 2)


@dataclass(frozen=True)
class View:
    """Images of one exit wave. patch: (F, m, m) transfer of waves on the patch grid. transfer, waves: (F, n, n) of the
    coarse grid. after: (F, R) what happens to the intensity's coefficients. coefficients: (F, R)."""

    patch: Complex
    transfer: Complex
    waves: Complex
    after: Complex
    coefficients: Complex


def view(grid: Grid, wave: Complex, shared: Array) -> View:
    """The images of `wave` (coefficients on the coarse grid). shared: values of `names`."""
    value = dict(zip(names(len(grid.focus)), shared.tolist(), strict=True))
    transfer = _transfer(grid, grid.coarse, value)
    waves = scipy.fft.ifft2(transfer * wave) * np.float32(grid.coarse**2)
    after = _after(grid, value)
    found = after * _coefficients(grid, waves.real**2 + waves.imag**2)
    return View(_transfer(grid, grid.patch, value), transfer, waves, after, found)


def _transfer(grid: Grid, n: int, value: Mapping[str, float]) -> Complex:
    """(F, n, n) as in `simulate.hrtem.transfer`."""
    lam, q = wavelength(grid.voltage), np.fft.fftfreq(n, grid.pixel)
    qy, qx, q2 = q[:, None], q[None], _q2(n, grid.pixel)
    bent = value["a_cos"] * (qx**2 - qy**2) - value["a_sin"] * 2 * qy * qx
    chi = np.pi * (
        lam * (bent - value["focus"] * q2)
        + 0.5 * value["cs"] * 1e4 * lam**3 * q2**2
        + value["c5"] * 1e7 / 3 * lam**5 * q2**3
    )
    base = np.exp(-0.5 * (np.pi * lam * q2) ** 2 * value["spread2"] - 1j * chi)
    return np.stack([base * np.exp(1j * np.pi * lam * f * q2) for f in grid.focus]).astype(np.complex64)


def _after(grid: Grid, value: Mapping[str, float]) -> Complex:
    qy, qx = grid.at
    blur = value["contrast"] - 2 * np.pi**2 * value["deflection2"] * (qy**2 + qx**2)
    shift = [
        2 * np.pi * (qy * value.get(f"y_{k}", 0.0) + qx * value.get(f"x_{k}", 0.0))
        for k in range(len(grid.focus))
    ]
    return np.stack([np.exp(blur + value[f"contrast_{k}"] - 1j * s) for k, s in enumerate(shift)]).astype(
        np.complex64
    )


def changed(grid: Grid, seen: View, more: Complex) -> Complex:
    """(F, R) change of the images to first order in an addition (n, n) to the wave's coefficients."""
    waves = scipy.fft.ifft2(more * seen.transfer, overwrite_x=True) * np.float32(2 * grid.coarse**2)
    first = waves.real * seen.waves.real + waves.imag * seen.waves.imag
    return np.asarray(_coefficients(grid, first) * seen.after)


def _coefficients(grid: Grid, intensity: npt.NDArray[np.float32]) -> Complex:
    spectrum = scipy.fft.rfft2(intensity)
    return np.asarray(
        spectrum[..., grid.rows[0], grid.rows[1]] / np.float32(grid.coarse**2), dtype=np.complex64
    )


def column_changes(grid: Grid, columns: Columns, i: int, *, library: Library, seen: View) -> Complex:
    """(4, F, R) derivatives of the images, the column taken as if alone in what it does to the wave: by atoms (half added
    at either end), by one atom moved from the bottom to the top, by y and by x [1/Å]; one atom on plane `low` for an
    empty site, (1, F, R)."""
    n, low, layers = int(columns.count[i]), int(columns.low[i]), columns.layers
    rows, cols, ramp = _patch(grid, columns.position[i])
    if n == 0:
        one = Columns(columns.position, columns.low, np.maximum(columns.count, 1), layers, columns.step)
        spectra = _standing(grid, one, library, (i, 1, low))[None]
    else:

        def at(count: int, lowest: int) -> Complex:
            return _standing(grid, columns, library, (i, count, lowest))

        top = 0.5 * (at(n + 1, low) - at(n - 1, low))
        bottom = 0.5 * (at(n + 1, low - layers) - at(n - 1, low + layers))
        slope = np.complex64(-2j * np.pi) * at(n, low)
        q = np.fft.fftfreq(grid.patch, grid.pixel).astype(np.float32)
        spectra = np.stack([0.5 * (top + bottom), top - bottom, slope * q[:, None], slope * q])
    waves = scipy.fft.ifft2((spectra * ramp)[:, None] * seen.patch, overwrite_x=True)
    here = seen.waves[:, rows[:, None], cols]
    field = np.zeros((*waves.shape[:2], grid.coarse, grid.coarse), dtype=np.float32)
    field[:, :, rows[:, None], cols] = 2 * (waves.real * here.real + waves.imag * here.imag)
    return np.asarray(_coefficients(grid, field) * seen.after)
