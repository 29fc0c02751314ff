"""How probable a model finds the targets of sequences: its loss, and comparisons of two sequences.

A comparison is a test without text: of two sequences that differ in one thing, the natural one
should be more probable. Chance is 50 %.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.lm.model import SpeechLM


def target_nats(
    model: SpeechLM, ids: Tensor, is_target: Tensor, inputs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of -ln p over the targets of each row, and their number: (B,) both, with gradients.

    Parameters
    ----------
    model : SpeechLM
        With several heads, each target counts with the mean of the heads.
    ids, is_target : Tensor
        (B, T): ids, and which of them are predicted; none in the padding.
    inputs : Tensor, optional
        (B, T) ids in the place of `ids` at the input, such as some with random bits.

    Example
    -------
    >>> model = SpeechLM(vocab_size=8, hidden_size=8, num_layers=1, num_heads=1, num_kv_heads=1)
    >>> nats, counts = target_nats(model, torch.zeros(2, 5).long(), torch.ones(2, 5).bool())
    >>> nats.shape, counts
    (torch.Size([2]), tensor([4., 4.]))
    """
    x = model.hidden(ids if inputs is None else inputs).flatten(0, 1)  # (B * T, D)
    vectors = model.output_vectors()  # (C, vocab_size, D)
    nats = counts = torch.zeros(len(ids), device=x.device)  # (B,)
    for number, head in enumerate(vectors, start=1):
        # head n predicts the n-th id after each place; logits are made for the targets alone
        places = F.pad(is_target[:, number:], (0, number)).flatten().nonzero()[:, 0]  # (M,)
        logits = x.index_select(0, places) @ head.T  # (M, vocab_size)
        wanted = ids.flatten().index_select(0, places + number)
        losses = F.cross_entropy(logits.float(), wanted, reduction="none")  # (M,)
        nats = nats.index_add(0, places // ids.shape[1], losses)
        counts = counts.index_add(0, places // ids.shape[1], torch.ones_like(losses))
    return nats / len(vectors), counts / len(vectors)
