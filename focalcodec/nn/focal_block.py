"""Focal modulation: a query times a gated sum of contexts, each wider than the one before.

Source: Yang et al., "Focal modulation networks", arXiv 2203.11926, equations 4-6; its
one-dimensional and causal forms from FocalCodec, arXiv 2502.04465 and 2509.16195.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.layers import DynamicTanh, MaskedConv1d, by_frames
from focalcodec.nn.masking import masked_mean


@dataclass(frozen=True)
class FocalOptions:
    """Options of all focal blocks of a model; the names are those of `config.json`.

    `FocalEncoder` explains them.
    """

    focal_window: int = 7
    focal_level: int = 2
    focal_factor: int = 2
    dropout: float = 0.0
    use_post_norm: bool = False
    use_layerscale: bool = False
    layerscale_init: float = 1e-4
    normalize_modulator: bool = False
    causal: bool = False
    window_size: int = 512

    def to_dict(self) -> dict[str, Any]:
        """Keyword arguments, ready for JSON."""
        return asdict(self)

    def with_window(self, window_size: int) -> FocalOptions:
        """The same options with another `window_size`."""
        return replace(self, window_size=window_size)


class FocalModulation(nn.Module):
    """Modulate each frame by its context, from `focal_window` frames to the whole signal.

    In a causal model one more convolution, of `window_size` frames, replaces the mean over the
    whole signal.
    """

    def __init__(self, dim: int, options: FocalOptions) -> None:
        super().__init__()
        self.causal = options.causal
        self.num_gates = options.focal_level + 1
        self.scale = 1.0 / self.num_gates if options.normalize_modulator else 1.0
        kernels = [
            options.focal_window + options.focal_factor * level
            for level in range(options.focal_level)
        ]
        if options.causal:
            kernels.append(options.window_size)
        # The published names are layers.<level>.0: each level was a sequence (conv, GELU).
        self.layers = nn.ModuleList(
            nn.ModuleList([MaskedConv1d(dim, dim, kernel, groups=dim, causal=options.causal)])
            for kernel in kernels
        )
        self.in_proj = nn.Linear(dim, 2 * dim + self.num_gates)
        self.context_proj = nn.Conv1d(dim, dim, 1)
        self.norm = _make_norm(dim, options) if options.use_post_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, dim) to (B, N, dim); `mask` (B, N) bool is True on valid frames.

        Padded frames of the result have arbitrary values.
        """
        dim = x.shape[-1]
        # query and context (B, N, dim), gates (B, N, levels + 1)
        query, context, gates = self.in_proj(x).split([dim, dim, self.num_gates], dim=-1)
        total = torch.zeros_like(context)
        for level, layer in enumerate(self.layers):
            # equation 4: a level takes the context of the level before, so it reaches further
            context = F.gelu(layer.get_submodule("0")(context, mask))  # (B, N, dim)
            total = total + context * gates[..., level, None]  # equation 5: gated sum
        if not self.causal:
            # the last level: the mean over all valid frames, (B, 1, dim)
            total = total + F.gelu(masked_mean(context, mask)) * gates[..., -1:]
        # The published layout has a convolution of one frame here: a linear map is faster.
        weight, bias = self.context_proj.weight.squeeze(2), self.context_proj.bias
        modulator = F.linear(total * self.scale, weight, bias)  # (B, N, dim)
        # equation 6: the query times the modulator
        return self.dropout(self.out_proj(self.norm(query * modulator)))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them, four times as wide inside."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 4 * dim)
        self.out_proj = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, dim) to (B, N, dim), frame by frame."""
        return by_frames(self._map, x)

    def _map(self, x: Tensor) -> Tensor:
        return self.dropout(self.out_proj(self.dropout(F.gelu(self.in_proj(x)))))


class FocalBlock(nn.Module):
    """Residual block: focal modulation over time, then a feed-forward network per frame.

    Example
    -------
    >>> block = FocalBlock(4, FocalOptions())
    >>> block(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, dim: int, options: FocalOptions) -> None:
        super().__init__()
        self.use_post_norm = options.use_post_norm
        self.modulation_norm = _make_norm(dim, options)
        self.modulation = FocalModulation(dim, options)
        self.feed_forward_norm = _make_norm(dim, options)
        self.feed_forward = FeedForward(dim, options.dropout)
        init = options.layerscale_init if options.use_layerscale else None
        self.modulation_gamma = None if init is None else nn.Parameter(torch.full((dim,), init))
        self.feed_forward_gamma = None if init is None else nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, dim) to (B, N, dim); `mask` (B, N) bool is True on valid frames."""
        if self.use_post_norm:
            x = x + _scale(self.modulation_norm(self.modulation(x, mask)), self.modulation_gamma)
            return x + _scale(self.feed_forward_norm(self.feed_forward(x)), self.feed_forward_gamma)
        x = x + _scale(self.modulation(self.modulation_norm(x), mask), self.modulation_gamma)
        return x + _scale(self.feed_forward(self.feed_forward_norm(x)), self.feed_forward_gamma)


def _make_norm(dim: int, options: FocalOptions) -> nn.Module:
    return DynamicTanh(dim) if options.causal else nn.LayerNorm(dim)


def _scale(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma
