"""A methods paragraph that can be pasted into a paper, with the works that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomreel.report.results import Results

CITATIONS: dict[str, str] = {
    "ziatdinov2017": "M. Ziatdinov et al., Deep learning of atomically resolved scanning transmission electron microscopy images: chemical identification and tracking local transformations, ACS Nano 11, 12742–12752 (2017). https://doi.org/10.1021/acsnano.7b07504",
    "madsen2018": "J. Madsen et al., A deep learning approach to identify local structures in atomic-resolution transmission electron microscopy images, Advanced Theory and Simulations 1, 1800037 (2018). https://doi.org/10.1002/adts.201800037",
    "vasudevan2018": "R. K. Vasudevan et al., Mapping mesoscopic phase evolution during E-beam induced transformations via deep learning of atomically resolved images, npj Computational Materials 4, 30 (2018). https://doi.org/10.1038/s41524-018-0086-7",
    "gal2016": "Y. Gal and Z. Ghahramani, Dropout as a Bayesian approximation: representing model uncertainty in deep learning, Proceedings of Machine Learning Research 48 (ICML), 1050–1059 (2016).",
    "maksov2019": "A. Maksov et al., Deep learning analysis of defect and phase evolution during electron beam-induced transformations in WS2, npj Computational Materials 5, 12 (2019). https://doi.org/10.1038/s41524-019-0152-9",
    "jaqaman2008": "K. Jaqaman et al., Robust single-particle tracking in live-cell time-lapse sequences, Nature Methods 5, 695–702 (2008). https://doi.org/10.1038/nmeth.1237",
    "harris2020": "C. R. Harris et al., Array programming with NumPy, Nature 585, 357–362 (2020). https://doi.org/10.1038/s41586-020-2649-2",
    "virtanen2020": "P. Virtanen et al., SciPy 1.0: fundamental algorithms for scientific computing in Python, Nature Methods 17, 261–272 (2020). https://doi.org/10.1038/s41592-019-0686-2",
    "vanderwalt2014": "S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2, e453 (2014). https://doi.org/10.7717/peerj.453",
    "paszke2019": "A. Paszke et al., PyTorch: an imperative style, high-performance deep learning library, Advances in Neural Information Processing Systems 32 (2019).",
    "hunter2007": "J. D. Hunter, Matplotlib: a 2D graphics environment, Computing in Science & Engineering 9, 90–95 (2007). https://doi.org/10.1109/MCSE.2007.55",
    "mckinney2010": "W. McKinney, Data structures for statistical computing in Python, Proceedings of the 9th Python in Science Conference, 56–61 (2010). https://doi.org/10.25080/Majora-92bf1922-00a",
}
LIBRARIES = ("harris2020", "virtanen2020", "mckinney2010", "vanderwalt2014", "hunter2007")


@dataclass(frozen=True)
class Methods:
    """paragraph: with numbers in brackets; references: in the order of those numbers."""

    paragraph: str
    references: tuple[str, ...]

    @property
    def text(self) -> str:
        """Both together, as plain text to paste."""
        listed = "\n".join(f"[{i}] {text}" for i, text in enumerate(self.references, 1))
        return f"{self.paragraph}\n\n{listed}"


def methods(results: Results) -> Methods:
    """Only what this Run did is told, and only works that it rests on are cited."""
    order: list[str] = []
    told = [text for part in _PARTS if (text := part(results, _Cite(order)))]
    return Methods(" ".join(told), tuple(CITATIONS[key] for key in order))


@dataclass(frozen=True)
class _Cite:
    """Numbers works in the order in which they are first cited."""

    order: list[str]

    def __call__(self, *keys: str) -> str:
        for key in keys:
            if key not in self.order:
                self.order.append(key)
        return "[" + ", ".join(str(self.order.index(key) + 1) for key in keys) + "]"


def _reading(results: Results, cite: _Cite) -> str:
    about = results.input
    what = "One image" if results.n_frames == 1 else f"A movie of {results.n_frames} frames"
    y, x = results.shape
    kind = {"stem": "STEM", "hrtem": "HRTEM", "stm": "STM"}.get(str(about.get("modality")), "")
    text = f"{what} of {y} × {x} pixels{f' ({kind})' if kind else ''} was analysed with atomreel {_version(results)}."
    facts = []
    if results.pixel is not None:
        source = results.source("pixel")
        facts.append(f"pixel size {results.pixel[1]:.4g} Å" + (f" ({source})" if source else ""))
    for key, words in (
        ("voltage_kV", "{:g} kV"),
        ("exposure_s", "{:g} s per frame"),
        ("dose", "{:g} e⁻/Å² per frame"),
    ):
        if about.get(key) is not None:
            facts.append(words.format(float(about[key])))
    text += f" Recorded conditions: {', '.join(facts)}." if facts else ""
    calibration = results.about.get("calibration", {})
    if calibration.get("material"):
        text += f" Pixel size and shear were calibrated on the known lattice of {calibration['material']}."
    return text


def _columns(results: Results, cite: _Cite) -> str:
    if not results.has("atoms.parquet"):
        return ""
    refined = results.about.get("recipe", {}).get("columns", {}).get("refine", True)
    text = (
        "Atomic columns were found by a fully convolutional network trained only on simulated images, "
        f"following refs. {cite('ziatdinov2017', 'madsen2018')}{_model(results, 'columns')}"
    )
    if refined:
        text += (
            ", and their positions were refined by maximum-likelihood fits of overlapping peaks to the image, "
            "which also give the standard error of each position"
        )
    return text + f". Networks were evaluated with PyTorch {cite('paszke2019')}."


def _symmetry(results: Results, cite: _Cite) -> str:
    if not results.has("symmetry.zarr"):
        return ""
    field = results.field("symmetry")
    size = "" if field is None or field.window is None else f" of {field.window:g} px"
    text = (
        f"The two-dimensional Bravais class of sliding windows{size} was determined by a network trained on "
        f"simulated lattices, after ref. {cite('vasudevan2018')}{_model(results, 'bravais')}"
    )
    if results.about.get("recipe", {}).get("symmetry", {}).get("passes", 1):
        text += (
            f"; its uncertainty is the standard deviation over Monte-Carlo dropout passes {cite('gal2016')}"
        )
    return text + "."


def _lattice(results: Results, cite: _Cite) -> str:
    if not results.has("lattice.parquet"):
        return ""
    strain = (
        " Strain was taken from the deviation of column positions from the mean lattice of the frame."
        if results.has("strain.zarr")
        else ""
    )
    return (
        "Lattice vectors were fitted to the column positions by least squares weighted with their errors."
        + strain
    )


def _defects(results: Results, cite: _Cite) -> str:
    if not results.has("defects.parquet"):
        return ""
    material = results.about.get("recipe", {}).get("defects", {}).get("material")
    named = f", named after the defects of {material}" if material else ""
    text = (
        f"Point defects are deviations from the fitted lattice in occupation, intensity or position{named}"
        f" (compare ref. {cite('maksov2019')})."
    )
    if results.has("tracks.parquet"):
        text += (
            " They were linked between frames by globally optimal one-to-one assignment with gap closing "
            f"{cite('jaqaman2008')}."
        )
    return text


def _rates(results: Results, cite: _Cite) -> str:
    ways = sorted(
        {
            str(rate["method"])
            for rate in results.json("rates").values()
            if isinstance(rate, Mapping) and rate.get("method")
        }
    )
    return f"Rates and their intervals: {'; '.join(ways)}." if ways else ""


def _tools(results: Results, cite: _Cite) -> str:
    names = "NumPy, SciPy, pandas, scikit-image and Matplotlib"
    return f"Calculations and figures were made with {names} {cite(*LIBRARIES)}."


_PARTS = (_reading, _columns, _symmetry, _lattice, _defects, _rates, _tools)


def _version(results: Results) -> str:
    return str(results.about.get("versions", {}).get("atomreel", "(version unknown)"))


def _model(results: Results, name: str) -> str:
    stage = {"columns": "columns", "bravais": "symmetry"}[name]
    name = str(results.about.get("recipe", {}).get(stage, {}).get("model", name))
    model: Any = results.about.get("models", {}).get(name)
    if not isinstance(model, Mapping) or not model.get("sha256"):
        return ""
    return f" (model {model.get('name') or Path(name).name}, SHA-256 {str(model['sha256'])[:12]})"
