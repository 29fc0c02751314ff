"""Levels of the compressor and decompressor: focal modulation and a change of the frame rate.

Source: FocalCodec, arXiv 2502.04465, section 3 (offline models), and arXiv 2509.16195, section 2
(causal models).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.blocks.amp import AMPBlock
from focalcodec.blocks.conformer import ConformerBlock
from focalcodec.blocks.focal import Contexts, FocalBlock, FocalOptions
from focalcodec.blocks.linear import LinearBlock
from focalcodec.errors import UserError, one_line
from focalcodec.nn.adaptive_norm import Adaptation
from focalcodec.nn.layers import Snake1d
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.nn.packed import AsLinear
from focalcodec.nn.past import LeftContext, after_context

# State of a stream: the contexts of each layer, in the published order.
FocalState = list[Contexts]

BLOCKS = {"conformer": ConformerBlock, "amp": AMPBlock, "linear": LinearBlock}
_SLOPE = 0.1  # of the leaky ReLU, as in HiFi-GAN


class Variant(NamedTuple):
    """What a level has instead of focal modulation and Snake: other blocks are not causal."""

    block: str = "focal"
    block_options: Mapping[str, Any] | None = None
    activation: str = "snake"

    def make_block(self, dim: int, options: FocalOptions) -> nn.Module:
        """Block for x (B, N, dim); a `UserError` if there is none of this name or options."""
        if self.block == "focal" and not self.block_options:
            return FocalBlock(dim, 4 * dim, *options)
        if self.block not in BLOCKS:
            names = ", ".join(BLOCKS)
            raise UserError(
                f"block={self.block}: give focal, whose options are focal_window and others,"
                f" or {names}"
            )
        if options.causal:
            raise UserError(f"block={self.block}: needs later frames; a causal model needs focal")
        try:
            return BLOCKS[self.block](dim, options.dropout, **(self.block_options or {}))
        except TypeError as error:
            raise UserError(f"block_options of {self.block}: {one_line(error)}") from error

    def make_activation(self, dim: int) -> nn.Module:
        """Activation of x (B, N, dim); a `UserError` if there is none of this name."""
        if self.activation == "snake":
            return Snake1d(dim)
        if self.activation == "leaky_relu":
            return nn.LeakyReLU(_SLOPE)
        raise UserError(f"activation={self.activation}: give snake or leaky_relu")

    def config(self) -> dict[str, Any]:
        """What differs from the published models, for `config.json`."""
        given = self._asdict().items()
        return {key: value for key, value in given if value != self._field_defaults[key]}


PUBLISHED = Variant()


class DownScale(AsLinear):
    """Merge each `stride` frames into one, which `kernel_size` must equal.

    A group ends with its last frame if it is causal: the first one has copies of the first frame.
    Otherwise the last group is padded with zeros.
    """

    def __init__(
        self,
        input_dim: int = 1024,
        output_dim: int = 1024,
        kernel_size: int = 1,
        stride: int = 1,
        causal: bool = False,
        *,
        variant: Variant = PUBLISHED,
    ) -> None:
        super().__init__()
        _check_kernel(kernel_size, stride)
        self.factor, self.causal = stride, causal
        self.downscale = nn.Conv1d(input_dim, output_dim, kernel_size, stride)
        self.activation = variant.make_activation(output_dim)

    def forward(
        self, input: Tensor, left_context: LeftContext | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, LeftContext | None]:
        """Map (B, N, input_dim) to (B, ceil(N / stride), output_dim), and give the next context.

        `mask` (B, N) bool is True on valid frames; None is all.
        """
        x = input if mask is None else zero_padding(input, mask)
        context = None
        if self.causal:
            x, context = _after(x, left_context, self.factor - 1)
            x = x[:, : x.shape[1] // self.factor * self.factor]
        else:
            x = F.pad(x, (0, 0, 0, -x.shape[1] % self.factor))  # whole groups of frames
        x = x.unflatten(1, (-1, self.factor)).flatten(2)  # (B, N / factor, factor * input_dim)
        x = self.apply_matrix(x)  # (B, N / factor, output_dim)
        return self.activation(x), context

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Kernel equal to stride: one matrix product, faster than a convolution."""
        return self.downscale.weight.transpose(1, 2).flatten(1), self.downscale.bias


