"""The convolutions of WavLM: from a waveform to 50 frames a second.

Source: WavLM, arXiv 2110.13900, section III; the causal form is the one of arXiv 2509.16195.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.layers import blocks_allowed, convolve
from focalcodec.nn.masking import masked_mean, valid_mask, zero_padding
from focalcodec.nn.packed import Packable, PackedConv1d
from focalcodec.nn.past import LeftContext, Past, after_context, pad_frames

# Bytes of samples of the whole batch in one block. On a CPU the first layer's frames, which have a
# hundred times as many bytes, should stay in the cache and below 32 MB: for larger memory glibc
# asks for new pages every time. An accelerator needs large blocks.
_BLOCK_BYTES = {"cpu": 2**17, "other": 2**24}


def conv_lengths(lengths: Tensor, kernel_size: int, stride: int, causal: bool = False) -> Tensor:
    """Frames that a strided convolution gives for inputs of `lengths` frames, int64 of any shape.

    An input shorter than the kernel is padded to it; a causal convolution pads `kernel_size` - 1
    frames on the left.
    """
    spare = lengths - 1 if causal else lengths - kernel_size
    return spare.clamp(min=0) // stride + 1


class TimeNorm(nn.Module):
    """Normalise each channel over the valid frames: a group norm with one channel a group."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D); `mask` (B, N) bool is True on valid frames."""
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        centred = x - masked_mean(x, mask)  # (B, N, D)
        variance = masked_mean(centred.square(), mask)  # (B, 1, D)
        return centred * torch.rsqrt(variance + 1e-5) * self.weight + self.bias


