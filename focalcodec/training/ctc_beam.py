"""Beam search for CTC, by SpeechBrain's prefix searcher."""

from __future__ import annotations

from collections.abc import Sequence

from speechbrain.decoders import CTCPrefixBeamSearcher
from torch import Tensor

from focalcodec.probes.targets import BLANK


def decode_with_beam(
    log_probs: Tensor, frames: Tensor, names: Sequence[str], beam_size: int
) -> list[str]:
    """Most probable text of each clip, without a language model.

    Source: Graves et al., "Connectionist temporal classification" (2006), section 3.2, prefix
    search.

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V), blank first.
    frames : Tensor
        (B,) int64.
    names : sequence of str
        `Pieces.names`.
    beam_size : int
        Texts that are kept at a frame.

    Returns
    -------
    list of str
        Of each clip.

    Example
    -------
    >>> import torch
    >>> frames = torch.tensor([[1, 1, 0, 2]])
    >>> log_probs = (9.0 * torch.nn.functional.one_hot(frames, 3)).log_softmax(dim=2)
    >>> decode_with_beam(log_probs, torch.tensor([4]), ["<blank>", "▁ONE", "▁TWO"], 4)
    ['ONE TWO']
    """
    searcher = CTCPrefixBeamSearcher(
        blank_index=BLANK, vocab_list=list(names), beam_size=beam_size, topk=1
    )
    told = []
    # One clip after the other: the searcher cuts by shares of the longest, which are rounded.
    for clip, count in zip(log_probs.float().cpu(), frames.tolist(), strict=True):
        ((best, *_),) = searcher(clip[None, :count])
        told.append(best.text.strip())
    return told
