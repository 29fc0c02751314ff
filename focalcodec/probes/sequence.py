"""Sequence probe: what was said, frame by frame, for CTC."""

from __future__ import annotations

from torch import Tensor, nn

from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.probes.bilstm import BiLSTM


class SequenceProbe(nn.Module):
    """BiLSTM and a linear layer that give log-probabilities of symbols and the blank.

    Sources: FocalCodec, arXiv 2502.04465, appendix (speech recognition: 2 layers of 512, CTC);
    Graves et al., "Connectionist temporal classification" (2006).

    Parameters
    ----------
    input_dim : int
        Width of the input.
    vocab_size : int
        Symbols, the blank included.
    hidden_dim : int
        Width of each direction of the LSTM.
    num_layers : int
        Layers of the LSTM.
    dropout : float
        On the output of each layer of the LSTM.

    Example
    -------
    >>> log_probs, lengths = SequenceProbe(4, vocab_size=30, hidden_dim=8)(torch.zeros(1, 3, 4))
    >>> log_probs.shape, lengths
    (torch.Size([1, 3, 30]), tensor([3]))
    """

    def __init__(
        self,
        input_dim: int,
        vocab_size: int,
        hidden_dim: int = 512,
        num_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.lstm = BiLSTM(input_dim, hidden_dim, num_layers, dropout)
        self.head = nn.Linear(self.lstm.output_dim, vocab_size)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tell the symbols' log-probabilities.

        Parameters
        ----------
        x : Tensor
            (B, N, input_dim).
        lengths : Tensor, optional
            (B,) int64, valid frames; None if all are.

        Returns
        -------
        tuple of Tensor
            (B, N, vocab_size) in nats, zero in the padding, and lengths.
        """
        y, lengths = self.lstm(x, lengths)
        log_probs = self.head(y).log_softmax(dim=-1)
        return zero_padding(log_probs, valid_mask(lengths, x.shape[1])), lengths
