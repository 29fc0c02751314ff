"""Audio of any length through a codec in bounded memory.

Each part processes a recording in overlapping windows. A frame of a window is kept only if its
whole context is in the window (see `long_audio`), so the decoder's waveform equals that of
the whole recording, without seams. The compressor's and decompressor's mean over time, and the
encoder's attention, use the window instead of the whole recording. docs/long_audio.md has
measurements.

In all functions here `codec` is in eval mode, and `window_seconds` is the length of a window with
its context; a window that is shorter than the model's context raises a `UserError`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from focalcodec.audio_stream import resample_blocks
from focalcodec.bsq import check_toks
from focalcodec.choices import WINDOW_SECONDS
from focalcodec.errors import UserError
from focalcodec.long_audio import Context, part_context

if TYPE_CHECKING:
    from focalcodec.audio_codec import AudioCodec

_FADE_SECONDS = 0.5


def encode_blocks(
    codec: AudioCodec,
    blocks: Iterable[Tensor],
    sample_rate: int,
    window_seconds: float = WINDOW_SECONDS,
    merge: float | None = None,
) -> Iterator[Tensor]:
    """Tokens of a recording of any length: blocks toks (n,) int64, on the CPU.

    `blocks` are (T,) float32 each, at `sample_rate`, Hz, such as those of an `AudioStream`; no
    samples, NaN or infinite ones raise a `UserError`. There are as many tokens as `codec.encode`
    gives, and a recording that fits one window is encoded whole. A window is at most the encoder's
    longest input. `merge` is that of `codec.encode`.

    Example
    -------
    >>> from focalcodec import FocalCodec
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> parts = [LogMel(), FocalEncoder(80, 3, [8], [2]), BinarySphericalQuantizer(8)]
    >>> codec = FocalCodec(*parts, FocalDecoder(3, 80, [8], [2]), Vocos(80, 1, 8, 8)).eval()
    >>> blocks = [torch.randn(9000)] * 9
    >>> toks = torch.cat([*encode_blocks(codec, blocks, 16000, window_seconds=2.0)])
    >>> toks.shape
    torch.Size([127])
    >>> sum(len(sig) for sig in decode_blocks(codec, toks, num_samples=81000))
    81000
    """
    hop, factor = codec.encoder.hop, codec.compressor.factor
    plan = encode_plan(codec, window_seconds)
    empty, rate = True, codec.sample_rate_input
    resampled = resample_blocks(blocks, sample_rate, rate)
    for items, start, stop in cut_windows(resampled, plan, per_frame=hop):
        toks, _ = codec.encode(items[None], rate, merge=merge)  # (1, N')
        yield toks[0, start // factor : None if stop is None else stop // factor].cpu()
        empty = False
    if empty:
        raise UserError("blocks: no samples; give at least one")


def decode_blocks(
    codec: AudioCodec,
    toks: Tensor,
    num_samples: int | None = None,
    sample_rate: int | None = None,
    window_seconds: float = WINDOW_SECONDS,
    change_feats: Callable[[Tensor], Tensor] | None = None,
    *,
    voice: Tensor | None = None,
) -> Iterator[Tensor]:
    """Waveform of toks (N,) integer, of any number: blocks rec_sig (T,) float32, on the CPU.

    The counterpart of `FocalCodec.decode`, with its errors: `num_samples` is the length of the
    output at `sample_rate`, Hz; defaults are the duration of the tokens and
    `codec.sample_rate_output`. `change_feats` maps qfeats (n, D) to feats (n, D), on the codec's
    device, frame by frame: the input of the decoder, such as feats of another voice. `voice`
    (voice_tokens,) is the vector of the utterance, of a codec that has one.
    """
    rate = codec.sample_rate_output if sample_rate is None else sample_rate
    lengths = check_toks(toks[None])
    if num_samples is not None:
        codec.check_num_samples(num_samples, lengths, rate)
    vector = codec.voice_values(voice, 1)
    feats = decompress_blocks(codec, toks, window_seconds, vector)
    if change_feats is not None:
        feats = map(change_feats, feats)
    sig = vocode_blocks(codec, feats, window_seconds, vector)
    resampled = resample_blocks(sig, codec.sample_rate_output, rate)
    yield from resampled if num_samples is None else _exactly(resampled, num_samples)


def decompress_blocks(
    codec: AudioCodec,
    toks: Tensor,
    window_seconds: float = WINDOW_SECONDS,
    vector: Tensor | None = None,
) -> Iterator[Tensor]:
    """Quantized features of toks (N,) integer: blocks qfeats (n, D), on the codec's device.

    The decompressor's mean over time differs between windows, so their features differ a little:
    neighbouring windows are cross-faded over half a second. `vector` (1, V) is that of the
    utterance.
    """
    plan, fade = decompress_plan(codec, window_seconds)
    fade = min(fade, plan.size - plan.left - plan.right) * codec.decompressor.factor
    tail: Tensor | None = None
    for items, start, stop in cut_windows([toks.to(codec.device)], plan):
        with torch.no_grad():
            codes = codec.toks_to_codes(items[None])  # (1, N', L)
            qfeats = codec._steps(codes, {"decompressor": ()}, None, voice=vector)[0][0]  # (n, D)
        end = (len(items) if stop is None else stop) * codec.decompressor.factor
        kept = qfeats[start * codec.decompressor.factor : end]
        if tail is not None:
            weight = torch.linspace(0, 1, fade + 2).to(kept)[1:-1, None]  # (fade, 1)
            kept = torch.cat([torch.lerp(tail, kept[:fade], weight), kept[fade:]])
        tail = qfeats[end : end + fade]
        yield kept


def vocode_blocks(
    codec: AudioCodec,
    feats: Iterable[Tensor],
    window_seconds: float = WINDOW_SECONDS,
    vector: Tensor | None = None,
) -> Iterator[Tensor]:
    """Waveform of features of any length: that of the whole recording, up to rounding.

    Takes blocks of feats or qfeats (n, D), on the codec's device; yields rec_sig (n * hop,)
    float32, on the CPU. `vector` (1, V) is that of the utterance.
    """
    plan = plan_windows(part_context(codec.decoder), _frame_rate(codec), window_seconds)
    hop = codec.decoder.hop
    for items, start, stop in cut_windows(feats, plan):
        with torch.no_grad():
            # (n * hop,)
            sig = codec._steps(items[None], {"decoder": ()}, None, voice=vector)[0][0]
        yield sig[start * hop : None if stop is None else stop * hop].float().cpu()


@torch.no_grad()
def feats_blocks(
    codec: AudioCodec,
    blocks: Iterable[Tensor],
    sample_rate: int,
    window_seconds: float = WINDOW_SECONDS,
) -> Iterator[Tensor]:
    """Continuous features of a recording of any length: the encoder's output.

    Takes blocks of samples and their rate as `encode_blocks` does; yields feats (n, D), on the
    codec's device.
    """
    hop = codec.encoder.hop
    # as in `FocalCodec.encode`: the encoder decides which of its steps need float32
    dtype = torch.promote_types(next(codec.parameters()).dtype, torch.float32)
    longest = encode_window(codec, window_seconds)
    plan = plan_windows(part_context(codec.encoder), _frame_rate(codec), longest)
    resampled = resample_blocks(blocks, sample_rate, codec.sample_rate_input)
    for items, start, stop in cut_windows(resampled, plan, per_frame=hop):
        yield codec.sig_to_feats(items[None].to(codec.device, dtype))[0, start:stop]


def encode_window(codec: AudioCodec, window_seconds: float) -> float:
    """Length of the encoder's windows, s: `window_seconds`, or its longest input if shorter."""
    limit = codec.encoder.max_seconds
    return window_seconds if limit is None else min(window_seconds, limit)


