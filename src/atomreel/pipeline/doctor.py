"""What a bug report needs: versions, processor, models, optional libraries."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("numpy", "scipy", "numba", "pandas", "zarr", "rosettasciio", "tifffile", "torch", "scikit-image")
OPTIONAL = {"abtem": "simulate", "lightning-fabric": "train", "openvino": "fast", "playwright": "test"}


def versions() -> dict[str, str]:
    """Of atomreel, Python and the libraries that decide results."""
    found = {"atomreel": version("atomreel"), "python": platform.python_version()}
    return found | {name: version(name) for name in LIBRARIES}


def diagnose() -> dict[str, str]:
    """Everything `atomreel doctor` prints."""
    import torch

    from atomreel.predict.backend import has_bf16, identify_backend
    from atomreel.predict.model import model_names

    rows = versions()
    rows["platform"] = platform.platform()
    rows["cores"] = f"{os.cpu_count()} ({torch.get_num_threads()} used by torch)"
    rows["bfloat16"] = "native" if has_bf16() else "not native: float32 is used"
    rows["backend"] = identify_backend()
    rows["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (CPU)"
    rows["models"] = ", ".join(model_names())
    for name, extra in OPTIONAL.items():
        try:
            rows[name] = version(name)
        except PackageNotFoundError:
            rows[name] = f"not installed: pip install 'atomreel[{extra}]'"
    return rows
