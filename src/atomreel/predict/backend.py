"""What runs the column U-Net: OpenVINO or torch, in bfloat16 where the processor has it, checked against torch float32.

Which one is used depends on what is installed, on the processor and on the weights, never on a clock: a run that was
killed goes on with the same bytes. The last layers, from the finest features to the logits, always stay in float32:
columns are the maxima of the logits, and logits that are rounded have plateaus, which are many maxima.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from atomreel.core.errors import AtomreelWarning, MissingExtraError, UnknownNameError
from atomreel.nets.columns import UNet, local_normalise

Network = Callable[[Tensor], Tensor]
BACKENDS = ("auto", "openvino", "torch", "reference")
TOLERANCE = 0.1  # of a logit: probabilities within 0.025
TEST_TILE = (96, 160)  # px, whole strides


@dataclass(frozen=True)
class Backend:
    """network: normalised (1, 1, Y, X) float32 → logits (1, 1, Y, X) float32, like the U-Net itself.

    engine: "openvino" or "torch". precision: "bf16" or "f32". difference: largest one from torch float32 among the
    logits of the test tile. notice: why a faster one was given up, in words, or empty.
    """

    network: Network
    engine: str
    precision: str
    difference: float = 0.0
    notice: str = ""

    def describe(self) -> dict[str, str | float]:
        """For run.toml and the log."""
        about: dict[str, str | float] = {"engine": self.engine, "precision": self.precision}
        about["largest_logit_difference"] = round(self.difference, 6)
        return about | ({"notice": self.notice} if self.notice else {})


def candidates(asked: str = "auto") -> list[tuple[str, str]]:
    """(engine, precision) in the order in which they are tried; the last is the reference, torch in float32.

    asked: one of BACKENDS; "torch" leaves OpenVINO out, "reference" bfloat16 too. Raises UnknownNameError,
    MissingExtraError where OpenVINO is asked for and not installed.
    """
    if asked not in BACKENDS:
        raise UnknownNameError("backend", asked, BACKENDS)
    installed = importlib.util.find_spec("openvino") is not None
    if asked == "openvino" and not installed:
        raise MissingExtraError("openvino", extra="fast", purpose="compute.backend = 'openvino'")
    precision = "bf16" if has_bf16() else "f32"
    found = [("openvino", precision)] if installed and asked in ("auto", "openvino") else []
    if asked != "reference" and precision == "bf16":
        found.append(("torch", precision))
    return [*found, ("torch", "f32")]


def identify_backend(asked: str = "auto") -> str:
    """What will be tried first, with its version: two runs that differ in it are not the same run."""
    engine, precision = candidates(asked)[0]
    return f"{engine} {version(engine)} {precision}"


def has_bf16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(probe()) and torch.backends.mkldnn.is_available()


def choose_backend(unet: UNet, asked: str = "auto") -> Backend:
    """The first of `candidates` that works here and keeps the logits of a test tile within TOLERANCE.

    Made once per process, network and number of threads; where one is given up, an AtomreelWarning says why.
    Raises UnknownNameError, MissingExtraError.
    """
    return _chosen(unet, asked, torch.get_num_threads())


@lru_cache(maxsize=8)
def _chosen(unet: UNet, asked: str, threads: int) -> Backend:
    notices: list[str] = []
    tile = _test_tile()
    with torch.no_grad():
        expected = unet(tile)
        for engine, precision in candidates(asked)[:-1]:
            try:
                network = _openvino(unet, precision, threads) if engine == "openvino" else _torch_bf16(unet)
                difference = float((network(tile) - expected).abs().max())
            except Exception as error:  # whatever another library does not support here
                notices.append(
                    f"{engine} {precision} does not run here ({str(error).strip() or repr(error)})"
                )
                continue
            if difference <= TOLERANCE:
                return Backend(network, engine, precision, difference, _told(notices))
            notices.append(
                f"{engine} {precision} differs from torch float32 by {difference:.3g} in a logit (at most {TOLERANCE} is let pass)"
            )
    return Backend(unet, "torch", "f32", 0.0, _told(notices))


def _told(notices: list[str]) -> str:
    text = "; ".join(notices)
    if text:
        text = f"a slower way of running the network is used: {text}"
        warnings.warn(text, AtomreelWarning, stacklevel=2)
    return text


def _test_tile() -> Tensor:
    """Noisy columns, normalised."""
    y, x = np.mgrid[: TEST_TILE[0], : TEST_TILE[1]]
    mean = 1 + 20 * np.exp(4 * (np.cos(2 * np.pi * y / 8) + np.cos(2 * np.pi * (x + 0.3 * y) / 9) - 2))
    counts = np.random.default_rng(0).poisson(mean).astype(np.float32)
    return local_normalise(torch.from_numpy(counts)[None, None])


def _torch_bf16(unet: UNet) -> Network:
    trunk = _folded(unet)

    def network(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            features = trunk.levels(x)[-1]
        return unet._head(features.float())

    return network


def _folded(unet: UNet) -> UNet:
    """A copy in which every norm is part of the convolution before it."""
    folded = copy.deepcopy(unet)
    for block in (*folded.down, *folded.merge):
        assert isinstance(block, nn.Sequential)
        for i, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                block[i - 1] = fuse_conv_bn_eval(block[i - 1], layer)  # type: ignore[type-var]
                block[i] = nn.Identity()
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _openvino(unet: UNet, precision: str, threads: int) -> Network:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same core
    }
    request = openvino.Core().compile_model(_graph(unet), "CPU", settings).create_infer_request()

    def network(x: Tensor) -> Tensor:
        features = request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0]
        return unet._head(torch.from_numpy(features).contiguous(memory_format=torch.channels_last))

    return network


def _graph(unet: UNet) -> Any:
    """`UNet.levels` written for OpenVINO, for images of any size: (1, 1, Y, X) → the finest features.

    Its own converter from torch takes ten times longer and reports its use to its makers.
    """
    import openvino
    from openvino import opset13 as op

    def constant(values: Tensor) -> Any:
        return op.constant(values.detach().numpy())

    def convolve(x: Any, layer: nn.Module) -> Any:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None
        if isinstance(layer, nn.ConvTranspose2d):
            y = op.convolution_backprop_data(x, constant(layer.weight), list(layer.stride))
        else:
            pad = [int(p) for p in layer.padding]
            y = op.convolution(x, constant(layer.weight), list(layer.stride), pad, pad, list(layer.dilation))
        return op.add(y, constant(layer.bias.reshape(1, -1, 1, 1)))

    def double(x: Any, block: nn.Module) -> Any:
        for layer in block.children():
            if isinstance(layer, nn.ReLU):
                x = op.relu(x)
            elif not isinstance(layer, nn.Identity):
                x = convolve(x, layer)
        return x

    net = _folded(unet)
    image = op.parameter([1, 1, -1, -1], np.float32)
    x, skips = op.space_to_depth(image, "depth_first", 2), []
    for level, block in enumerate(net.down):
        x = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0) if level else x
        x = double(x, block)
        skips.append(x)
    for up, merge, skip in zip(net.up, net.merge, skips[-2::-1], strict=True):
        x = double(op.concat([convolve(x, up), skip], 1), merge)
    return openvino.Model([op.result(x)], [image], "columns")
