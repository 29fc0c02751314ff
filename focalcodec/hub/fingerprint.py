"""One name for a model's configuration and weights: what its tokens, or its feats, mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from focalcodec.codec import FocalCodec


def weights_sha256(codec: FocalCodec) -> str:
    """SHA-256 of a codec's configuration and of all its tensors.

    The tensors are taken in the layout of the package, so a published checkpoint and its copy by
    `save_pretrained` have the same one. Take it before a change of precision: that changes
    weights.

    Parameters
    ----------
    codec : FocalCodec
        On any device.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> from focalcodec import FocalCodec
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> parts = [LogMel(), FocalEncoder(80, 1, [4], [1]), BinarySphericalQuantizer(2)]
    >>> codec = FocalCodec(*parts, FocalDecoder(1, 80, [4], [1]), Vocos(80, 1, 4, 4))
    >>> before = weights_sha256(codec)
    >>> _ = codec.decompressor.in_proj.bias.data.add_(1.0)
    >>> len(before), before == weights_sha256(codec)
    (64, False)
    """
    return _sha256(codec.config, codec.state_dict())


def encoder_sha256(encoder: Any, dtype: torch.dtype | None = None) -> str:
    """SHA-256 of an encoder's class, configuration and tensors: what its feats mean.

    Parameters
    ----------
    encoder : nn.Module
        With `config`, on any device.
    dtype : torch.dtype, optional
        Number format that its floating-point tensors are cast to first, so that an encoder and
        its copy in a lower precision can be told to be the same; default none.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> from focalcodec.wavlm import WavLM
    >>> encoder = WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2)
    >>> before, as_half = encoder_sha256(encoder), encoder_sha256(encoder, torch.float16)
    >>> encoder_sha256(encoder.half()) == before, encoder_sha256(encoder.half()) == as_half
    (False, True)
    """
    head = {"name": type(encoder).__name__, "config": encoder.config}
    return _sha256(head, encoder.state_dict(), dtype)


def _sha256(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # bfloat16 has no counterpart in numpy: any dtype is read as bytes
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
