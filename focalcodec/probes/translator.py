"""Token translator: predicts the tokens of other recordings from those of one, frame by frame.

Its loss is permutation-invariant: if a mixture has several speakers, the loss of each clip is that
of the order of heads and speakers with the lowest loss.
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.masking import masked_mean, valid_mask, zero_padding
from focalcodec.probes.conformer import ConformerEncoder
from focalcodec.probes.inputs import valid_lengths


class TokenTranslator(nn.Module):
    """Conformer with one head for each target: noisy to clean tokens, or a mixture to its speakers.

    Source: FocalCodec, arXiv 2502.04465, appendix (enhancement and separation: 6 layers, 4 heads,
    512, feed-forward 2048).

    Parameters
    ----------
    input_dim : int
        Width of the input.
    codebook_size : int
        Tokens of a stream, K.
    streams : int
        Streams of tokens, Q.
    targets : int
        Recordings to predict, S: 1 for enhancement, one for each speaker for separation.
    dim, num_layers, num_heads, ffn_dim, kernel_size, dropout
        As in `ConformerEncoder`.

    Example
    -------
    >>> translator = TokenTranslator(
    ...     4, codebook_size=16, targets=2, dim=8, num_layers=1, num_heads=2, ffn_dim=16
    ... )
    >>> logits, lengths = translator(torch.zeros(1, 3, 4))
    >>> logits.shape, lengths
    (torch.Size([1, 3, 2, 1, 16]), tensor([3]))
    """

    def __init__(
        self,
        input_dim: int,
        codebook_size: int,
        streams: int = 1,
        targets: int = 1,
        dim: int = 512,
        num_layers: int = 6,
        num_heads: int = 4,
        ffn_dim: int = 2048,
        kernel_size: int = 31,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.codebook_size, self.streams, self.targets = codebook_size, streams, targets
        self.encoder = ConformerEncoder(
            input_dim, dim, num_layers, num_heads, ffn_dim, kernel_size, dropout
        )
        self.heads = nn.ModuleList(nn.Linear(dim, streams * codebook_size) for _ in range(targets))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, targets, streams, codebook_size), zero in the padding, and lengths.

        `x` is (B, N, input_dim); `lengths` (B,) int64 has the valid frames, None means all.
        """
        y, lengths = self.encoder(x, lengths)  # (B, N, dim)
        logits = torch.stack([head(y) for head in self.heads], dim=2)  # (B, N, S, Q * K)
        logits = logits.unflatten(3, (self.streams, self.codebook_size))  # (B, N, S, Q, K)
        return zero_padding(logits, valid_mask(lengths, x.shape[1])), lengths


class PermutedLoss(NamedTuple):
    """Loss of each clip for its best order."""

    loss: Tensor
    """(B,) nats for each token: mean over valid frames, streams and targets."""
    order: Tensor
    """(B, S) int64: head s is paired with target `order[:, s]`."""


def permuted_cross_entropy(
    logits: Tensor, toks: Tensor, lengths: Tensor | None = None
) -> PermutedLoss:
    """Cross entropy of each clip for the pairing of heads and targets with the lowest loss.

    All S! pairings are tried, so S must be small. Source: Kolbaek et al., "Multitalker speech
    separation with utterance-level permutation invariant training", arXiv 1703.06284, section III
    (there for masks).

    Parameters
    ----------
    logits : Tensor
        (B, N, S, Q, K): frames, heads, streams, tokens.
    toks : Tensor
        (B, N, S, Q) int64; the padding may hold any value.
    lengths : Tensor, optional
        (B,) int64, valid frames; None means all.

    Raises
    ------
    UserError
        The shapes do not fit each other.

    Example
    -------
    >>> toks = torch.tensor([[[[0], [1]]]])  # one frame of two targets
    >>> logits = torch.tensor([[[[[-9.0, 9.0]], [[9.0, -9.0]]]]])  # the heads predict 1 and 0
    >>> loss, order = permuted_cross_entropy(logits, toks)
    >>> round(loss.item(), 3), order
    (0.0, tensor([[1, 0]]))
    """
    costs = pairwise_cross_entropy(logits, toks, lengths)  # (B, S, S)
    heads = torch.arange(costs.shape[1], device=costs.device)
    orders = torch.tensor(list(permutations(range(len(heads)))), device=costs.device)  # (S!, S)
    loss, best = costs[:, heads, orders].mean(dim=2).min(dim=1)  # (B,), (B,)
    return PermutedLoss(loss, orders[best])


def pairwise_cross_entropy(logits: Tensor, toks: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return (B, S, S): at [b, s, t] the cross entropy of head s with target t, in nats.

    It is the mean over valid frames and streams; arguments as in `permuted_cross_entropy`.
    """
    if logits.dim() != 5 or toks.shape != logits.shape[:4]:
        raise UserError(
            f"toks: shape {tuple(toks.shape)}, logits: {tuple(logits.shape)}; give (batch, frames,"
            " targets, streams), and for the logits one axis more"
        )
    lengths = valid_lengths(toks, lengths)
    mask = valid_mask(lengths, toks.shape[1])  # (B, N)
    # The padding may hold any value, such as -1, which is not a valid index.
    heads = toks.shape[2]
    wanted = zero_padding(toks, mask).transpose(2, 3)  # (B, N, Q, S)
    wanted = wanted[:, :, None].expand(-1, -1, heads, -1, -1)  # (B, N, S, Q, S)
    logits = logits.float()
    # A head's normaliser is the same for all targets. Gathering before subtracting it avoids a
    # copy of the log-probabilities of all tokens.
    costs = logits.logsumexp(dim=4, keepdim=True) - logits.gather(4, wanted)  # (B, N, S, Q, S)
    means = masked_mean(costs.mean(dim=3).flatten(2), mask)  # (B, 1, S * S)
    return means.unflatten(2, (heads, heads))[:, 0]
