"""Receptive field of each part: the context that a window of a long recording must contain.

The reach of convolutions is exact. Attention and the mean over time have no limit. For attention,
the reach counts once, as the distance up to which its position bias separates frames
(`max_distance`, or the window of a causal model). The mean over time is taken over the window. The
reach of attention without such a bias is that of WavLM; for Whisper it is smaller, so that it fits
into windows of 30 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import torch

from focalcodec.contracts import Part
from focalcodec.encoders import Encoder
from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from focalcodec.wavlm import WavLM

_ATTENTION = 800  # frames, as WavLM's max_distance
_WHISPER_ATTENTION = 400


@dataclass(frozen=True)
class Context:
    """Frames that a frame depends on, besides itself: `left` before and `right` after it.

    A window must start at a multiple of `align` frames to be cut into the same groups.

    Example
    -------
    >>> Context(3, 2) + Context(4, 0, align=4)
    Context(left=7, right=2, align=4)
    """

    left: int
    right: int
    align: int = 1
    whole: bool = field(default=False, repr=False)  # on the whole recording

    def __add__(self, other: Context) -> Context:
        """Context of one part after another, in the same frames."""
        align = math.lcm(self.align, other.align)
        whole = self.whole or other.whole
        return Context(self.left + other.left, self.right + other.right, align, whole)


def part_context(part: Part | Encoder) -> Context:
    """Context of an encoder, compressor, decompressor or decoder, in frames of feats.

    That of a decompressor is in toks. It is `context`, (left, right), if a part has this attribute;
    a part of another class without it may depend on the whole recording.

    Example
    -------
    >>> part_context(LogMel(n_fft=1024, hop_length=320))
    Context(left=2, right=2, align=1)
    >>> part_context(FocalEncoder(8, 4, [8, 8], [2, 1], focal_window=7, focal_factor=2))
    Context(left=28, right=28, align=2)
    """
    reach = getattr(part, "context", None)
    if reach is None:
        return _context(part)
    if not isinstance(reach, Sequence) or [type(frames) for frames in reach] != [int, int]:
        raise UserError(f"{type(part).__name__}: context={reach!r}; give (left, right), in frames")
    factor = getattr(part, "factor", 1)
    divides = int(part.output_lengths(torch.tensor(factor))) == 1  # not of a decompressor
    return Context(reach[0], reach[1], factor if divides else 1)


@singledispatch
def _context(part: Part | Encoder) -> Context:
    return Context(0, 0, whole=True)


@_context.register
def _logmel(part: LogMel) -> Context:
    reach = math.ceil((part.n_fft - part.hop) / 2 / part.hop)
    return Context(reach, reach)


@_context.register
def _wavlm(part: WavLM) -> Context:
    config = part.config
    samples, stride = 1, 1
    for kernel, step in zip(config["kernel_sizes"], config["strides"], strict=True):
        samples += (kernel - 1) * stride
        stride *= step
    if config.get("causal", False):
        chunk = 1 + config["lookahead_size"]
        before = math.ceil((samples - 1) / part.hop) + config["conv_pos"] - 1
        return Context(before + config["window_size"], 0, align=chunk)
    beyond = math.ceil((samples - part.hop) / part.hop)
    kernel, reach = config["conv_pos"], config["max_distance"]
    return Context(kernel // 2 + reach, beyond + (kernel - 1) // 2 + reach)


@_context.register
def _mel_encoder(part: MelEncoder) -> Context:
    inner, chunk = part.spectrogram, part.frames_per_chunk
    beyond = inner.n_fft - inner.hop
    after = 0 if part.causal else beyond - beyond // 2
    window = Context(math.ceil((beyond - after) / part.hop), math.ceil(after / part.hop), chunk)
    # each block reaches to the start of a chunk
    mixes = Context(part.config["num_layers"] * (chunk - 1), 0)
    return window + mixes + _convnext_context({**part.config, "causal": part.causal})


@_context.register
def _speech_encoder(part: SpeechEncoder) -> Context:
    if part.max_seconds is not None:
        # windows of 400 samples every 160, then two convolutions of 3 spectra, the second in steps
        # of 2: 520 samples on both sides of a frame's first
        return Context(2 + _WHISPER_ATTENTION, 1 + _WHISPER_ATTENTION)
    config = part.model.config
    kernel, reach = config.num_conv_pos_embeddings, getattr(config, "max_bucket_distance", None)
    reach = _ATTENTION if reach is None else reach
    # 80 samples beyond a frame's own
    return Context(kernel // 2 + reach, 1 + (kernel - 1) // 2 + reach)


@_context.register
def _compressor(part: FocalEncoder) -> Context:
    total, rate = _attention(part.config), 1
    for factor, layer in zip(part.config["downscale_factors"], part.layers, strict=True):
        rate *= factor
        left, right = _block_reach(layer, part.config)
        total += Context(left * rate, right * rate, align=rate)
    return total


@_context.register
def _decompressor(part: FocalDecoder) -> Context:
    factors, rate, total = part.config["upscale_factors"], 1, _attention(part.config)
    windows = [part.config["window_size"]] * (len(factors) - 1)
    windows.append(part.config["last_window_size"] or part.config["window_size"])
    for factor, window, layer in zip(factors, windows, part.layers, strict=True):
        left, right = _block_reach(layer, part.config | {"window_size": window})
        total += Context(math.ceil(left / rate), math.ceil(right / rate))
        rate *= factor
    chunk = 1 + part.config["lookahead_size"] if part.config["causal"] else 1
    return total + Context(0, 0, align=chunk // math.gcd(chunk, rate))


@_context.register
def _vocos(part: Vocos) -> Context:
    reach = 0 if part.causal else (part.config["n_fft"] - part.hop) / 2
    window = math.ceil(reach / part.hop)
    return _convnext_context(part.config) + Context(window, window)


@_context.register
def _wavenext(part: WaveNeXt) -> Context:
    return _convnext_context(part.config)


def _attention(config: dict[str, Any]) -> Context:
    """Reach of the attention of Conformer blocks."""
    reach = _ATTENTION if config.get("block") == "conformer" else 0
    return Context(reach, reach)


def _block_reach(layer: Any, config: dict[str, Any]) -> tuple[int, int]:
    """Frames before and after that the block of a level depends on, without its attention."""
    if config.get("block", "focal") == "focal":
        return _focal_reach(config)
    return layer.focal_block.reach, layer.focal_block.reach


def _focal_reach(config: dict[str, Any]) -> tuple[int, int]:
    """Frames before and after that one focal block depends on, without its mean over time."""
    kernels = [
        config["focal_window"] + config["focal_factor"] * level
        for level in range(config["focal_level"])
    ]
    if config["causal"]:
        return sum(kernel - 1 for kernel in [*kernels, config["window_size"]]), 0
    return sum((kernel - 1) // 2 for kernel in kernels), sum(kernel // 2 for kernel in kernels)


def _convnext_context(config: dict[str, Any]) -> Context:
    convolutions = config["num_layers"] + 1
    before = config["kernel_size"] - 1 if config["causal"] else (config["kernel_size"] - 1) // 2
    after = config["kernel_size"] - 1 - before
    return Context(convolutions * before, convolutions * after)
