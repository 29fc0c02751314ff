"""Compressor and decompressor: focal modulation between convolutions that change the rate.

Sources: FocalCodec, arXiv 2502.04465, section 3 (offline models), and arXiv 2509.16195, section 2
(causal models); focal modulation itself from Yang et al., arXiv 2203.11926.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from focalcodec.blocks.focal import FocalModulation, FocalOptions
from focalcodec.blocks.levels import (
    ChunkFeedForward,
    DownScale,
    FocalDownScale,
    FocalState,
    FocalUpScale,
    UpScale,
    Variant,
    through_layers,
)
from focalcodec.errors import UserError
from focalcodec.nn.adaptive_norm import AdaptiveNorm
from focalcodec.nn.layers import DynamicTanh, Snake1d, project_to_sphere
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.nn.official import CompressorView, refuse_lengths, scripted
from focalcodec.nn.voice import VALUES, VoicePool

__all__ = [
    "ChunkFeedForward",
    "DownScale",
    "DynamicTanh",
    "FocalDecoder",
    "FocalDownScale",
    "FocalEncoder",
    "FocalModulation",
    "FocalUpScale",
    "Snake1d",
    "UpScale",
]


class FocalEncoder(nn.Module):
    """Compressor: feats (B, N, input_dim) to lats (B, ceil(N / factor), output_dim).

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
    layerscale_init, tanhscale_init : float
        Initial values of LayerScale, and of DynamicTanh, which a causal model has as norm.
    causal : bool
        Past frames only.
    window_size : int
        Frames of the causal convolution that replaces the mean over time; causal only.
    block, block_options, activation : str, dict, str
        Instead of focal modulation `conformer`, `amp` or `linear`, with the options of its class in
        `focalcodec/blocks/`; instead of Snake `leaky_relu`. For ablations.
    unit_norm : bool
        Whether lats are scaled to norm 1, as spherical quantizers need.
    voice_tokens : int
        Tokens of the vector of an utterance, which `voice` pools from the feats; 0 for none.

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
        output_dim: int = 12,
        hidden_dims: Sequence[int] = (1024, 1024, 1024),
        downscale_factors: Sequence[int] = (1, 1, 1),
        focal_window: int = 14,
        focal_level: int = 2,
        focal_factor: int = 4,
        dropout: float = 0.0,
        use_post_norm: bool = False,
        use_layerscale: bool = False,
        layerscale_init: float = 1e-4,
        tanhscale_init: float = 0.5,
        normalize_modulator: bool = False,
        causal: bool = False,
        window_size: int = 512,
        *,
        block: str = "focal",
        block_options: Mapping[str, Any] | None = None,
        activation: str = "snake",
        unit_norm: bool = True,
        voice_tokens: int = 0,
    ) -> None:
        super().__init__()
        _check_levels("downscale_factors", downscale_factors, hidden_dims)
        variant = Variant(block, block_options, activation)
        options = FocalOptions(
            *(focal_window, focal_level, focal_factor, dropout, use_post_norm, use_layerscale),
            *(layerscale_init, tanhscale_init, normalize_modulator, causal, window_size),
        )
        self.config = _set_arguments(
            self,
            {
                "input_dim": input_dim,
                "output_dim": output_dim,
                "hidden_dims": list(hidden_dims),
                "downscale_factors": list(downscale_factors),
            },
            options,
            **variant.config(),
            **({} if unit_norm else {"unit_norm": False}),
            **_if_any(voice_tokens),
        )
        self.causal, self.unit_norm = causal, unit_norm
        self.factor = self.downsample_factor = self.chunk_size = math.prod(downscale_factors)
        widths = [input_dim, *hidden_dims]
        self.layers = nn.ModuleList(
            FocalDownScale(width, hidden, factor, *options, variant=variant)
            for width, hidden, factor in zip(
                widths[:-1], hidden_dims, downscale_factors, strict=True
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(widths[-1], output_dim)
        self.voice_tokens = voice_tokens
        self.voice = VoicePool(input_dim, voice_tokens) if voice_tokens else None

    def forward(
        self,
        input: Tensor,
        left_contexts: FocalState | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """`run` if `lengths` are given; else what the official class gives.

        That is lats whose norm is not 1, of the frames after `left_contexts`, and the contexts of
        the next frames.
        """
        if lengths is not None:
            return self.run(input, lengths)
        refuse_lengths(left_contexts)
        return self._compress(input, left_contexts)

    def run(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compress feats, x (B, N, input_dim): lats, zero on padded frames, and their lengths.

        `lengths` (B,) int64 are the valid frames of x; None is all.
        """
        lats = self._norm(self._compress(x, lengths=lengths)[0])  # (B, N', output_dim)
        if lengths is None:
            return lats, full_lengths(lats)
        lengths = self.output_lengths(lengths)
        return zero_padding(lats, valid_mask(lengths, lats.shape[1])), lengths

    def step(self, x: Tensor, state: FocalState | None = None) -> tuple[Tensor, FocalState]:
        """Compress the next frames of a stream: their lats, and the state after them.

        x (B, N, input_dim) has a multiple of `factor` frames; `state` is None at the start. The
        compressor must be causal.
        """
        lats, state = self._compress(x, state)
        return self._norm(lats), state

    def _norm(self, lats: Tensor) -> Tensor:
        return project_to_sphere(lats) if self.unit_norm else lats

    def _compress(
        self, x: Tensor, state: FocalState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, FocalState]:
        x, state = through_layers(self.layers, x.to(self.out_proj.weight.dtype), state, lengths)
        return self.out_proj(self.dropout(x)), state

    def __prepare_scriptable__(self) -> nn.Module:
        example = self.out_proj.weight.new_zeros(2, 8 * self.chunk_size, self.config["input_dim"])
        return scripted(self, example, CompressorView)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid lats frames for `lengths` valid feats frames, int64."""
        for factor in self.config["downscale_factors"]:
            lengths = (lengths + factor - 1) // factor
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
        Frames that the refiner of a causal decompressor waits for; 0 for no refiner.
    refiner_dim : int, optional
        Hidden width of the refiner; None is that of the published models, the values of a chunk.
        The official package loads only configurations without it.
    voice_tokens : int
        Tokens of the vector that `run` takes as `voice`; 0 for none.

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
        input_dim: int = 12,
        output_dim: int = 1024,
        hidden_dims: Sequence[int] = (1024, 1024, 1024),
        upscale_factors: Sequence[int] = (1, 1, 1),
        focal_window: int = 14,
        focal_level: int = 2,
        focal_factor: int = 4,
        dropout: float = 0.0,
        use_post_norm: bool = False,
        use_layerscale: bool = False,
        layerscale_init: float = 1e-4,
        tanhscale_init: float = 0.5,
        normalize_modulator: bool = False,
        causal: bool = False,
        window_size: int = 512,
        last_window_size: int | None = 512,
        lookahead_size: int = 3,
        *,
        refiner_dim: int | None = None,
        block: str = "focal",
        block_options: Mapping[str, Any] | None = None,
        activation: str = "snake",
        voice_tokens: int = 0,
    ) -> None:
        super().__init__()
        _check_levels("upscale_factors", upscale_factors, hidden_dims)
        variant = Variant(block, block_options, activation)
        options = FocalOptions(
            *(focal_window, focal_level, focal_factor, dropout, use_post_norm, use_layerscale),
            *(layerscale_init, tanhscale_init, normalize_modulator, causal, window_size),
        )
        sizes: dict[str, Any] = {"input_dim": input_dim, "output_dim": output_dim}
        sizes |= {"hidden_dims": list(hidden_dims), "upscale_factors": list(upscale_factors)}
        more: dict[str, Any] = {
            "last_window_size": last_window_size,
            "lookahead_size": lookahead_size,
        }
        more |= {} if refiner_dim is None else {"refiner_dim": refiner_dim}
        more |= variant.config() | _if_any(voice_tokens)
        self.config = _set_arguments(self, sizes, options, **more)
        self.factor = self.upsample_factor = math.prod(upscale_factors)
        chunk = self.chunk_size = 1 + lookahead_size
        self.in_proj = nn.Linear(input_dim, hidden_dims[0])
        self.dropout = nn.Dropout(dropout)
        last = options._replace(window_size=last_window_size or window_size)
        level_options = [options] * (len(hidden_dims) - 1) + [last]
        widths = [*hidden_dims[1:], output_dim]
        levels = zip(hidden_dims, widths, upscale_factors, level_options, strict=True)
        self.layers = nn.ModuleList(
            FocalUpScale(hidden, width, factor, *level, variant=variant)
            for hidden, width, factor, level in levels
        )
        self.refiner: nn.Module = nn.Identity()
        if causal and lookahead_size > 0:
            width = refiner_dim or chunk * output_dim
            self.refiner = ChunkFeedForward(chunk, output_dim, width, dropout)
        self.voice_tokens = voice_tokens
        self.adaptive_norms = _adaptive_norms(voice_tokens, hidden_dims, block)

    def forward(
        self,
        input: Tensor,
        left_contexts: FocalState | None = None,
        *,
        lengths: Tensor | None = None,
        voice: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """`run` if lengths or voice are given; else `step`, as the official class."""
        if lengths is not None or voice is not None:
            return self.run(input, lengths, voice)
        refuse_lengths(left_contexts)
        return self.step(input, left_contexts)

    def run(
        self, x: Tensor, lengths: Tensor | None = None, voice: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decompress codes, x (B, N, input_dim): qfeats, zero on padded frames, and their lengths.

        `lengths` (B,) int64 are the valid frames of x; None is all. `voice` (B, 6 * voice_tokens)
        is the vector of each utterance; None and zeros are none.
        """
        if lengths is None and voice is None:
            qfeats, _ = self.step(x)
            return qfeats, full_lengths(qfeats)
        lengths = full_lengths(x) if lengths is None else lengths
        how = [] if voice is None else [norm(voice) for norm in self.adaptive_norms]
        x = self._project(zero_padding(x, valid_mask(lengths, x.shape[1])))
        x, _ = through_layers(self.layers, x, None, lengths, how)  # (B, N'', output_dim)
        lengths = self.output_lengths(lengths)
        mask = valid_mask(lengths, x.shape[1])
        return zero_padding(self.refiner(zero_padding(x, mask)), mask), lengths

    def step(self, x: Tensor, state: FocalState | None = None) -> tuple[Tensor, FocalState]:
        """Decompress the next frames of a stream: their qfeats, and the state after them.

        x (B, N, input_dim) is a whole number of chunks, and `state` is None at the start. The
        decompressor must be causal.
        """
        x, state = through_layers(self.layers, self._project(x), state)
        return self.refiner(x), state

    def _project(self, x: Tensor) -> Tensor:
        return self.dropout(self.in_proj(x.to(self.in_proj.weight.dtype)))

    def __prepare_scriptable__(self) -> nn.Module:
        example = self.in_proj.weight.new_zeros(2, 2 * self.chunk_size, self.config["input_dim"])
        return scripted(self, example, CompressorView)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid qfeats frames for `lengths` valid codes frames, int64."""
        return lengths * self.factor


def _set_arguments(
    part: nn.Module, sizes: dict[str, Any], options: FocalOptions, **more: Any
) -> dict[str, Any]:
    """Set the arguments of a constructor as attributes; the configuration, ready for JSON."""
    config = sizes | options._asdict() | more
    for name, value in config.items():
        setattr(part, "dropout_" if name == "dropout" else name, value)
    if options.tanhscale_init == FocalOptions().tanhscale_init:
        # as before it was an argument: the hash of a codec depends on its configuration
        del config["tanhscale_init"]
    if not options.causal and config.get("last_window_size") == 512:
        config["last_window_size"] = None  # it is not used; for the hash, too
    return config


def _if_any(voice_tokens: int) -> dict[str, int]:
    """Only where there is a vector: the hash of a codec depends on its configuration."""
    return {"voice_tokens": voice_tokens} if voice_tokens else {}


def _adaptive_norms(voice_tokens: int, hidden_dims: Sequence[int], block: str) -> nn.ModuleList:
    """Norms of each level that the vector of an utterance adapts; none without a vector."""
    if voice_tokens and block != "focal":
        raise UserError(f"block={block}: takes no vector of an utterance; set voice_tokens to 0")
    widths = hidden_dims if voice_tokens else ()
    return nn.ModuleList(AdaptiveNorm(VALUES * voice_tokens, width, branches=2) for width in widths)


def _check_levels(name: str, factors: Sequence[int], hidden_dims: Sequence[int]) -> None:
    if len(factors) != len(hidden_dims) or min(factors, default=0) < 1:
        raise UserError(
            f"{name}={list(factors)}: give one integer >= 1 for each of the "
            f"{len(hidden_dims)} hidden_dims {list(hidden_dims)}"
        )
