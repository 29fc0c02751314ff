"""Small layers that several networks use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.masking import zero_padding
from focalcodec.nn.packed import Packable, PackedConv1d
from focalcodec.nn.past import LeftContext, after_context, pad_frames

# Number of frames with 4096 hidden channels that fit into the cache of a CPU, and are below 32 MB:
# for larger memory glibc asks the system for new pages every time.
_CPU_FRAMES = 1024

_FEW_ROWS = 64  # of a matrix product
_LONG_KERNEL = 32  # frames


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1
) -> Tensor:
    """`F.conv1d` without padding: x (B, N, C) to (B, N', D), weight (D, C / groups, K)."""
    depthwise = groups > 1 and weight.shape[1] == 1
    rows = x.shape[0] * (x.shape[1] - weight.shape[2] + 1)
    if groups > 1 and not depthwise and _few(rows) and stride == 1 and x.device.type == "cpu":
        return _convolve_groups(x, weight, bias, groups)
    if depthwise and stride == 1 and _trains_long_kernel(x, weight):
        return _convolve_by_fft(x, weight, bias)
    x = x.transpose(1, 2)
    # Measured on CPUs: conv2d trains long kernels up to three times slower. Without gradients it
    # takes half the time of conv1d, but does not return for long depth-wise kernels of 16 channels
    # or fewer in bfloat16 (torch 2.13).
    fast = x.dtype == torch.float32 and x.shape[1] > 16
    long = weight.shape[2] > 16 and (torch.is_grad_enabled() or (depthwise and not fast))
    if long or x.device.type != "cpu":
        return F.conv1d(x, weight, bias, stride, groups=groups).transpose(1, 2)
    # (B, N, C) in memory is an image of height 1 in channels-last order: conv2d takes it without
    # the copies that conv1d makes before and after, up to ten times faster if depth-wise
    y = F.conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), groups=groups)
    return y[:, :, 0].transpose(1, 2)


def _few(rows: int) -> bool:
    """Whether a step of a stream has so few frames that reading the weights takes the time."""
    return not torch.is_grad_enabled() and not torch.jit.is_tracing() and rows <= _FEW_ROWS


def _trains_long_kernel(x: Tensor, weight: Tensor) -> bool:
    """Whether `_convolve_by_fft` trains it faster; it has float32 alone, and rounds otherwise."""
    return (
        weight.shape[2] >= _LONG_KERNEL
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not is_traced()
    )


