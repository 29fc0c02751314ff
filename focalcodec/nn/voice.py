"""One vector an utterance: what of a clip does not change, such as the voice, in 20 tokens.

Attentive pooling of the feats over time gives 6 values a token, which are rounded to 4 levels. So a
token has 12 bits, and 20 tokens have 240 bits for a clip of any length. The vector adapts norms of
the decompressor and the decoder (`focalcodec.nn.adaptive_norm`).

Sources: attentive statistics pooling, Okabe et al., arXiv 1803.10963; finite scalar quantization,
Mentzer et al., arXiv 2309.15505; tokens of the speaker in Spark-TTS, arXiv 2503.01710.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths, masked_mean, valid_mask, zero_padding

LEVELS = 4
VALUES = 6  # of a token: LEVELS ** VALUES tokens
CODES = LEVELS**VALUES
BITS = 12  # of a token
_VARIANCE_FLOOR = 1e-6


class VoicePool(AtLeastFloat32):
    """Feats (B, N, input_dim) to the vector of an utterance, (B, 6 * num_tokens) in [-1, 1].

    Parameters
    ----------
    input_dim : int
        Width of the feats.
    num_tokens : int
        Tokens of the vector.
    hidden_dim : int
        Width of the attention's hidden layer.

    Example
    -------
    >>> pool = VoicePool(8, num_tokens=2)
    >>> voice = pool(torch.randn(3, 10, 8), torch.tensor([10, 5, 1]))
    >>> voice.shape, voice_toks(voice).shape
    (torch.Size([3, 12]), torch.Size([3, 2]))
    """

    def __init__(self, input_dim: int, num_tokens: int, hidden_dim: int = 64) -> None:
        super().__init__()
        if num_tokens < 1:
            raise UserError(f"voice_tokens={num_tokens}: give 1 or more, or 0 for no vector")
        self.norm = nn.LayerNorm(input_dim)
        self.attention = nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, input_dim)
        )
        self.out_proj = nn.Linear(2 * input_dim, VALUES * num_tokens)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Pool the valid frames, `lengths` (B,) int64, or those of `mask` (B, N) bool.

        Values are rounded to the four levels; gradients pass straight through.
        """
        if mask is None:
            ends = full_lengths(feats) if lengths is None else lengths
            mask = valid_mask(ends, feats.shape[1])
        with torch.autocast(feats.device.type, enabled=False):
            x = self.norm(zero_padding(feats, mask).to(self.norm.weight.dtype))  # (B, N, D)
            logits = self.attention(x).masked_fill(~mask[..., None], float("-inf"))
            weights = logits.softmax(dim=1) * mask.sum(dim=1)[:, None, None]  # mean 1
            mean = masked_mean(weights * x, mask)  # (B, 1, D)
            variance = masked_mean(weights * (x - mean).square(), mask)
            std = variance.clamp(min=_VARIANCE_FLOOR).sqrt()
            values = self.out_proj(torch.cat([mean, std], dim=2)[:, 0]).tanh()  # (B, 6 V)
            return values + (_rounded(values) - values).detach()


def voice_toks(values: Tensor) -> Tensor:
    """Map a vector (..., 6 V) of the four levels to its tokens (..., V) int64, in [0, 4096)."""
    digits = _digits(values).long().unflatten(-1, (-1, VALUES))
    return (digits * _places(values.device)).sum(dim=-1)


def voice_values(toks: Tensor, num_tokens: int) -> Tensor:
    """Map tokens (..., V) to the vector (..., 6 V); a `UserError` if they are not such tokens.

    Example
    -------
    >>> toks = torch.tensor([0, 4095, 7])
    >>> values = voice_values(toks, 3)
    >>> values[:7], voice_toks(values).equal(toks)
    (tensor([-1., -1., -1., -1., -1., -1.,  1.]), True)
    """
    if toks.is_floating_point() or toks.dtype == torch.bool or toks.shape[-1:] != (num_tokens,):
        raise UserError(
            f"voice: {toks.dtype} {tuple(toks.shape)}; give (clips, {num_tokens}) integers, as"
            " encode_voice does"
        )
    if toks.numel() and not 0 <= int(toks.min()) <= int(toks.max()) < CODES:
        raise UserError(f"voice: tokens {int(toks.min())}..{int(toks.max())}; give 0..{CODES - 1}")
    digits = toks.long()[..., None] // _places(toks.device) % LEVELS  # (..., V, 6)
    return (2.0 * digits / (LEVELS - 1) - 1.0).flatten(-2)


def _digits(values: Tensor) -> Tensor:
    return ((values + 1.0) * (LEVELS - 1) / 2).round().clamp(0, LEVELS - 1)


def _rounded(values: Tensor) -> Tensor:
    return 2.0 * _digits(values) / (LEVELS - 1) - 1.0


def _places(device: torch.device) -> Tensor:
    """What a level of each value counts in a token, (6,), the first one most."""
    return LEVELS ** torch.arange(VALUES - 1, -1, -1, device=device)
