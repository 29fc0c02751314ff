"""Number formats of a codec."""

from __future__ import annotations

import torch
from torch import nn

from focalcodec.choices import PRECISIONS
from focalcodec.codec import FocalCodec
from focalcodec.encoders.logmel import LogMel
from focalcodec.encoders.speech_encoder import LayerMix
from focalcodec.errors import UserError
from focalcodec.vocos import ISTFTHead
from focalcodec.wavenext import LinearHead

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A spectrum and an output waveform need more than 8 bits of mantissa. So do means of layers,
# because some channels are a hundred times as large as their variation. Each of these takes at most
# a few percent of the time.
_ALWAYS_FLOAT32 = (LogMel, LayerMix, ISTFTHead, LinearHead)


def set_precision(codec: FocalCodec, precision: str) -> FocalCodec:
    """Change the number format of a codec, in place, on the device where it will run; return it.

    Weights are rounded once, and all activations have the same format, the residual stream
    included. The log-mel spectrogram and the last step of the decoder stay in float32: toks are
    int64 and waveforms float32 as before. Call `weights_sha256` and save before, not after: rounded
    weights can't be restored. `precision` is one of `PRECISIONS`: bf16 is fast on GPUs and on CPUs
    with bfloat16 instructions, and slow on others; fp16 on a CPU is a `UserError`.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision: {precision!r}; give one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and codec.device.type == "cpu":
        raise UserError("precision: fp16 on a CPU; give bf16 or fp32, or a GPU as the device")
    _cast(codec, _DTYPES[precision])
    return codec


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    if isinstance(module, _ALWAYS_FLOAT32):
        return
    for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    if isinstance(module, nn.Conv1d) and dtype != torch.float32:
        # stored in the order of `convolve`: oneDNN would copy the weights at every call
        module.weight.data = module.weight.data.transpose(1, 2).contiguous().transpose(1, 2)
    for child in module.children():
        _cast(child, dtype)