def check_window(codec: AudioCodec, window_seconds: float) -> None:
    """Raise a `UserError` if a window is not longer than the context of each part."""
    encode_plan(codec, window_seconds)
    decompress_plan(codec, window_seconds)
    plan_windows(part_context(codec.decoder), _frame_rate(codec), window_seconds)


def _frame_rate(codec: AudioCodec) -> float:
    return codec.encoder.sample_rate / codec.encoder.hop


def encode_plan(codec: AudioCodec, window_seconds: float) -> WindowPlan:
    """Windows of `encode_blocks`, in feats frames."""
    context = part_context(codec.encoder) + part_context(codec.compressor)
    return plan_windows(context, _frame_rate(codec), encode_window(codec, window_seconds))


def decompress_plan(codec: AudioCodec, window_seconds: float) -> tuple[WindowPlan, int]:
    """Windows, and the number of tokens over which two of them are cross-faded."""
    context = part_context(codec.decompressor)
    fade = math.ceil(_FADE_SECONDS * codec.frame_rate / context.align) * context.align
    context = replace(context, right=context.right + fade)
    return plan_windows(context, codec.frame_rate, window_seconds), fade


def _exactly(blocks: Iterable[Tensor], num_samples: int) -> Iterator[Tensor]:
    """Cut a signal to its length, or fill it with silence."""
    for block in blocks:
        yield block[:num_samples]
        num_samples -= min(num_samples, len(block))
    if num_samples:
        yield torch.zeros(num_samples)


