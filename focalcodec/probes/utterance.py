"""Utterance probe: who spoke, or in which mood; one answer a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.nn.masking import masked_mean, valid_mask
from focalcodec.probes.bilstm import BiLSTM

# What the square root of a variance stays above; its gradient is infinite at 0, where a clip of
# one frame is.
VARIANCE_FLOOR = 1e-6


class UtteranceProbe(nn.Module):
    """BiLSTM, mean and standard deviation over time, and a linear layer.

    Sources: FocalCodec, arXiv 2502.04465, appendix (speaker and emotion); Snyder et al.,
    "X-vectors" (2018), section 2.2, statistics pooling.

    Parameters
    ----------
    input_dim : int
        Width of the input.
    num_classes : int
        Answers to choose from.
    hidden_dim : int
        Width of each direction of the LSTM.
    num_layers : int
        Layers of the LSTM.
    dropout : float
        On the output of each layer of the LSTM.

    Example
    -------
    >>> UtteranceProbe(input_dim=4, num_classes=3, hidden_dim=8)(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        hidden_dim: int = 512,
        num_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.lstm = BiLSTM(input_dim, hidden_dim, num_layers, dropout)
        self.head = nn.Linear(2 * self.lstm.output_dim, num_classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Tell the classes' logits. They have no time axis, so no lengths come back.

        Parameters
        ----------
        x : Tensor
            (B, N, input_dim).
        lengths : Tensor, optional
            (B,) int64, valid frames; None if all are.

        Returns
        -------
        Tensor
            (B, num_classes).
        """
        y, lengths = self.lstm(x, lengths)
        return self.head(pool_statistics(y, lengths))


def pool_statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and standard deviation over the valid frames.

    Parameters
    ----------
    x : Tensor
        (B, N, D).
    lengths : Tensor
        (B,) int64, valid frames.

    Returns
    -------
    Tensor
        (B, 2 D), means first; the deviation is that of the frames themselves, divided by their
        number, and at least 1e-3.

    Example
    -------
    >>> pool_statistics(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]))
    tensor([[2., 1.]])
    """
    mask = valid_mask(lengths, x.shape[1])
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean).square(), mask)
    deviation = variance.clamp(min=VARIANCE_FLOOR).sqrt()
    return torch.cat([mean, deviation], dim=2)[:, 0]