class ConvBlock(Packable):
    """Strided convolution, dropout, normalisation, GELU.

    `norm` is "layer" (LayerNorm over channels), "time" (`TimeNorm`) or None; `causal` pads on the
    left only, with copies of the first frame.
    """

    def __init__(
        self,
        input_dim: int = 512,
        output_dim: int = 512,
        kernel_size: int = 10,
        stride: int = 5,
        bias: bool = False,
        dropout: float = 0.0,
        causal: bool = False,
        *,
        norm: str | None = "layer",
    ) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(input_dim, output_dim, kernel_size, stride, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.norm: nn.Module | None = None
        if norm is not None:
            self.norm = nn.LayerNorm(output_dim) if norm == "layer" else TimeNorm(output_dim)

    def forward(
        self, input: Tensor, left_context: LeftContext | None = None
    ) -> tuple[Tensor, LeftContext | None]:
        """Map input (B, N, C) to (B, N', C'); if causal, also to its last frames (B, K - 1, C).

        They are the `left_context` of what follows; at the start of a clip it is None.
        """
        x, context = self._padded(input, left_context)
        return self._normalised(self._convolve(x), None), context

    def run(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Map x (B, N, C), zeros on padded frames, to (B, N', C') likewise, and its lengths.

        `lengths` (B,) int64 are the valid frames; None is all valid.
        """
        y = self._convolve(self._padded(x)[0])  # (B, N', C')
        if lengths is None:
            return self._normalised(y, None), None
        lengths = self.output_lengths(lengths)
        mask = valid_mask(lengths, y.shape[1])
        return zero_padding(self._normalised(y, mask), mask), lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames for inputs of `lengths` frames, int64 of any shape."""
        kernel_size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        return conv_lengths(lengths, kernel_size, stride, self.causal)

    def _padded(self, x: Tensor, left_context: LeftContext | None = None) -> tuple[Tensor, Any]:
        kernel_size = self.conv.kernel_size[0]
        if self.causal:
            return after_context(x, left_context, kernel_size - 1)
        missing: Any = kernel_size - x.shape[1]
        if torch.jit.is_tracing():  # sizes are tensors
            missing = torch.as_tensor(missing).clamp(min=0)
            return pad_frames(x, 0, missing), None
        return (x if missing <= 0 else pad_frames(x, 0, missing)), None

    def _convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        if self.packed is not None:
            return self.packed(x)
        return self.dropout(convolve(x, conv.weight, conv.bias, stride=conv.stride[0]))

    def packed_form(self, precision: str) -> PackedConv1d:
        """The convolution alone."""
        return PackedConv1d(self.conv, precision)

    def _normalised(self, y: Tensor, mask: Tensor | None) -> Tensor:
        if isinstance(self.norm, TimeNorm):
            y = self.norm(y, mask)
        elif self.norm is not None:
            y = self.norm(y)
        return F.gelu(y)


class FeatureExtractor(nn.Module):
    """The stack of strided convolutions: sig (B, T) to (B, N, C).

    Without gradients it runs in blocks of time: a long clip takes the memory of a short one, and
    each layer's input is still in the cache. `norm` is "layer", a LayerNorm in every layer (large),
    or "group", a group norm over time in the first only (base); `causal` and `dropout` are those of
    `ConvBlock`.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        norm: str = "layer",
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.causal = causal
        # a norm over time needs the whole clip
        self.frame_by_frame = norm != "group"
        norms: list[str | None] = ["layer"] * len(hidden_dims)
        if norm == "group":
            norms = ["time"] + [None] * (len(hidden_dims) - 1)
        in_dims = [1, *hidden_dims[:-1]]
        self.layers = nn.ModuleList(
            ConvBlock(*sizes, dropout=dropout, causal=causal, norm=norm)
            for sizes, norm in zip(
                zip(in_dims, hidden_dims, kernel_sizes, strides, strict=True), norms, strict=True
            )
        )
        self.hop = math.prod(strides)
        reach = [(k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernel_sizes)]
        self.receptive_field = 1 + sum(reach)

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Map sig (B, T), zeros on padded samples, to (B, N, C) and its lengths."""
        block = _block_samples(sig)
        if not self.frame_by_frame or not blocks_allowed() or sig.shape[1] <= block:
            return self._convolve(sig, lengths)
        blocks = self._blocks(sig, lengths, max(1, block // self.hop))
        x = torch.cat(list(blocks), dim=1)
        if lengths is None:
            return x, None
        lengths = self.output_lengths(lengths)
        return zero_padding(x, valid_mask(lengths, x.shape[1])), lengths

    def step(
        self, sig: Tensor, contexts: Sequence[LeftContext | None] | None = None
    ) -> tuple[Tensor, list[LeftContext | None]]:
        """Map the next samples of a stream (B, T) to (B, N, C), and the `contexts` for its next.

        `contexts`, one of each layer, are what this returned for the samples before; None at the
        start. Without gradients it runs in blocks too.
        """
        if not self.frame_by_frame:
            raise UserError(
                "extractor_norm: 'group' is over the whole clip; a stream needs 'layer'"
            )
        pieces: Sequence[Tensor] = [sig]
        if blocks_allowed() and not (contexts and isinstance(contexts[0], Past)):
            pieces = sig.split(max(1, _block_samples(sig) // self.hop) * self.hop, dim=1)
        blocks = []
        kept = list(contexts or [None] * len(self.layers))
        for piece in pieces:
            x = piece[:, :, None]  # (B, T, 1)
            for i, layer in enumerate(self._convs):
                x, kept[i] = layer(x, kept[i])  # fewer frames, C channels
            blocks.append(x)
        return torch.cat(blocks, dim=1), kept

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames for clips of `lengths` samples, int64 of any shape."""
        for layer in self._convs:
            lengths = layer.output_lengths(lengths)
        return lengths

    @property
    def _convs(self) -> list[ConvBlock]:
        return cast(list[ConvBlock], list(self.layers))

    def _blocks(self, sig: Tensor, lengths: Tensor | None, size: int) -> Iterator[Tensor]:
        """Frames in blocks of `size`, each from exactly the samples that they depend on."""
        # The first frames of a causal block depend on samples before it: the block starts early,
        # and these frames are computed and dropped.
        past = -(-(self.receptive_field - 1) // self.hop) if self.causal else 0
        future = 1 if self.causal else self.receptive_field
        num_frames = int(self.output_lengths(torch.tensor(sig.shape[1])))
        for first in range(0, num_frames, size):
            last = min(first + size, num_frames) - 1
            warm_up = min(past, first)
            start = (first - warm_up) * self.hop
            block = sig[:, start : last * self.hop + future]  # (B, samples)
            here = None if lengths is None else (lengths - start).clamp(0, block.shape[1])
            yield self._convolve(block, here)[0][:, warm_up:]

    def _convolve(self, sig: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = sig[:, :, None]  # (B, T, 1)
        for layer in self._convs:
            x, lengths = layer.run(x, lengths)  # fewer frames, C channels
        return x, lengths


def _block_samples(sig: Tensor) -> int:
    """Samples of each item of sig (B, T) in one block."""
    size = _BLOCK_BYTES.get(sig.device.type, _BLOCK_BYTES["other"])
    return size // (sig.shape[0] * sig.element_size())