class UpScale(AsLinear):
    """Split each frame into `stride` frames, which `kernel_size` must equal."""

    def __init__(
        self,
        input_dim: int = 1024,
        output_dim: int = 1024,
        kernel_size: int = 1,
        stride: int = 1,
        causal: bool = False,
        *,
        variant: Variant = PUBLISHED,
    ) -> None:
        super().__init__()
        _check_kernel(kernel_size, stride)
        self.factor, self.causal = stride, causal
        self.activation = variant.make_activation(input_dim)
        self.upscale = nn.ConvTranspose1d(input_dim, output_dim, kernel_size, stride)

    def forward(
        self, input: Tensor, left_context: LeftContext | None = None
    ) -> tuple[Tensor, LeftContext | None]:
        """Map (B, N, input_dim) to (B, N * stride, output_dim).

        No frame needs a context. A causal one gives it nevertheless, as the official class.
        """
        context = _after(input, left_context, self.factor - 1)[1] if self.causal else None
        x = self.apply_matrix(self.activation(input))  # (B, N, factor * output_dim)
        x = x.unflatten(2, (self.factor, -1)) + self.upscale.bias  # (B, N, factor, output_dim)
        return x.flatten(1, 2), context

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Kernel equal to stride; the bias, one for all frames of a group, is added later."""
        return self.upscale.weight.permute(2, 1, 0).flatten(0, 1), None


class FocalDownScale(nn.Module):
    """Fewer frames, then focal modulation among them.

    `options` are those of `FocalOptions`, by name or in their order.
    """

    def __init__(
        self,
        input_dim: int = 1024,
        output_dim: int = 1024,
        downscale_factor: int = 1,
        *options: Any,
        variant: Variant = PUBLISHED,
        **named_options: Any,
    ) -> None:
        super().__init__()
        chosen = FocalOptions(*options, **named_options)
        self.factor = downscale_factor
        self.downscale = DownScale(
            *(input_dim, output_dim, downscale_factor, downscale_factor, chosen.causal),
            variant=variant,
        )
        self.focal_block = variant.make_block(output_dim, chosen)

    def forward(
        self,
        input: Tensor,
        left_contexts: Contexts | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Contexts]:
        """Map (B, N, input_dim) to (B, ceil(N / factor), output_dim), and give the next contexts.

        `lengths` (B,) int64 are the valid frames of the input, None is all.
        """
        first, rest = (left_contexts[0], left_contexts[1:]) if left_contexts else (None, None)
        mask = None if lengths is None else valid_mask(lengths, input.shape[1])
        x, context = self.downscale(input, first, mask)
        if lengths is not None:
            mask = valid_mask(self.output_lengths(lengths), x.shape[1])
        x, contexts = self.focal_block(x, rest, mask)
        return x, [context, *contexts]

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames of the output for `lengths` valid frames."""
        return (lengths + self.factor - 1) // self.factor


class FocalUpScale(nn.Module):
    """Focal modulation, then more frames.

    `options` are those of `FocalOptions`, by name or in their order.
    """

    def __init__(
        self,
        input_dim: int = 1024,
        output_dim: int = 1024,
        upscale_factor: int = 1,
        *options: Any,
        variant: Variant = PUBLISHED,
        **named_options: Any,
    ) -> None:
        super().__init__()
        chosen = FocalOptions(*options, **named_options)
        self.factor = upscale_factor
        self.focal_block = variant.make_block(input_dim, chosen)
        self.upscale = UpScale(
            *(input_dim, output_dim, upscale_factor, upscale_factor, chosen.causal), variant=variant
        )

    def forward(
        self,
        input: Tensor,
        left_contexts: Contexts | None = None,
        lengths: Tensor | None = None,
        adaptations: Sequence[Adaptation] = (),
    ) -> tuple[Tensor, Contexts]:
        """Map (B, N, input_dim) to (B, N * factor, output_dim), and give the next contexts.

        `lengths` (B,) int64 are the valid frames of the input, None is all. `adaptations` are those
        of a focal block.
        """
        first, last = (left_contexts[:-1], left_contexts[-1]) if left_contexts else (None, None)
        mask = None if lengths is None else valid_mask(lengths, input.shape[1])
        how = [adaptations] if adaptations else []
        x, contexts = self.focal_block(input, first, mask, *how)
        x, context = self.upscale(x, last)
        return x, [*contexts, context]

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames of the output for `lengths` valid frames."""
        return lengths * self.factor


class ChunkFeedForward(nn.Module):
    """Residual network over the flattened C frames of a chunk; the last chunk is zero-padded."""

    def __init__(
        self, chunk_size: int = 4, dim: int = 1024, ffn_dim: int = 4096, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.in_proj = nn.Linear(chunk_size * dim, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, chunk_size * dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., N, dim) to (..., N, dim)."""
        num_frames, dim = input.shape[-2:]
        x = F.pad(input, (0, 0, 0, -num_frames % self.chunk_size))
        x = x.flatten(-2).unflatten(-1, (-1, self.chunk_size * dim))  # (..., chunks, C * dim)
        x = self.dropout(self.out_proj(self.dropout(F.gelu(self.in_proj(x)))))
        return input + x.flatten(-2).unflatten(-1, (-1, dim))[..., :num_frames, :]


def through_layers(
    layers: Iterable[Any],
    x: Tensor,
    state: FocalState | None,
    lengths: Tensor | None = None,
    adaptations: Sequence[Sequence[Adaptation]] = (),
) -> tuple[Tensor, FocalState]:
    """Output of all layers, (B, N', D), and the state after it; without states if with lengths.

    `adaptations` of each layer, if there are any, are by the vector of an utterance.
    """
    states = []
    for number, layer in enumerate(layers):
        how = adaptations[number : number + 1]
        x, contexts = layer(x, state[number] if state else None, lengths, *how)
        if lengths is not None:
            lengths = layer.output_lengths(lengths)
        states.append(contexts)
    return x, states


def _after(x: Tensor, context: LeftContext | None, size: int) -> tuple[Tensor, LeftContext]:
    """Frames x (B, N, D) after the last `size` ones, and the context for the next call.

    The official state of a layer that needs no context is one frame, which is ignored.
    """
    if size == 0:
        return x, x[:, -1:].clone()
    return after_context(x, context, size)


def _check_kernel(kernel_size: int, stride: int) -> None:
    if kernel_size != stride:
        raise UserError(f"kernel_size={kernel_size}, stride={stride}: give the same number")