# -- windows over a stream -------------------------------------------------------------------------


class WindowPlan(NamedTuple):
    """Frames of a window; the first `left` and the last `right` are context only."""

    size: int
    left: int
    right: int


class Window(NamedTuple):
    """One window of a stream: `items` (n, ...), `per_frame` of them for each frame.

    Of the frames computed from them, those from `start` to `stop` are kept (None: to the end).
    """

    items: Tensor
    start: int
    stop: int | None


def plan_windows(context: Context, frame_rate: float, window_seconds: float) -> WindowPlan:
    """Lay out windows in which each kept frame has its whole context, at `frame_rate` Hz.

    Sizes are in frames, multiples of `context.align`. Raises a `UserError` if the window is not
    longer than the context on its two sides.
    """
    if context.whole:  # one window
        return WindowPlan(sys.maxsize, 0, 0)
    align = context.align
    left, right = (math.ceil(n / align) * align for n in (context.left, context.right))
    finite = 0 < window_seconds < float("inf")
    size = int(window_seconds * frame_rate) // align * align if finite else 0
    if size < left + right + align:
        raise UserError(
            f"window_seconds={window_seconds:g}: this model needs"
            f" {(left + right) / frame_rate:.1f} s of context; give"
            f" {math.ceil((left + right + align) / frame_rate)} or more"
        )
    return WindowPlan(size, left, right)


def cut_windows(blocks: Iterable[Tensor], plan: WindowPlan, per_frame: int = 1) -> Iterator[Window]:
    """Cut a stream of blocks (n, ...) into windows; a stream that fits one window is one window.

    `plan` is in frames, `per_frame` the number of items for each. The kept frames of all windows
    follow each other without a gap.

    Example
    -------
    >>> for window in cut_windows([torch.arange(10)], WindowPlan(size=6, left=2, right=1)):
    ...     print(window.items.tolist(), window.items[window.start : window.stop].tolist())
    [0, 1, 2, 3, 4, 5] [0, 1, 2, 3, 4]
    [3, 4, 5, 6, 7, 8] [5, 6, 7]
    [6, 7, 8, 9] [8, 9]
    """
    size, stop = plan.size * per_frame, plan.size - plan.right
    step = (stop - plan.left) * per_frame
    start, waiting, count = 0, [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        # one item more than a window: the last window never has context only
        while count > size:
            items = torch.cat(waiting)
            yield Window(items[:size], start, stop)
            waiting, count, start = [items[step:].clone()], count - step, plan.left
    if count:
        yield Window(torch.cat(waiting), start, None)
