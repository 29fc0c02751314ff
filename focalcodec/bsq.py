"""Binary spherical quantization: the bits of a token are the signs of a point on the unit sphere.

Sources: Zhao et al., arXiv 2406.07548, equations 3-7; FocalCodec, arXiv 2502.04465, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.entropy import EntropyTerms, joint_log_probs, terms_of_halves
from focalcodec.nn.layers import project_to_sphere
from focalcodec.nn.masking import check_lengths, check_tensor, full_lengths, zero_padding
from focalcodec.nn.quantizer_base import QuantizerBase


class BinarySphericalQuantizer(QuantizerBase):
    """Quantizer without weights: L = log2(codebook_size) bits, codes of +-1/sqrt(L).

    `dim` is L, the width of lats and codes. It is rounded down where `codebook_size` is no power of
    two, as in the official class: tokens above 2^L have the code of another one, and are not given.

    Example
    -------
    >>> quantizer = BinarySphericalQuantizer(codebook_size=4)
    >>> toks, codes = quantizer(torch.tensor([[[0.3, -2.0]]]))
    >>> toks, codes
    (tensor([[2]]), tensor([[[ 0.7071, -0.7071]]]))
    """

    codebook_value: Tensor
    mask: Tensor

    def __init__(self, codebook_size: int = 4096) -> None:
        super().__init__()
        if codebook_size < 2:
            raise UserError(f"codebook_size={codebook_size}: give a power of two, such as 8192")
        self.config = {"codebook_size": codebook_size}
        self.codebook_size = codebook_size
        self.dim = codebook_size.bit_length() - 1
        self.radius = math.sqrt(self.dim)
        # () 1 / sqrt(L), and (L,) values of the bits, most significant first
        value = torch.tensor(1.0 / self.radius, dtype=torch.float32)
        self.register_buffer("codebook_value", value, persistent=False)
        bits = 2 ** torch.arange(self.dim - 1, -1, -1)
        self.register_buffer("mask", bits, persistent=False)

    def project(self, lats: Tensor) -> Tensor:
        """Points of lats (..., L) on the unit sphere."""
        return project_to_sphere(lats)

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes of +-1/sqrt(L); zero goes to -1/sqrt(L)."""
        return torch.where(lats > 0, self.codebook_value, -self.codebook_value)

    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Map lats (..., L) to toks (...) int64."""
        return self.codes_to_toks(lats)

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64, most significant bit first."""
        if codes.shape[-1] != self.dim:
            raise UserError(
                f"codes of width {codes.shape[-1]}: codebook_size={self.codebook_size} "
                f"needs width {self.dim}"
            )
        return ((codes > 0) * self.mask).sum(dim=-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L).

        Raises a `UserError` if toks are not integers in [0, codebook_size).
        """
        bits = self.checked(toks)[..., None] & self.mask
        return torch.where(bits != 0, self.codebook_value, -self.codebook_value)

    def entropy_loss(
        self,
        lats: Tensor,
        mask: Tensor | None = None,
        inv_temperature: float = 100.0,
        gamma: float = 1.0,
        all_reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Entropy of each token's soft assignment, minus `gamma` x that of the mean one, in nats.

        Low when each frame has a clear token and all tokens are used equally. `entropy_terms`
        explains the parameters.

        Example
        -------
        >>> quantizer = BinarySphericalQuantizer(4)
        >>> lats = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(quantizer.entropy_loss(lats).item(), 3)  # clear, and all 4 tokens: -log(4)
        -1.386
        """
        terms = self.entropy_terms(lats, mask, inv_temperature, all_reduce)
        return terms.sample - gamma * terms.codebook

    def entropy_terms(
        self,
        lats: Tensor,
        mask: Tensor | None = None,
        inv_temperature: float = 100.0,
        all_reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> EntropyTerms:
        """Both entropies of p(c|u) = softmax over all codes c of 2 inv_temperature <u, c>.

        u is lats / ||lats||. Equal to the plain definition, logs clamped at 1e-5 included, but in
        O(2^(L/2)) per token: p(.|u) is a product over bits, so a token needs only the joint
        probabilities of its two halves of the bits. Always in float32 or better.

        Parameters
        ----------
        lats : Tensor
            (..., L).
        mask : Tensor, optional
            (...) bool, True on valid frames; None if all are.
        inv_temperature : float
            Sharpness of the soft assignment.
        all_reduce : callable, optional
            Differentiable sum of a tensor over processes, for the entropies of the global batch.
        """
        with torch.autocast(lats.device.type, enabled=False):
            lats = lats.to(torch.promote_types(lats.dtype, torch.float32)).reshape(-1, self.dim)
            valid = lats.new_ones(len(lats), dtype=torch.bool) if mask is None else mask.flatten()
            points = self.project(zero_padding(lats, valid))  # (frames, L)
            # <u, c> is a sum over bits: each bit is 1 with probability sigmoid(logit)
            logits = points * (4.0 * inv_temperature / self.radius)  # (frames, L)
            first, second = logits.split([self.dim // 2, self.dim - self.dim // 2], dim=-1)
            # (frames, 2^(L/2)) each: log-probabilities of the values of both halves
            first, second = joint_log_probs(_bits(first)), joint_log_probs(_bits(second))
            entropy = _bit_entropy(logits).sum(dim=-1)  # (frames,)
            return terms_of_halves(first, second, entropy, valid, self.codebook_size, all_reduce)


def check_toks(toks: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Check toks (B, N') integer and their lengths (B,) int64, default all; return the lengths.

    Raises a `UserError` if they are not such a batch; the quantizer checks the range of toks.
    """
    check_tensor("toks", toks)
    if toks.dim() != 2 or toks.numel() == 0:
        raise UserError(f"toks: shape {tuple(toks.shape)}; give (batch, tokens), not empty")
    if toks.is_floating_point() or toks.is_complex() or toks.dtype == torch.bool:
        raise UserError(f"toks: {toks.dtype}; give integers, e.g. torch.int64")
    if lengths is None:
        return full_lengths(toks)
    check_lengths(lengths, toks, "tokens")
    return lengths


def _bit_entropy(logits: Tensor) -> Tensor:
    """Entropy, in nats, of a bit that is 1 with probability sigmoid(logits)."""
    # In |logits| it is a sum of two positive terms: no digits are lost where the bit is clear.
    size = logits.abs()
    return size * torch.sigmoid(-size) - F.logsigmoid(size)


def _bits(logits: Tensor) -> Tensor:
    """Log-probabilities of 0 and 1 of each bit: (n, l) to (n, l, 2)."""
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)
