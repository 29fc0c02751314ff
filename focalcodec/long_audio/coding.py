"""Audio of any length through a codec in bounded memory.

A recording goes through each part in overlapping windows. Of each window only the frames are kept
that had their whole context (see `receptive_field`), so the decoder's waveform is that of the whole
recording, without seams; the compressor's and decompressor's mean over time, and the encoder's
attention, see the window instead of the whole recording. docs/long_audio.md has measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from focalcodec.audio_stream import resample_blocks
from focalcodec.checks import check_num_samples, check_toks
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.long_audio.receptive_field import part_context
from focalcodec.long_audio.windows import WindowPlan, cut_windows, plan_windows

WINDOW_SECONDS = 120.0
_FADE_SECONDS = 0.5


def encode_blocks(
    codec: FocalCodec, blocks: Iterable[Tensor], window_seconds: float = WINDOW_SECONDS
) -> Iterator[Tensor]:
    """Tokens of a recording of any length.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    blocks : iterable of Tensor
        (T,) float each, at `codec.sample_rate_input`, such as an `AudioStream`.
    window_seconds : float
        Length of a window, its context included; at most what the encoder hears. A recording that
        fits is encoded whole.

    Yields
    ------
    Tensor
        toks (n,) int64, on the CPU. Joined, there are as many as `codec.encode` gives.

    Raises
    ------
    UserError
        No samples, NaN or infinite; a window that is shorter than the model's context.

    Example
    -------
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> parts = [LogMel(), FocalEncoder(80, 3, [8], [2]), BinarySphericalQuantizer(8)]
    >>> codec = FocalCodec(*parts, FocalDecoder(3, 80, [8], [2]), Vocos(80, 1, 8, 8)).eval()
    >>> toks = torch.cat([*encode_blocks(codec, [torch.randn(9000)] * 9, window_seconds=2.0)])
    >>> toks.shape
    torch.Size([127])
    >>> sum(len(sig) for sig in decode_blocks(codec, toks, num_samples=81000))
    81000
    """
    hop, factor = codec.encoder.hop, codec.compressor.factor
    plan = encode_plan(codec, window_seconds)
    empty = True
    for items, start, stop in cut_windows(blocks, plan, per_frame=hop):
        toks, _ = codec.encode(items[None])
        yield toks[0, start // factor : None if stop is None else stop // factor].cpu()
        empty = False
    if empty:
        raise UserError("blocks: no samples; give at least one")


def decode_blocks(
    codec: FocalCodec,
    toks: Tensor,
    num_samples: int | None = None,
    sample_rate: int | None = None,
    window_seconds: float = WINDOW_SECONDS,
    change_feats: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Waveform of any number of tokens; the counterpart of `FocalCodec.decode`.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    toks : Tensor
        (N,) integer.
    num_samples : int, optional
        Samples to give back at `sample_rate`; default as many as the tokens last.
    sample_rate : int, optional
        Rate of the output, Hz; default `codec.sample_rate_output`.
    window_seconds : float
        Length of a window, its context included.
    change_feats : callable, optional
        qfeats (n, D) -> feats (n, D), on the codec's device, frame by frame: what the decoder is
        to speak instead, such as those of another voice.

    Yields
    ------
    Tensor
        rec_sig (T,) float32, on the CPU.

    Raises
    ------
    UserError
        See `FocalCodec.decode`; a window that is shorter than the model's context.
    """
    rate = codec.sample_rate_output if sample_rate is None else sample_rate
    lengths = check_toks(toks[None])
    if num_samples is not None:
        check_num_samples(codec, num_samples, lengths, rate)
    feats = decompress_blocks(codec, toks, window_seconds)
    if change_feats is not None:
        feats = map(change_feats, feats)
    sig = vocode_blocks(codec, feats, window_seconds)
    ends = codec.decoder.output_lengths(codec.decompressor.output_lengths(lengths))
    resampled = resample_blocks(sig, codec.sample_rate_output, rate, int(ends))
    yield from resampled if num_samples is None else _exactly(resampled, num_samples)


def decompress_blocks(
    codec: FocalCodec, toks: Tensor, window_seconds: float = WINDOW_SECONDS
) -> Iterator[Tensor]:
    """Quantized features of any number of tokens.

    The decompressor's mean over time differs between windows, so their features differ a little:
    they are faded into each other over half a second.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    toks : Tensor
        (N,) integer.
    window_seconds : float
        Length of a window, its context included.

    Yields
    ------
    Tensor
        qfeats (n, D), on the codec's device.

    Raises
    ------
    UserError
        A window that is shorter than the model's context.
    """
    plan, fade = _decompress_plan(codec, window_seconds)
    fade = min(fade, plan.size - plan.left - plan.right) * codec.decompressor.factor
    tail: Tensor | None = None
    for items, start, stop in cut_windows([toks.to(codec.device)], plan):
        with torch.no_grad():
            qfeats = codec.toks_to_qfeats(items[None])[0]
        end = (len(items) if stop is None else stop) * codec.decompressor.factor
        kept = qfeats[start * codec.decompressor.factor : end]
        if tail is not None:
            weight = torch.linspace(0, 1, fade + 2).to(kept)[1:-1, None]
            kept = torch.cat([torch.lerp(tail, kept[:fade], weight), kept[fade:]])
        tail = qfeats[end : end + fade]
        yield kept


