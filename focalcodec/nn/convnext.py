"""ConvNeXt over time: the backbone of both decoders.

Source: Vocos, arXiv 2306.00814, section 3.2; ConvNeXt from Liu et al., arXiv 2201.03545.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.layers import MaskedConv1d


class ConvNeXt(nn.Module):
    """A convolution, then `num_layers` residual blocks, at the frame rate of the input.

    `input_dim` is the width of the features, `dim` and `ffn_dim` the widths between and inside the
    blocks, `kernel_size` the frames of each convolution, past ones only if `causal`.
    `layerscale_init` is the initial scale of each block's output, 1 / num_layers when None.
    """

    def __init__(
        self,
        input_dim: int,
        num_layers: int,
        dim: int,
        ffn_dim: int,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        scale = 1.0 / max(num_layers, 1) if layerscale_init is None else layerscale_init
        self.embedding = MaskedConv1d(
            input_dim, dim, kernel_size, causal=causal, causal_padding="constant"
        )
        self.input_norm = nn.LayerNorm(dim, eps=1e-6)
        self.layers = nn.ModuleList(
            _Block(dim, ffn_dim, kernel_size, scale, causal) for _ in range(num_layers)
        )
        self.output_norm = nn.LayerNorm(dim, eps=1e-6)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, input_dim) to (B, N, dim); `mask` (B, N) bool is True on valid frames.

        Padded frames of the result have arbitrary values.
        """
        x = self.input_norm(self.embedding(x.to(self.embedding.weight.dtype), mask))  # (B, N, dim)
        for layer in self.layers:
            x = layer(x, mask)  # (B, N, dim)
        return self.output_norm(x)


class _Block(nn.Module):
    """Depth-wise convolution, norm, two linear maps with a GELU, LayerScale, residual."""

    def __init__(
        self, dim: int, ffn_dim: int, kernel_size: int, scale: float, causal: bool
    ) -> None:
        super().__init__()
        self.dwconv = MaskedConv1d(
            dim, dim, kernel_size, groups=dim, causal=causal, causal_padding="constant"
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, ffn_dim)
        self.pwconv2 = nn.Linear(ffn_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x, mask))  # (B, N, dim): each channel over time
        y = F.gelu(self.pwconv1(y))  # (B, N, ffn_dim): each frame over its channels
        return x + self.gamma * self.pwconv2(y)
