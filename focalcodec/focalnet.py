"""Compressor and decompressor: focal modulation between convolutions that change the rate.

Sources: FocalCodec, arXiv 2502.04465, section 3 (offline models), and arXiv 2509.16195, section 2
(causal models); focal modulation itself from Yang et al., arXiv 2203.11926.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.focal_block import FocalBlock, FocalOptions
from focalcodec.nn.layers import Snake1d, project_to_sphere
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding


class FocalEncoder(nn.Module):
    """Compressor: feats (B, N, input_dim) to lats (B, ceil(N / factor), output_dim) of norm 1.

    Parameters
    ----------
    input_dim, output_dim : int
        Widths of feats and lats.
    hidden_dims, downscale_factors : sequence of int
        Width of each level, and by how much it divides the frame rate; `factor` is their product.
    focal_window, focal_level, focal_factor : int
        Kernel of the first level of context, number of levels, and kernel growth per level.
    dropout : float
        Dropout inside the focal blocks.
    use_post_norm, use_layerscale, normalize_modulator : bool
        Variants of focal modulation, off in every published model.
    layerscale_init : float
        Initial value of LayerScale.
    causal : bool
        Past frames only.
    window_size : int
        Frames of the causal convolution that replaces the mean over time; causal only.

    Example
    -------
    >>> import torch
    >>> compressor = FocalEncoder(8, 4, hidden_dims=[8, 6], downscale_factors=[2, 1])
    >>> lats, lengths = compressor(torch.randn(2, 7, 8), lengths=torch.tensor([7, 4]))
    >>> lats.shape, lengths.tolist()
    (torch.Size([2, 4, 4]), [4, 2])
    """

    def __init__(
        self,
        input_dim: int = 1024,
        output_dim: int = 13,
        hidden_dims: Sequence[int] = (1024, 512, 256),
        downscale_factors: Sequence[int] = (1, 1, 1),
        focal_window: int = 7,
        focal_level: int = 2,
        focal_factor: int = 2,
        dropout: float = 0.0,
        use_post_norm: bool = False,
        use_layerscale: bool = False,
        layerscale_init: float = 1e-4,
        normalize_modulator: bool = False,
        causal: bool = False,
        window_size: int = 512,
    ) -> None:
        super().__init__()
        _check_levels("downscale_factors", downscale_factors, hidden_dims)
        options = FocalOptions(
            focal_window=focal_window,
            focal_level=focal_level,
            focal_factor=focal_factor,
            dropout=dropout,
            use_post_norm=use_post_norm,
            use_layerscale=use_layerscale,
            layerscale_init=layerscale_init,
            normalize_modulator=normalize_modulator,
            causal=causal,
            window_size=window_size,
        )
        self.config: dict[str, Any] = {
            "input_dim": input_dim,
            "output_dim": output_dim,
            "hidden_dims": list(hidden_dims),
            "downscale_factors": list(downscale_factors),
            **options.to_dict(),
        }
        self.factor = math.prod(downscale_factors)
        widths = [input_dim, *hidden_dims]
        self.layers = nn.ModuleList(
            _DownLevel(width, hidden, factor, options)
            for width, hidden, factor in zip(
                widths[:-1], hidden_dims, downscale_factors, strict=True
            )
        )
        self.out_proj = nn.Linear(widths[-1], output_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compress feats, x (B, N, input_dim): lats, zero on padded frames, and their lengths.

        `lengths` (B,) int64 are the valid frames of x; None is all.
        """
        lengths = full_lengths(x) if lengths is None else lengths
        x = x.to(self.out_proj.weight.dtype)
        for layer in self.layers:
            x, lengths = layer(x, lengths)  # (B, ceil(N / factors so far), hidden_dim)
        lats = project_to_sphere(self.out_proj(x))  # (B, N', output_dim), of norm 1
        return zero_padding(lats, valid_mask(lengths, x.shape[1])), lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid lats frames for `lengths` valid feats frames, int64."""
        for factor in self.config["downscale_factors"]:
            lengths = _ceil_divide(lengths, factor)
        return lengths


class FocalDecoder(nn.Module):
    """Decompressor: codes (B, N, input_dim) to qfeats (B, N * factor, output_dim).

    Parameters are those of `FocalEncoder`, and:

    Parameters
    ----------
    upscale_factors : sequence of int
        By how much each level multiplies the frame rate; `factor` is their product.
    causal : bool
        Past frames only, and the other frames of a chunk of 1 + lookahead_size frames.
    last_window_size : int, optional
        `window_size` of the last level; `window_size` when None.
    lookahead_size : int
        Frames that the refiner of a causal decompressor waits for.

    Example
    -------
    >>> import torch
    >>> decompressor = FocalDecoder(4, 8, hidden_dims=[6, 8], upscale_factors=[1, 2])
    >>> qfeats, lengths = decompressor(torch.randn(2, 3, 4), lengths=torch.tensor([3, 2]))
    >>> qfeats.shape, lengths.tolist()
    (torch.Size([2, 6, 8]), [6, 4])
    """

    def __init__(
        self,
        input_dim: int = 13,
        output_dim: int = 1024,
        hidden_dims: Sequence[int] = (256, 512, 1024),
        upscale_factors: Sequence[int] = (1, 1, 1),
        focal_window: int = 7,
        focal_level: int = 2,
        focal_factor: int = 2,
        dropout: float = 0.0,
        use_post_norm: bool = False,
        use_layerscale: bool = False,
        layerscale_init: float = 1e-4,
        normalize_modulator: bool = False,
        causal: bool = False,
        window_size: int = 512,
        last_window_size: int | None = None,
        lookahead_size: int = 3,
    ) -> None:
        super().__init__()
        _check_levels("upscale_factors", upscale_factors, hidden_dims)
        options = FocalOptions(
            focal_window=focal_window,
            focal_level=focal_level,
            focal_factor=focal_factor,
            dropout=dropout,
            use_post_norm=use_post_norm,
            use_layerscale=use_layerscale,
            layerscale_init=layerscale_init,
            normalize_modulator=normalize_modulator,
            causal=causal,
            window_size=window_size,
        )
        self.config: dict[str, Any] = {
            "input_dim": input_dim,
            "output_dim": output_dim,
            "hidden_dims": list(hidden_dims),
            "upscale_factors": list(upscale_factors),
            **options.to_dict(),
            "last_window_size": last_window_size,
            "lookahead_size": lookahead_size,
        }
        self.factor = math.prod(upscale_factors)
        self.in_proj = nn.Linear(input_dim, hidden_dims[0])
        last = options.with_window(last_window_size or window_size)
        level_options = [options] * (len(hidden_dims) - 1) + [last]
        widths = [*hidden_dims[1:], output_dim]
        self.layers = nn.ModuleList(
            _UpLevel(hidden, width, factor, level)
            for hidden, width, factor, level in zip(
                hidden_dims, widths, upscale_factors, level_options, strict=True
            )
        )
        self.refiner = _Refiner(output_dim, 1 + lookahead_size) if causal else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decompress codes, x (B, N, input_dim): qfeats, zero on padded frames, and their lengths.

        `lengths` (B,) int64 are the valid frames of x; None is all.
        """
        lengths = full_lengths(x) if lengths is None else lengths
        x = x.to(self.in_proj.weight.dtype)
        x = self.in_proj(zero_padding(x, valid_mask(lengths, x.shape[1])))  # (B, N, hidden_dims[0])
        for layer in self.layers:
            x, lengths = layer(x, lengths)  # (B, N * factors so far, width of the next level)
        mask = valid_mask(lengths, x.shape[1])
        x = zero_padding(x, mask)  # (B, N'', output_dim)
        if self.refiner is not None:
            x = zero_padding(self.refiner(x), mask)
        return x, lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid qfeats frames for `lengths` valid codes frames, int64."""
        return lengths * self.factor


class _Downscale(nn.Module):
    """Merge each `factor` frames into one; the last group is padded with zeros."""

    def __init__(self, input_dim: int, output_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.downscale = nn.Conv1d(input_dim, output_dim, factor, stride=factor)
        self.activation = Snake1d(output_dim)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = zero_padding(x, valid_mask(lengths, x.shape[1]))
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.factor))  # whole groups of frames
        # Kernel equal to stride: one matrix product, faster than a convolution.
        weight = self.downscale.weight.transpose(1, 2).flatten(1)
        x = x.unflatten(1, (-1, self.factor)).flatten(2)  # (B, N / factor, factor * input_dim)
        x = F.linear(x, weight, self.downscale.bias)  # (B, N / factor, output_dim)
        return self.activation(x), _ceil_divide(lengths, self.factor)


class _Upscale(nn.Module):
    """Split each frame into `factor` frames."""

    def __init__(self, input_dim: int, output_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.activation = Snake1d(input_dim)
        self.upscale = nn.ConvTranspose1d(input_dim, output_dim, factor, stride=factor)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.upscale.weight.permute(2, 1, 0).flatten(0, 1), self.upscale.bias
        x = F.linear(self.activation(x), weight)  # (B, N, factor * output_dim)
        x = x.unflatten(2, (self.factor, -1)) + bias  # (B, N, factor, output_dim)
        return x.flatten(1, 2), lengths * self.factor


class _DownLevel(nn.Module):
    """Fewer frames, then focal modulation among them."""

    def __init__(self, input_dim: int, dim: int, factor: int, options: FocalOptions) -> None:
        super().__init__()
        self.downscale = _Downscale(input_dim, dim, factor)
        self.focal_block = FocalBlock(dim, options)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self.downscale(x, lengths)
        return self.focal_block(x, valid_mask(lengths, x.shape[1])), lengths


class _UpLevel(nn.Module):
    """Focal modulation, then more frames."""

    def __init__(self, dim: int, output_dim: int, factor: int, options: FocalOptions) -> None:
        super().__init__()
        self.focal_block = FocalBlock(dim, options)
        self.upscale = _Upscale(dim, output_dim, factor)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.focal_block(x, valid_mask(lengths, x.shape[1]))
        return self.upscale(x, lengths)


class _Refiner(nn.Module):
    """Residual network over the flattened C frames of a chunk; the last chunk is zero-padded."""

    def __init__(self, dim: int, chunk_size: int) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.in_proj = nn.Linear(chunk_size * dim, chunk_size * dim)
        self.out_proj = nn.Linear(chunk_size * dim, chunk_size * dim)

    def forward(self, x: Tensor) -> Tensor:
        chunks = F.pad(x, (0, 0, 0, -x.shape[1] % self.chunk_size))
        chunks = chunks.reshape(x.shape[0], -1, self.chunk_size * x.shape[2])  # (B, chunks, C * D)
        refined = self.out_proj(F.gelu(self.in_proj(chunks)))
        return x + refined.reshape(x.shape[0], -1, x.shape[2])[:, : x.shape[1]]


def _ceil_divide(lengths: Tensor, factor: int) -> Tensor:
    return (lengths + factor - 1) // factor


def _check_levels(name: str, factors: Sequence[int], hidden_dims: Sequence[int]) -> None:
    if len(factors) != len(hidden_dims) or min(factors, default=0) < 1:
        raise UserError(
            f"{name}={list(factors)}: give one integer >= 1 for each of the "
            f"{len(hidden_dims)} hidden_dims {list(hidden_dims)}"
        )
