"""Focal modulation: a query times a gated sum of ever wider contexts.

Source: Yang et al., "Focal modulation networks", arXiv 2203.11926, equations 4-6; its
one-dimensional and causal forms from FocalCodec, arXiv 2502.04465 and 2509.16195.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.blocks import by_frames
from focalcodec.nn.layers import DynamicTanh, MaskedConv1d
from focalcodec.nn.masking import masked_mean


@dataclass(frozen=True)
class FocalOptions:
    """What all focal blocks of a model share; the names are those of `config.json`.

    Example
    -------
    >>> FocalOptions(causal=True).with_window(16).window_size
    16
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
        """Give the options as keyword arguments, ready for JSON."""
        return asdict(self)

    def with_window(self, window_size: int) -> FocalOptions:
        """Give the same options with another `window_size`."""
        return replace(self, window_size=window_size)


class FocalModulation(nn.Module):
    """Modulate each frame by its surroundings, from `focal_window` frames to the whole signal.

    Parameters
    ----------
    dim : int
        Width.
    options : FocalOptions
        See there; in a causal model one more convolution, of `window_size` frames, stands for
        the mean over the whole signal.

    Example
    -------
    >>> modulation = FocalModulation(4, FocalOptions())
    >>> modulation(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 5, 4])
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
        """Modulate.

        Parameters
        ----------
        x : Tensor
            (B, N, dim).
        mask : Tensor
            (B, N) bool, True on valid frames.

        Returns
        -------
        Tensor
            (B, N, dim); padded frames hold values without a meaning.
        """
        dim = x.shape[-1]
        query, context, gates = self.in_proj(x).split([dim, dim, self.num_gates], dim=-1)
        total = torch.zeros_like(context)
        for level, layer in enumerate(self.layers):
            context = F.gelu(layer.get_submodule("0")(context, mask))
            total = total + context * gates[..., level, None]
        if not self.causal:
            total = total + F.gelu(masked_mean(context, mask)) * gates[..., -1:]
        # A convolution of one frame in the published layout: a linear map, and faster as one.
        weight, bias = self.context_proj.weight.squeeze(2), self.context_proj.bias
        modulator = F.linear(total * self.scale, weight, bias)
        return self.dropout(self.out_proj(self.norm(query * modulator)))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, four times as wide inside.

    Example
    -------
    >>> FeedForward(4)(torch.randn(2, 5, 4)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 4 * dim)
        self.out_proj = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x of shape (B, N, dim)."""
        return by_frames(self._map, x)

    def _map(self, x: Tensor) -> Tensor:
        return self.dropout(self.out_proj(self.dropout(F.gelu(self.in_proj(x)))))


class FocalBlock(nn.Module):
    """Residual block: focal modulation over time, then a feed-forward network per frame.

    Parameters
    ----------
    dim : int
        Width.
    options : FocalOptions
        See there.

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
        """Apply the block to x of shape (B, N, dim); `mask` (B, N) is True on valid frames."""
        if self.use_post_norm:
            x = x + _scale(self.modulation_norm(self.modulation(x, mask)), self.modulation_gamma)
            return x + _scale(self.feed_forward_norm(self.feed_forward(x)), self.feed_forward_gamma)
        x = x + _scale(self.modulation(self.modulation_norm(x), mask), self.modulation_gamma)
        return x + _scale(self.feed_forward(self.feed_forward_norm(x)), self.feed_forward_gamma)


def _make_norm(dim: int, options: FocalOptions) -> nn.Module:
    return DynamicTanh() if options.causal else nn.LayerNorm(dim)


def _scale(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma
