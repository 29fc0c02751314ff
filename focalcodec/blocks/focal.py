"""Focal modulation: a query times a gated sum of contexts, each wider than the one before.

Source: Yang et al., "Focal modulation networks", arXiv 2203.11926, equations 4-6; its
one-dimensional and causal forms from FocalCodec, arXiv 2502.04465 and 2509.16195.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.adaptive_norm import Adaptation, adapt, gate
from focalcodec.nn.layers import DynamicTanh, FeedForward, MaskedConv1d
from focalcodec.nn.masking import masked_mean
from focalcodec.nn.packed import AsLinear
from focalcodec.nn.past import LeftContext

# Children of a modulation, as they were registered in the first version.
FIRST_ORDER = ("layers", "in_proj", "context_proj", "norm", "out_proj")

# Frames before a chunk that each convolution of a module needs, in order; None: start of a signal.
Contexts = list[LeftContext | None]


class FocalOptions(NamedTuple):
    """Options of all focal blocks of a model; the names are those of `config.json`.

    `FocalEncoder` explains them.
    """

    focal_window: int = 14
    focal_level: int = 2
    focal_factor: int = 4
    dropout: float = 0.0
    use_post_norm: bool = False
    use_layerscale: bool = False
    layerscale_init: float = 1e-4
    tanhscale_init: float = 0.5
    normalize_modulator: bool = False
    causal: bool = False
    window_size: int = 512


class PointwiseConv1d(nn.Conv1d, AsLinear):
    """Convolution of one frame, the published layout of a linear map, which is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, in_channels) to (B, N, out_channels)."""
        return self.apply_matrix(x)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the map."""
        return self.weight.squeeze(2), self.bias


class FocalModulation(nn.Module):
    """Modulate each frame by its context, from `focal_window` frames to the whole signal.

    In a causal model one more convolution, of `window_size` frames, replaces the mean over the
    whole signal.
    """

    def __init__(
        self,
        dim: int = 1024,
        focal_window: int = 14,
        focal_level: int = 2,
        focal_factor: int = 4,
        dropout: float = 0.0,
        use_post_norm: bool = False,
        tanhscale_init: float = 0.5,
        normalize_modulator: bool = False,
        causal: bool = False,
        window_size: int = 512,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.num_gates = focal_level + 1
        self.scale = 1.0 / self.num_gates if normalize_modulator else 1.0
        kernels = [focal_window + focal_factor * level for level in range(focal_level)]
        if causal:
            kernels.append(window_size)
        # Made in the order of the first version, so that a seed gives the same weights, and
        # registered in the published order, that of stored optimizer states.
        # The published names are layers.<level>.0: each level was a sequence (conv, GELU).
        layers = nn.ModuleList(
            nn.ModuleList([MaskedConv1d(dim, dim, kernel, groups=dim, causal=causal)])
            for kernel in kernels
        )
        self.in_proj = nn.Linear(dim, 2 * dim + self.num_gates)
        self.layers = layers
        self.context_proj = PointwiseConv1d(dim, dim, 1)
        norm = _make_norm(dim, causal, tanhscale_init) if use_post_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = norm

    def forward(
        self, input: Tensor, left_contexts: Contexts | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Contexts]:
        """Map (B, N, dim) to (B, N, dim), and give the contexts of the next frames, if causal.

        `mask` (B, N) bool is True on valid frames; None is all. With it there are no contexts, and
        padded frames of the result have arbitrary values.
        """
        dim = input.shape[-1]
        # query and context (B, N, dim), gates (B, N, levels + 1)
        query, context, gates = self.in_proj(input).split([dim, dim, self.num_gates], dim=-1)
        total = torch.zeros_like(context)
        contexts: Contexts = [None] * self.num_gates
        for level, layer in enumerate(self.layers):
            # equation 4: a level takes the context of the level before, so it reaches further
            conv: MaskedConv1d = layer.get_submodule("0")  # type: ignore[assignment]
            if self.causal and mask is None:
                before = None if left_contexts is None else left_contexts[level]
                context, contexts[level] = conv.step(context, before)
            else:
                context = conv(context, mask)
            context = F.gelu(context)  # (B, N, dim)
            total = total + context * gates[..., level, None]  # equation 5: gated sum
        if not self.causal:
            # the last level: the mean over all valid frames, (B, 1, dim)
            if mask is None:
                mean = context.sum(dim=1, keepdim=True) / context.shape[1]
            else:
                mean = masked_mean(context, mask)
            total = total + F.gelu(mean) * gates[..., -1:]
        modulator = self.context_proj(total * self.scale)  # (B, N, dim)
        # equation 6: the query times the modulator
        return self.dropout(self.out_proj(self.norm(query * modulator))), contexts


class FocalBlock(nn.Module):
    """Residual block: focal modulation over time, then a feed-forward network per frame.

    `options` are those of `FocalOptions`, by name or in their order.

    Example
    -------
    >>> block = FocalBlock(4, 16)
    >>> block(torch.randn(2, 5, 4))[0].shape
    torch.Size([2, 5, 4])
    """

    def __init__(
        self, dim: int = 1024, ffn_dim: int = 4096, *options: Any, **named_options: Any
    ) -> None:
        super().__init__()
        chosen = FocalOptions(*options, **named_options)
        self.use_post_norm = chosen.use_post_norm
        modulation = chosen._asdict()
        gammas = modulation.pop("use_layerscale"), modulation.pop("layerscale_init")
        init = gammas[1] if gammas[0] else None
        self.modulation_norm = _make_norm(dim, chosen.causal, chosen.tanhscale_init)
        self.modulation = FocalModulation(dim, **modulation)
        self.feed_forward_norm = _make_norm(dim, chosen.causal, chosen.tanhscale_init)
        self.feed_forward = FeedForward(dim, ffn_dim, chosen.dropout)
        self.modulation_gamma = None if init is None else nn.Parameter(torch.full((dim,), init))
        self.feed_forward_gamma = None if init is None else nn.Parameter(torch.full((dim,), init))

    def forward(
        self,
        input: Tensor,
        left_contexts: Contexts | None = None,
        mask: Tensor | None = None,
        adaptations: Sequence[Adaptation | None] = (None, None),
    ) -> tuple[Tensor, Contexts]:
        """Map (B, N, dim) to (B, N, dim); contexts and mask as in `FocalModulation`.

        The vector of an utterance may adapt the two branches.
        """
        x, (first, second) = input, adaptations
        if self.use_post_norm:
            y, contexts = self.modulation(x, left_contexts, mask)
            y = adapt(self.modulation_norm(y), first)
            x = x + _scale(gate(y, first), self.modulation_gamma)
            y = adapt(self.feed_forward_norm(self.feed_forward(x)), second)
        else:
            y = adapt(self.modulation_norm(x), first)
            y, contexts = self.modulation(y, left_contexts, mask)
            x = x + _scale(gate(y, first), self.modulation_gamma)
            y = self.feed_forward(adapt(self.feed_forward_norm(x), second))
        return x + _scale(gate(y, second), self.feed_forward_gamma), contexts


def _make_norm(dim: int, causal: bool, tanhscale_init: float) -> nn.Module:
    return DynamicTanh(dim, tanhscale_init) if causal else nn.LayerNorm(dim)


def _scale(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma
