"""A batch's features: from the cache, else from the frozen encoder and then into the cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.data.batch import AudioBatch
from focalcodec.data.clip_audio import read_clip
from focalcodec.data.feature_cache import FeatureCache, pad_feats


@torch.no_grad()
def batch_feats(
    encoder: nn.Module, batch: AudioBatch, cache: FeatureCache | None = None
) -> tuple[Tensor, Tensor]:
    """Features of a batch, of all its clips by the same way.

    A batch of which one clip is not cached is encoded whole, so that a run killed while the
    cache was being filled gets, when it is resumed, bit by bit what it had.

    Parameters
    ----------
    encoder : nn.Module
        Frozen, in eval mode: (sig, lengths) -> (feats, lengths).
    batch : AudioBatch
        On the encoder's device; or the `mixture` of one.
    cache : FeatureCache, optional
        Where new features are kept.

    Returns
    -------
    feats : Tensor
        (B, N, D), zero beyond a clip's length.
    lengths : Tensor
        (B,) int64, frames of each clip.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> names = [["a"]] * 4
    >>> batch = AudioBatch(*names, torch.zeros(1, 3200), torch.tensor([3200]), [None])
    >>> batch_feats(LogMel(), batch)[0].shape[0]
    1
    """
    cached = [x for x in batch.feats if x is not None]
    if len(cached) == len(batch):
        return pad_feats(cached)
    sig, lengths = batch.sig, batch.lengths
    if bool((lengths == 0).any()):
        rate: int = encoder.sample_rate  # type: ignore[assignment]
        clips = zip(batch.wav, batch.span, batch.channels, strict=True)
        whole = [read_clip(wav, rate, span, channels) for wav, span, channels in clips]
        sig, lengths = (x.to(batch.sig.device) for x in pad_feats(whole))
    feats, frames = encoder(sig, lengths)
    if cache is None:
        return feats, frames
    ends = zip(batch.wav, feats, frames.tolist(), batch.span, batch.channels, strict=True)
    return pad_feats([cache.put(wav, x[:end], span, mix) for wav, x, end, span, mix in ends])
