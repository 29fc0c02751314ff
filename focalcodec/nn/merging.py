"""Merging of similar neighbouring tokens: a variable rate, chosen when audio is encoded.

Neighbouring lats whose cosine is above a threshold form a group of up to 8. Each lat of a group
becomes the mean of the group, so all have the same token, and the group can be stored as one token
and a length. Decoding repeats the token: the decompressor gets as many codes as without merging.

Source: the dynamic merging of FlexiCodec, arXiv 2510.00981, section 3; here on the lats, so that a
codec without this training can merge too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask

LONGEST = 8  # tokens of a group
LENGTH_BITS = 3  # of its length


def merge_lats(lats: Tensor, lengths: Tensor, threshold: float | Tensor) -> Tensor:
    """Replace each lat by the mean of its group.

    Parameters
    ----------
    lats, lengths : Tensor
        (B, N', L) and (B,) int64 valid frames; frames of the padding keep their values.
    threshold : float or Tensor
        Cosine of two neighbours from which on they are in one group: one for all clips or (B,).

    Example
    -------
    >>> lats = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]]])
    >>> merge_lats(lats, torch.tensor([3]), threshold=0.9)
    tensor([[[0.9000, 0.1000],
             [0.9000, 0.1000],
             [0.0000, 1.0000]]])
    """
    batch, number = lats.shape[:2]
    limit = torch.as_tensor(threshold, dtype=torch.float32, device=lats.device).expand(batch)
    with torch.no_grad():
        close = cosine_similarity(lats[:, 1:].float(), lats[:, :-1].float(), dim=-1)
        valid = valid_mask(lengths, number)
        joins = pad(
            (close >= limit[:, None]) & valid[:, 1:], (1, 0)
        )  # (B, N'): with the one before
        place = torch.arange(number, device=lats.device).expand(batch, number)
        start = torch.where(joins, 0, place).cummax(dim=1).values  # of the run of similar frames
        starts = ~joins | ((place - start) % LONGEST == 0)  # (B, N'): first of a group
        group = starts.cumsum(dim=1) - 1  # (B, N') int64
    index = group[..., None].expand_as(lats)
    sums = torch.zeros_like(lats).scatter_add(1, index, lats)  # (B, N', L), by group
    counts = torch.zeros_like(group).scatter_add(1, group, torch.ones_like(group))
    means = sums / counts.clamp(min=1)[..., None]
    return torch.where(valid[..., None], means.gather(1, index), lats)


def check_threshold(value: object) -> float:
    """Check a cosine that a user gives; a `UserError` if it is no number from -1 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1 <= value <= 1:
        raise UserError(f"merge={value!r}: give a cosine from -1 to 1, such as 0.9")
    return float(value)


def to_runs(toks: Tensor) -> tuple[Tensor, Tensor]:
    """Map toks (N',) to the tokens of runs (M,) and their lengths (M,), each 1 to 8.

    Example
    -------
    >>> toks, lengths = to_runs(torch.tensor([5, 5, 5, 2, 7, 7]))
    >>> toks.tolist(), lengths.tolist(), from_runs(toks, lengths).tolist()
    ([5, 2, 7], [3, 1, 2], [5, 5, 5, 2, 7, 7])
    """
    values, counts = torch.unique_consecutive(toks, return_counts=True)
    pieces = (counts + LONGEST - 1) // LONGEST  # a long run takes several
    values, lengths = values.repeat_interleave(pieces), torch.full_like(values, LONGEST)
    lengths = lengths.repeat_interleave(pieces)
    lengths[pieces.cumsum(0) - 1] = counts - (pieces - 1) * LONGEST
    return values, lengths


def runs_bits(toks: Tensor, bits: int) -> int:
    """Bits of toks (N',), `bits` each: as runs with their lengths, or as they are if that is less.

    Example
    -------
    >>> runs_bits(torch.tensor([5, 5, 5, 5]), 13), runs_bits(torch.tensor([5, 6]), 13)
    (16, 26)
    """
    return min(len(to_runs(toks)[0]) * (bits + LENGTH_BITS), len(toks) * bits)


def from_runs(toks: Tensor, lengths: Tensor) -> Tensor:
    """Undo `to_runs`: toks (N',)."""
    return toks.repeat_interleave(lengths)