def vocode_blocks(
    codec: FocalCodec, feats: Iterable[Tensor], window_seconds: float = WINDOW_SECONDS
) -> Iterator[Tensor]:
    """Waveform of features of any length: the same as that of the whole, up to rounding.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    feats : iterable of Tensor
        feats or qfeats, (n, D) each, on the codec's device.
    window_seconds : float
        Length of a window, its context included.

    Yields
    ------
    Tensor
        rec_sig (n * hop,) float32, on the CPU.

    Raises
    ------
    UserError
        A window that is shorter than the model's context.
    """
    plan = plan_windows(part_context(codec.decoder), _frame_rate(codec), window_seconds)
    hop = codec.decoder.hop
    for items, start, stop in cut_windows(feats, plan):
        with torch.no_grad():
            sig = codec.feats_to_sig(items[None])[0]
        yield sig[start * hop : None if stop is None else stop * hop].float().cpu()


@torch.no_grad()
def feats_blocks(
    codec: FocalCodec, blocks: Iterable[Tensor], window_seconds: float = WINDOW_SECONDS
) -> Iterator[Tensor]:
    """Continuous features of a recording of any length: what the encoder gives.

    Parameters
    ----------
    codec, blocks, window_seconds
        As for `encode_blocks`.

    Yields
    ------
    Tensor
        feats (n, D), on the codec's device.

    Raises
    ------
    UserError
        A window that is shorter than the encoder's context.
    """
    hop = codec.encoder.hop
    # as in `FocalCodec.encode`: what lower precision does with it is the encoder's affair
    dtype = torch.promote_types(next(codec.parameters()).dtype, torch.float32)
    longest = encode_window(codec, window_seconds)
    plan = plan_windows(part_context(codec.encoder), _frame_rate(codec), longest)
    for items, start, stop in cut_windows(blocks, plan, per_frame=hop):
        yield codec.sig_to_feats(items[None].to(codec.device, dtype))[0, start:stop]


def encode_window(codec: FocalCodec, window_seconds: float) -> float:
    """Length of the encoder's windows: what was asked for, or the longest that it hears.

    Parameters
    ----------
    codec : FocalCodec
        Its encoder may have `max_seconds`.
    window_seconds : float
        Longest window.

    Returns
    -------
    float
        In seconds.
    """
    limit = codec.encoder.max_seconds
    return window_seconds if limit is None else min(window_seconds, limit)


def check_window(codec: FocalCodec, window_seconds: float) -> None:
    """Refuse a window that is not longer than the context that the model needs.

    Parameters
    ----------
    codec : FocalCodec
        Of parts whose receptive field is known.
    window_seconds : float
        Length of a window.

    Raises
    ------
    UserError
        It is too short for one of the parts.
    """
    encode_plan(codec, window_seconds)
    _decompress_plan(codec, window_seconds)
    plan_windows(part_context(codec.decoder), _frame_rate(codec), window_seconds)


def _frame_rate(codec: FocalCodec) -> float:
    return codec.encoder.sample_rate / codec.encoder.hop


def encode_plan(codec: FocalCodec, window_seconds: float) -> WindowPlan:
    """Windows of `encode_blocks`, in feats frames.

    Parameters
    ----------
    codec, window_seconds
        As for `encode_blocks`.

    Returns
    -------
    WindowPlan
        See `plan_windows`.

    Raises
    ------
    UserError
        The window is not longer than the context that encoder and compressor need.
    """
    context = part_context(codec.encoder) + part_context(codec.compressor)
    return plan_windows(context, _frame_rate(codec), encode_window(codec, window_seconds))


def _decompress_plan(codec: FocalCodec, window_seconds: float) -> tuple[WindowPlan, int]:
    """Windows, and how many tokens two of them are faded into each other."""
    context = part_context(codec.decompressor)
    fade = math.ceil(_FADE_SECONDS * codec.token_rate / context.align) * context.align
    context = replace(context, right=context.right + fade)
    return plan_windows(context, codec.token_rate, window_seconds), fade


def _exactly(blocks: Iterable[Tensor], num_samples: int) -> Iterator[Tensor]:
    """Cut a signal to its length, or fill it up with silence."""
    for block in blocks:
        yield block[:num_samples]
        num_samples -= min(num_samples, len(block))
    if num_samples:
        yield torch.zeros(num_samples)
