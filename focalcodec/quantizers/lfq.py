"""Lookup-free quantization: the bits of a token are the signs of a point anywhere in space.

Source: MAGVIT-v2, arXiv 2310.05737, section 3.1; FocalCodec, arXiv 2502.04465, section 4.6.
"""

from __future__ import annotations

from torch import Tensor

from focalcodec.bsq import BinarySphericalQuantizer


class LookupFreeQuantizer(BinarySphericalQuantizer):
    """Binary spherical quantization without the sphere: codes of +-1, lats of any norm.

    The error of a code has no bound, so a commitment loss pulls the lats towards it. The entropies
    are those of p(c|v) = softmax over all codes c of -inv_temperature |v - c|^2.

    Parameters
    ----------
    codebook_size : int
        A power of two.
    commitment_weight : float
        Of the mean squared distance between a frame's lats and its code; 0 for none.

    Example
    -------
    >>> import torch
    >>> quantizer = LookupFreeQuantizer(codebook_size=4)
    >>> quantizer(torch.tensor([[[0.3, -2.0]]]))
    (tensor([[2]]), tensor([[[ 1., -1.]]]))
    """

    def __init__(self, codebook_size: int = 1024, commitment_weight: float = 0.25) -> None:
        super().__init__(codebook_size)
        self.config["commitment_weight"] = self.commitment_weight = commitment_weight
        self.radius = 1.0
        self.codebook_value.fill_(1.0)

    def project(self, lats: Tensor) -> Tensor:
        """Lats (..., L) as they are."""
        return lats

    def frame_losses(self, lats: Tensor, toks: Tensor) -> dict[str, Tensor]:
        """Weighted commitment loss of each frame, (B, N'), for lats (B, N', L)."""
        if not self.commitment_weight:
            return {}
        errors = (lats - self.lats_to_codes(lats)).float().square().mean(dim=-1)
        return {"commitment_loss": self.commitment_weight * errors}
