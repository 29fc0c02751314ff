"""CTC: the loss of a text, and decoding with a beam (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.probes.targets import BLANK


def ctc_losses(
    log_probs: Tensor, frames: Tensor, symbols: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """CTC loss of each clip, divided by the number of its symbols.

    A text that needs more frames than its clip has can't be aligned: its loss is 0, without a
    gradient.

    Source: Graves et al., "Connectionist temporal classification" (2006).

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V), blank first.
    frames : Tensor
        (B,) int64.
    symbols : sequence of sequence of int
        Symbols of each clip's text.

    Returns
    -------
    losses : Tensor
        (B,) nats a symbol.
    fits : Tensor
        (B,), 1 where the text can be aligned, else 0: the weights of a mean.

    Example
    -------
    >>> log_probs = torch.zeros(1, 2, 4).log_softmax(dim=2)
    >>> ctc_losses(log_probs, torch.tensor([2]), [[3]])  # three of the 16 paths give [3]
    (tensor([1.6740]), tensor([1.]))
    """
    device = log_probs.device
    counts = torch.tensor([len(text) for text in symbols], device=device)
    flat = torch.tensor([s for text in symbols for s in text], dtype=torch.int64, device=device)
    losses = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        flat,
        frames,
        counts,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    room = zip(symbols, frames.tolist(), strict=True)
    fits = torch.tensor([frames_needed(text) <= count for text, count in room])
    return losses / counts.clamp(min=1), fits.to(losses)


def frames_needed(symbols: Sequence[int]) -> int:
    """Frames that CTC needs for a text: one for each symbol, and a blank between two equal ones.

    Example
    -------
    >>> frames_needed([3, 3, 5])
    4
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))


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
        Text of each clip.

    Example
    -------
    >>> import torch
    >>> frames = torch.tensor([[1, 1, 0, 2]])
    >>> log_probs = (9.0 * torch.nn.functional.one_hot(frames, 3)).log_softmax(dim=2)
    >>> decode_with_beam(log_probs, torch.tensor([4]), ["<blank>", "▁ONE", "▁TWO"], 4)
    ['ONE TWO']
    """
    from speechbrain.decoders import CTCPrefixBeamSearcher

    searcher = CTCPrefixBeamSearcher(
        blank_index=BLANK, vocab_list=list(names), beam_size=beam_size, topk=1
    )
    texts = []
    # One clip after the other, because the searcher cuts a batch by rounded shares of the longest.
    for clip, count in zip(log_probs.float().cpu(), frames.tolist(), strict=True):
        ((best, *_),) = searcher(clip[None, :count])
        texts.append(best.text.strip())
    return texts
