"""Weights of linear maps in the layout of a processor's fastest product, for inference.

With a few rows, as in a step of a stream, reading the weights takes the time. `PackedLinear` reads
them once, in float32, bfloat16 (half the bytes) or 8-bit integers (a quarter). It is the only place
that uses torch's quantized operators, which are to be replaced in later versions of torch.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKED = ("float32", "bfloat16", "int8")


class PackedLinear(nn.Module):
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
            scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).double()
            zero = torch.zeros(len(scale), dtype=torch.int64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of their end in a later version of torch
                quantized = torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8)
            kept = None if bias is None else bias.detach().float()
            self.packed = torch.ops.quantized.linear_prepack(quantized, kept)
            self.bias = None
            return
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), 4)
        self.bias = None if bias is None else bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out), in the dtype of x."""
        if self.precision == "int8":
            rows = [torch.ops.quantized.linear_dynamic(row, self.packed) for row in x.float()]
            return torch.stack(rows).to(x.dtype)
        given = x.to(self.packed.dtype)
        y = torch.ops.mkldnn._linear_pointwise(given, self.packed, self.bias, "none", [], "")
        return y.to(x.dtype)


class AsLinear(nn.Module):
    """Base of layers that are a linear map of each frame, whatever the shape of their weight.

    After `pack` a layer has its weight in the packed form only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.packed: PackedLinear | None = None

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Weight (out, in) and bias (out,) or None."""
        raise NotImplementedError

    def apply_matrix(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        return F.linear(x, *self.matrix()) if self.packed is None else self.packed(x)

    def pack(self, precision: str) -> None:
        """Pack the weight, see `PackedLinear`."""
        self.packed = PackedLinear(*self.matrix(), precision)
        for module in (self, *self.children()):
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                module.weight.data = module.weight.data.new_empty(0)
