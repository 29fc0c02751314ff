"""Base of quantizers: padding, the straight-through gradient, and the official call."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.masking import check_tensor, valid_mask, zero_padding
from focalcodec.nn.official import QuantizerView


class QuantizerBase(nn.Module):
    """A quantizer is made of three methods: `lats_to_codes`, `codes_to_toks`, `toks_to_codes`.

    A subclass also sets `config`, `dim` (L, width of lats and codes) and `codebook_size`. What may
    be added for training is in `focalcodec.parts.Quantizer`.

    Example
    -------
    >>> class Sign(QuantizerBase):
    ...     config, dim, codebook_size = {}, 1, 2
    ...
    ...     def lats_to_codes(self, lats):
    ...         return lats.sign()
    ...
    ...     def codes_to_toks(self, codes):
    ...         return (codes[..., 0] > 0).long()
    ...
    ...     def toks_to_codes(self, toks):
    ...         return self.checked(toks)[..., None] * 2.0 - 1.0
    >>> toks, codes = Sign()(torch.tensor([[[0.3], [-2.0]]]), lengths=torch.tensor([1]))
    >>> toks.tolist(), codes.tolist(), Sign().codebook.tolist()
    ([[1, 0]], [[[1.0], [0.0]]], [[-1.0], [1.0]])
    """

    config: dict[str, Any]
    dim: int
    codebook_size: int

    def forward(self, lats: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantize lats (..., L): toks (...) int64, codes (..., L); `run` if `lengths` are given.

        Without lengths codes have no gradient, as in the official class.
        """
        if lengths is not None:
            return self.run(lats, lengths)
        toks = self.lats_to_toks(lats)
        return toks, self.lats_to_codes(lats)

    def run(self, lats: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantize lats (B, N, L): toks (B, N) int64, codes (B, N, L), zero on padded frames.

        `lengths` (B,) int64 are the valid frames; None is all. In training mode gradients pass
        straight through to `project(lats)`.
        """
        mask = None if lengths is None else valid_mask(lengths, lats.shape[1])
        if mask is not None:
            lats = zero_padding(lats, mask)
        codes = self.lats_to_codes(lats).to(lats.dtype)  # (B, N, L)
        toks = self.codes_to_toks(codes)  # (B, N)
        if self.training:
            points = self.project(lats)  # (B, N, L)
            codes = points + (codes - points).detach()  # straight-through gradient
        if mask is not None:
            toks, codes = zero_padding(toks, mask), zero_padding(codes, mask)
        return toks, codes

    def project(self, lats: Tensor) -> Tensor:
        """Lats (..., L) where the codes are, with a gradient; without another method as they are.

        For instance on the sphere, or between the lowest and the highest code.
        """
        return lats

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes (..., L)."""
        raise NotImplementedError

    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Map lats (..., L) to toks (...) int64."""
        return self.codes_to_toks(self.lats_to_codes(lats))

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64."""
        raise NotImplementedError

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L); `checked` checks them."""
        raise NotImplementedError

    def checked(self, toks: Tensor) -> Tensor:
        """Toks as int64; a `UserError` if they are not integers in [0, codebook_size)."""
        check_tensor("toks", toks)
        if toks.is_floating_point() or toks.is_complex() or toks.dtype == torch.bool:
            raise UserError(f"toks of type {toks.dtype}: give integers, such as torch.int64")
        # In int64 first: 8192 itself overflows in the small types.
        toks = toks.long()
        if torch.compiler.is_compiling():  # the program checks them when it runs
            valid = (toks >= 0) & (toks < self.codebook_size)
            torch._assert_async(valid.all(), f"toks: not all in [0, {self.codebook_size})")
            return toks
        if toks.numel() == 0:
            return toks
        low, high = int(toks.min()), int(toks.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(
                f"token {low if low < 0 else high}: this codec's tokens are in "
                f"[0, {self.codebook_size}); were they made by this codec?"
            )
        return toks

    @property
    def codebook(self) -> Tensor:
        """All codes, (codebook_size, L), in the order of their toks."""
        tensors = chain(self.parameters(), self.buffers())
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        return self.toks_to_codes(torch.arange(self.codebook_size, device=device))

    def __prepare_scriptable__(self) -> nn.Module:
        toks = torch.zeros(2, 3, dtype=torch.int64, device=self.codebook.device)
        return QuantizerView(self, self.toks_to_codes(toks), toks)
