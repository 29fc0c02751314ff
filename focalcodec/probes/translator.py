"""Token translator: tokens of one recording to those of others, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.probes.conformer import ConformerEncoder


class TokenTranslator(nn.Module):
    """Conformer with one head a target: noisy to clean tokens, or a mixture to its speakers.

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
        Recordings to tell apart, S: 1 for enhancement, one a speaker for separation.
    dim, num_layers, num_heads, ffn_dim, kernel_size, dropout
        As those of `ConformerEncoder`.

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
        """Tell the targets' tokens.

        Parameters
        ----------
        x : Tensor
            (B, N, input_dim).
        lengths : Tensor, optional
            (B,) int64, valid frames; None if all are.

        Returns
        -------
        tuple of Tensor
            Logits (B, N, targets, streams, codebook_size), zero in the padding, and lengths.
        """
        y, lengths = self.encoder(x, lengths)
        logits = torch.stack([head(y) for head in self.heads], dim=2)
        logits = logits.unflatten(3, (self.streams, self.codebook_size))
        return zero_padding(logits, valid_mask(lengths, x.shape[1])), lengths