def _convolve_by_fft(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve` of each channel alone, as a product of spectra.

    On one core, output and gradients take 0.2 to 0.6 of the time of conv1d with a kernel of 64
    frames, 0.17 with 128 and 0.07 with 512.
    """
    step = 1 << max(x.shape[1].bit_length() - 4, 0)
    length = -(-x.shape[1] // step) * step  # 8 to 16 times a power of two: the FFT is fast
    spectrum = torch.fft.rfft(x.transpose(1, 2), length)  # (B, C, length / 2 + 1)
    kernel = torch.fft.rfft(weight[:, 0], length)  # (C, length / 2 + 1)
    y = torch.fft.irfft(spectrum * kernel.conj(), length)[..., : x.shape[1] - weight.shape[2] + 1]
    return (y if bias is None else y + bias[:, None]).transpose(1, 2)


def _convolve_groups(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """`convolve` as one matrix product a group: 25 times faster than conv2d for four frames."""
    windows = x.unfold(1, weight.shape[2], 1)  # (B, N', C, K)
    batch, frames = windows.shape[:2]
    windows = windows.reshape(batch * frames, groups, -1).transpose(0, 1)  # (G, B * N', C / G * K)
    matrices = weight.reshape(groups, -1, windows.shape[2])  # (G, D / G, C / G * K)
    y = (windows @ matrices.mT).transpose(0, 1).reshape(batch, frames, -1)  # (B, N', D)
    return y if bias is None else y + bias


def is_traced() -> bool:
    """Whether a program for any number of frames is made from this call."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def blocks_allowed() -> bool:
    """Whether to work in blocks: not if autograd stores all of them, or in a traced program."""
    return not torch.is_grad_enabled() and not is_traced()


def by_frames(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function that maps each frame alone, (B, N, C) to (B, N, D), a block at a time.

    The values are the same; a block needs less memory and stays in the cache.
    """
    size = max(1, _CPU_FRAMES // x.shape[0])
    if x.device.type != "cpu" or not blocks_allowed() or x.shape[1] <= size:
        return function(x)
    return torch.cat([function(block) for block in x.split(size, dim=1)], dim=1)


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, dim: int = 1024, ffn_dim: int = 4096, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, dim) to (B, N, dim), frame by frame."""
        return by_frames(self._map, x)

    def _map(self, x: Tensor) -> Tensor:
        return self.dropout(self.out_proj(self.dropout(F.gelu(self.in_proj(x)))))


class MaskedConv1d(nn.Conv1d, Packable):
    """Convolution over time that keeps the number of frames and ignores padded frames.

    An output frame has `kernel_size` input frames: half past and half future, or past ones only if
    `causal`. Before the first frame a causal convolution has copies of it ("replicate") or zeros
    ("constant").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        groups: int = 1,
        causal: bool = False,
        causal_padding: str = "replicate",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self.left = kernel_size - 1 if causal else (kernel_size - 1) // 2
        self.right = kernel_size - 1 - self.left
        self.repeat = causal and causal_padding == "replicate"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, N, in_channels) to (B, N, out_channels).

        `mask` (B, N) is True on valid frames, None is all; padded frames of the result have
        arbitrary values.
        """
        x = x if mask is None else zero_padding(x, mask)
        return self._convolve(pad_frames(x, self.left, self.right, self.repeat))

    def step(self, x: Tensor, context: LeftContext | None = None) -> tuple[Tensor, LeftContext]:
        """Map the next frames of a stream, x (B, N, in_channels); it must be causal.

        `context` (B, kernel_size - 1, in_channels) are the frames before them, None at the start.
        The second result is the context of the next step.
        """
        x, context = after_context(x, context, self.left, self.repeat)
        return self._convolve(x), context

    def packed_form(self, precision: str) -> PackedConv1d:
        """The convolution without padding."""
        return PackedConv1d(self, precision)

    def _convolve(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return self.packed(x)
        return convolve(x, self.weight, self.bias, groups=self.groups)


class Snake1d(nn.Module):
    """Periodic activation x + sin(a x)^2 / a, with one learned a for each of `dim` channels.

    Source: Ziyin et al., "Neural networks fail to learn periodic functions" (2020), equation 3.
    """

    def __init__(self, dim: int = 1024) -> None:
        super().__init__()
        self.dim = dim
        self.alpha = nn.Parameter(torch.ones(dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x of shape (B, N, dim)."""
        alpha = self.alpha[:, 0]
        return x + (alpha * x).sin().square() / (alpha + 1e-9)


class DynamicTanh(nn.Module):
    """tanh(a x) with one learned scalar a, used instead of a norm because it needs no statistics.

    a is `tanhscale_init` at first. The published class has `normalized_shape` too; it is not used.
    Source: Zhu et al., "Transformers without normalization" (2025), without its affine part.
    """

    def __init__(self, normalized_shape: int | Sequence[int], tanhscale_init: float = 0.5) -> None:
        super().__init__()
        self.normalized_shape, self.tanhscale_init = normalized_shape, tanhscale_init
        self.alpha = nn.Parameter(torch.full((1,), tanhscale_init))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x of any shape."""
        return (self.alpha * x).tanh()


def project_to_sphere(x: Tensor) -> Tensor:
    """Divide x (..., D) by the Euclidean norm of its last dimension; a zero vector stays zero.

    The gradient of a zero vector passes unchanged; division by a small constant would give
    gradients of 1e12.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, 1.0)


class AtLeastFloat32(nn.Module):
    """A module that stays in float32 if the model is cast to fewer bits, by `half()` or `to`.

    A spectrum and an output waveform need more than 8 bits of mantissa. So do means of layers,
    because some channels are a hundred times as large as their variation. Each of these takes at
    most a few percent of the time.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AtLeastFloat32:
        def change(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if not changed.is_floating_point() or changed.element_size() >= 4:
                return changed
            return tensor.to(changed.device, torch.float32)

        return super()._apply(change, recurse)
