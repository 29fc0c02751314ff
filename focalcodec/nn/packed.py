"""Weights of linear maps in the layout of a processor's fastest product, for inference.

With a few rows, as in a step of a stream, reading the weights takes the time. `PackedLinear` reads
them once, in float32, bfloat16 (half the bytes) or 8-bit integers (a quarter), and `PackedConv1d`
is made of it. This is the only file that uses torch's quantized operators, which are to be replaced
in later versions of torch, and oneDNN's packed ones.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError

PACKED = ("float32", "bfloat16", "int8")
_BLOCK_FRAMES = 32  # of a convolution in groups, whose windows have many values


class _Packed(nn.Module):
    """Its layout belongs to this process and processor."""

    def __getstate__(self) -> dict[str, Any]:
        raise UserError(
            "packed weights can't be copied, pickled or sent to another process; do that with the"
            " codec, then pack the copy"
        )


class PackedLinear(_Packed):
    """x @ weight.T + bias on a CPU, for weight (out, in), bias (out,) or None; not trainable.

    `precision` is one of `PACKED`. With int8 each output channel of the weight has a scale, and so
    has each row of a batch x (B, ...): a row gives the same alone and in a batch.

    Example
    -------
    >>> linear = PackedLinear(torch.eye(3), None, "float32")
    >>> linear(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2., 3.]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.weight = torch.zeros(0)  # callers read its dtype, that of x
        weight = weight.detach()
        if precision == "int8":
            bias = None if bias is None else bias.detach()
            self.packed, self.bias = _quantized(weight, bias, _largest_weight()), None
            return
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), 4)
        self.bias = None if bias is None else bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out), in the dtype of x."""
        if self.precision == "int8":
            linear = torch.ops.quantized.linear_dynamic
            rows = [linear(row, self.packed) for row in x.float()]
            return (rows[0][None] if len(rows) == 1 else torch.stack(rows)).to(x.dtype)
        given = x.to(self.packed.dtype)
        y = torch.ops.mkldnn._linear_pointwise(given, self.packed, self.bias, "none", [], "")
        return y.to(x.dtype)


@cache
def _largest_weight() -> int:
    """127; 63 without VNNI, where a processor adds two products in 16 bits."""
    ones = _quantized(torch.ones(8, 64), None, 127)
    is_exact = torch.ops.quantized.linear_dynamic(torch.ones(1, 64), ones).min() > 63
    return 127 if is_exact else 63


def _quantized(weight: Tensor, bias: Tensor | None, largest: int) -> Any:
    """Integer weight (out, in) up to `largest`, with a scale for each output channel, and bias."""
    scale = (weight.abs().amax(dim=1) / largest).clamp(min=1e-12).double()
    zero = torch.zeros(len(scale), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their end in a later version of torch
        quantized = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.float())


class PackedConv1d(_Packed):
    """`conv` over x (B, N, C) to (B, N', D) without padding, on a CPU; not trainable.

    Each group is one `PackedLinear` of its windows. A depth-wise convolution, which has few
    weights, stays in float32.

    Example
    -------
    >>> packed = PackedConv1d(nn.Conv1d(8, 6, 3, groups=2), "float32")
    >>> packed(torch.randn(1, 5, 8)).shape
    torch.Size([1, 3, 6])
    """

    def __init__(self, conv: nn.Conv1d, precision: str) -> None:
        super().__init__()
        self.kernel_size, self.stride = conv.kernel_size[0], conv.stride[0]
        self.groups = conv.groups
        self.depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.bias = bias
        if self.depthwise:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight[:, :, None], [0, 0], [1, self.stride], [1, 1], self.groups
            )
            return
        weights = weight.transpose(1, 2).flatten(1).chunk(self.groups)  # (D / G, K * C / G) each
        biases = [None] * self.groups if bias is None else bias.chunk(self.groups)
        self.maps = nn.ModuleList(
            PackedLinear(*of_group, precision) for of_group in zip(weights, biases, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, C) to (B, N', D), in the dtype of x."""
        if self.depthwise:
            image = x.transpose(1, 2)[:, :, None]  # (B, C, 1, N)
            y = torch.ops.mkldnn._convolution_pointwise(
                *(image, self.packed, self.bias, [0, 0], [1, self.stride], [1, 1], self.groups),
                *("none", [], ""),
            )
            return y[:, :, 0].transpose(1, 2)
        # (B, N', K, C), a view
        windows = x.unfold(1, self.kernel_size, self.stride).transpose(2, 3)
        if self.groups == 1:
            return self.maps[0](windows.flatten(2))
        return torch.cat(list(map(self._in_groups, windows.split(_BLOCK_FRAMES, dim=1))), dim=1)

    def _in_groups(self, windows: Tensor) -> Tensor:
        """Output (B, n, D) of windows (B, n, K, C)."""
        windows = windows.unflatten(3, (self.groups, -1)).permute(3, 0, 1, 2, 4).flatten(3)
        return torch.cat([each(part) for each, part in zip(self.maps, windows, strict=True)], dim=2)


class Packable(nn.Module):
    """Base of layers whose weight can be packed; after `pack` it has the packed form only."""

    def __init__(self) -> None:
        super().__init__()
        self.packed: PackedLinear | PackedConv1d | None = None

    def packed_form(self, precision: str) -> PackedLinear | PackedConv1d:
        """What computes the same with packed weights."""
        raise NotImplementedError

    def pack(self, precision: str) -> None:
        """Pack the weight; `precision` is one of `PACKED`."""
        self.packed = self.packed_form(precision)
        for module in (self, *self.children()):
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                module.weight.data = module.weight.data.new_empty(0)


class AsLinear(Packable):
    """Base of layers that are a linear map of each frame, whatever the shape of their weight."""

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Weight (out, in) and bias (out,) or None."""
        raise NotImplementedError

    def apply_matrix(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        return F.linear(x, *self.matrix()) if self.packed is None else self.packed(x)

    def packed_form(self, precision: str) -> PackedLinear:
        """Weight of the map."""
        return PackedLinear(*self.matrix(), precision)
