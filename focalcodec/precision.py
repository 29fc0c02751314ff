"""The number format and the device that a codec runs in and on."""

from __future__ import annotations

import os
import time
import warnings
from typing import TypeVar

import torch
from torch import nn

from focalcodec.blocks.levels import DownScale
from focalcodec.choices import PRECISIONS, exact_precision
from focalcodec.codec_base import CodecBase
from focalcodec.errors import UserError, one_line
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.packed import PACKED, Packable, PackedLinear

_SMALLEST = 2**15  # weights of a linear map that is packed
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Codec = TypeVar("Codec", bound=CodecBase)


def set_precision(codec: Codec, precision: str | torch.dtype) -> Codec:
    """Change the number format of a codec, in place, on the device where it will run; return it.

    Weights are rounded once, and all activations have the same format, the residual stream
    included. The log-mel spectrogram and the last step of the decoder stay in float32: toks are
    int64 and waveforms float32 as before. Call `weights_sha256` and save before, not after: rounded
    weights can't be restored.

    `precision` is one of `PRECISIONS`, or a data type such as `torch.bfloat16`: auto is
    `exact_precision`; bf16 is fast on GPUs and on CPUs with bfloat16 instructions, and where it is
    slow there is a warning with the measured ratio; fp16 on a CPU is a `UserError`; int8 is that of
    `pack_weights`, on a CPU.
    """
    dtypes = {str(dtype).removeprefix("torch."): name for name, dtype in _DTYPES.items()}
    precision = dtypes.get(str(precision).removeprefix("torch."), str(precision))
    if precision not in PRECISIONS:
        raise UserError(f"precision: {precision!r}; give one of {', '.join(PRECISIONS)}")
    precision = exact_precision(precision)
    if precision == "fp16" and codec.device.type == "cpu":
        raise UserError("precision: fp16 on a CPU; give bf16 or fp32, or a GPU as the device")
    if precision == "int8":
        return pack_weights(codec, "int8")
    _refuse_packed(codec)
    warning = slow_precision(precision, codec.device)
    if warning:
        warnings.warn(warning, stacklevel=2)
    dtype = _DTYPES[precision]
    codec.to(dtype)
    for module in codec.modules():
        if isinstance(module, nn.Conv1d) and module.weight.dtype != torch.float32:
            # stored in the order of `convolve`: oneDNN would copy the weights at every call
            module.weight.data = module.weight.data.transpose(1, 2).contiguous().transpose(1, 2)
    return codec


def pack_weights(codec: Codec, precision: str = "float32") -> Codec:
    """Store the weights of linear maps and convolutions in the CPU's fastest layout, in place.

    Then a step of a stream reads them in a third of the time. `precision` is "float32", which
    changes results by rounding only, "bfloat16" or "int8", which change some tokens; norms,
    activations, depth-wise convolutions and the map to samples stay in float32. The codec can't be
    trained, saved or copied any more. Raises a `UserError` for another precision, and where the
    weights are not in float32 on a CPU with oneDNN.
    """
    if precision not in PACKED:
        raise UserError(f"precision: {precision!r}; give one of {', '.join(PACKED)}")
    _refuse_packed(codec)
    weights = {(weight.device.type, weight.dtype) for weight in codec.parameters()}
    if weights - {("cpu", torch.float32)} or not torch.backends.mkldnn.is_available():
        raise UserError("pack_weights: needs float32 weights on a CPU with oneDNN; leave it out")
    if precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UserError("precision: bfloat16 needs AVX-512; give float32 or int8 on this processor")
    codec.packed_sha256 = weights_sha256(codec)
    for parent in list(codec.modules()):
        # samples need more than 8 bits; a map of a compressor in 8 bits changes 1 % of the bits
        exact = isinstance(parent, AtLeastFloat32)
        exact = exact or (precision == "int8" and isinstance(parent, DownScale))
        here = "float32" if exact else precision
        if isinstance(parent, Packable):
            parent.pack(here)
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.in_features * child.out_features >= _SMALLEST:
                setattr(parent, name, PackedLinear(child.weight, child.bias, here))
    return codec


def _refuse_packed(codec: CodecBase) -> None:
    if codec.packed_sha256 is not None:
        raise UserError("precision: the weights are packed already; load the codec again")


def slow_precision(precision: str, device: torch.device) -> str:
    """One line for the user if a precision is slower on this device than float32, else empty.

    Only a CPU without bfloat16 instructions is slower. Its matrix products take most of the time,
    and one of them is measured in both formats; this takes milliseconds.
    """
    if precision != "bf16" or device.type != "cpu":
        return ""
    ratio = _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)
    if ratio < 1.2:
        return ""
    return (
        f"precision: bf16 takes {ratio:.1f} times as long as fp32 on this processor, which has no"
        " instructions for it; give fp32"
    )


def _product_seconds(dtype: torch.dtype) -> float:
    """Shortest time of a matrix product of a layer's size, s."""
    x, weight = torch.ones(64, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        nn.functional.linear(x, weight)
        times.append(time.perf_counter() - start)
    return min(times)


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of a name such as cpu or cuda:1; `auto` is a GPU if there is one.

    Raises
    ------
    UserError
        The machine does not have this device.

    Example
    -------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of the meta device there is no value
    # of any kind: backends that are not installed raise ImportError or AttributeError
    except Exception as error:
        reason = one_line(error).split(". ")[0]
        raise UserError(f"device {str(name)!r}: not available ({reason}); give cpu") from error
    return device


def set_process_device() -> None:
    """Select a different GPU for each process that torchrun starts on a machine."""
    if "LOCAL_RANK" in os.environ and torch.accelerator.is_available():
        count = torch.accelerator.device_count()
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]) % count)
