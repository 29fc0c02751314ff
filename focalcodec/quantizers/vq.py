"""Vector quantization: the nearest vector of a learned codebook, moved or mapped in training.

Sources: VQ-VAE, arXiv 1711.00937, with the codebook of running means of its appendix A.1; SimVQ,
arXiv 2411.02038.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.nn.quantizer_base import QuantizerBase
from focalcodec.packages import need


class NearestVector(QuantizerBase):
    """Base of quantizers with a table of vectors; a subclass has `vectors`.

    There is no entropy loss: set `entropy_weight` to 0.
    """

    def __init__(self, codebook_size: int, dim: int, **more: Any) -> None:
        super().__init__()
        if codebook_size < 2 or dim < 1:
            raise UserError(f"codebook_size={codebook_size}, dim={dim}: give 2 vectors, 1 value")
        self.config = {"codebook_size": codebook_size, "dim": dim, **more}
        self.codebook_size, self.dim = codebook_size, dim

    @property
    def vectors(self) -> Tensor:
        """Codes of all toks, (codebook_size, L)."""
        raise NotImplementedError

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Vector (..., L) next to lats (..., L)."""
        return self.toks_to_codes(self.lats_to_toks(lats))

    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Number (...) of the vector next to lats (..., L)."""
        if lats.shape[-1] != self.dim:
            raise UserError(f"lats or codes of width {lats.shape[-1]}: give width {self.dim}")
        with torch.no_grad():
            vectors = self.vectors
            # |v - c|^2 is lowest where <v, c> - |c|^2 / 2 is highest
            scores = F.linear(lats.to(vectors.dtype), vectors, -vectors.square().sum(dim=-1) / 2)
            return scores.argmax(dim=-1)

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64."""
        return self.lats_to_toks(codes)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L)."""
        return F.embedding(self.checked(toks), self.vectors)


class VectorQuantizer(NearestVector):
    """Vectors are running means of the lats next to them, from k-means of the first batch.

    The moving codebook is that of the package vector-quantize-pytorch. A vector that fewer than
    `dead_below` frames of a batch use, as a running mean, becomes a frame of the batch.

    Parameters
    ----------
    codebook_size, dim : int
        Number of vectors, and L.
    decay : float
        Of the running means.
    commitment_weight : float
        Of the mean squared distance between a frame's lats and its code.
    dead_below : int
        0 for no restarts.
    """

    def __init__(
        self,
        codebook_size: int = 1024,
        dim: int = 10,
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        dead_below: int = 0,
    ) -> None:
        more = {"decay": decay, "commitment_weight": commitment_weight, "dead_below": dead_below}
        super().__init__(codebook_size, dim, **more)
        self.commitment_weight = commitment_weight
        package = need("vector_quantize_pytorch", "pip install vector-quantize-pytorch")
        self.table = package.VectorQuantize(
            dim,
            codebook_size,
            decay=decay,
            kmeans_init=True,
            rotation_trick=False,
            threshold_ema_dead_code=dead_below,
        )

    @property
    def vectors(self) -> Tensor:
        """Codes of all toks, (codebook_size, L)."""
        return self.table.codebook

    def run(self, lats: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantize lats (B, N, L); in training mode the valid frames move the vectors first."""
        if self.training:
            mask = valid_mask(full_lengths(lats) if lengths is None else lengths, lats.shape[1])
            frames = zero_padding(lats.detach().float(), mask)
            with torch.no_grad(), torch.autocast(lats.device.type, enabled=False):
                self.table(frames, mask=mask)
        return super().run(lats, lengths)

    def frame_losses(self, lats: Tensor, toks: Tensor) -> dict[str, Tensor]:
        """Weighted commitment loss of each frame, (B, N'), for lats (B, N', L)."""
        errors = (lats - self.toks_to_codes(toks)).float().square().mean(dim=-1)
        return {"commitment_loss": self.commitment_weight * errors}


class SimVQ(NearestVector):
    """Vectors are a trained linear map of a fixed random codebook, so all of them move together.

    Parameters
    ----------
    codebook_size, dim : int
        Number of vectors, and L.
    commitment_weight : float
        Of the squared distance that moves the lats; that which moves the codes has weight 1.

    Example
    -------
    >>> toks, codes = SimVQ(8, 3)(torch.randn(2, 5, 3))
    >>> toks.shape, codes.shape
    (torch.Size([2, 5]), torch.Size([2, 5, 3]))
    """

    fixed: Tensor

    def __init__(
        self, codebook_size: int = 1024, dim: int = 10, commitment_weight: float = 0.25
    ) -> None:
        super().__init__(codebook_size, dim, commitment_weight=commitment_weight)
        self.commitment_weight = commitment_weight
        self.register_buffer("fixed", torch.randn(codebook_size, dim) * dim**-0.5)
        self.map = nn.Linear(dim, dim, bias=False)

    @property
    def vectors(self) -> Tensor:
        """Codes of all toks, (codebook_size, L)."""
        return self.map(self.fixed)

    def frame_losses(self, lats: Tensor, toks: Tensor) -> dict[str, Tensor]:
        """Loss of the codes and weighted commitment loss of each frame, (B, N')."""
        codes = self.toks_to_codes(toks)  # (B, N', L)
        table = (codes - lats.detach()).float().square().mean(dim=-1)
        lats_loss = (lats - codes.detach()).float().square().mean(dim=-1)
        return {"codebook_loss": table, "commitment_loss": self.commitment_weight * lats_loss}
