"""What a probe hears: tokens, through embeddings that start from the codec's codes, or features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.probes.lengths import check_frames, check_lengths


class TokenEmbedding(nn.Module):
    """Tokens of one or more streams to vectors.

    Each stream has a table, as wide as the codec's codes and starting as exactly these, and a
    linear map from there to `dim`; both are trained. So nothing is padded or projected at
    random before the training, the table of FocalCodec has 8192 x 13 numbers instead of
    8192 x `dim`, and a codec's tokens start with the geometry of its quantised features. Without
    codes a table is as wide as `dim` and starts from a normal distribution.

    Codecs scale their codes as they like (residual ones by less from stream to stream), so each
    stream is brought to mean 0 and variance 1 over `dim`. The streams' weighted sum has weights
    of a softmax, equal at first, and a layer norm: any codec gives a probe inputs of one size.

    Sources: FocalCodec, arXiv 2502.04465 (tables from the codes, trained); Yang et al.,
    "SUPERB", arXiv 2105.01051, section 4.1 (a learned weighted sum, there of layers).

    Parameters
    ----------
    codebook_size : int
        Tokens of a stream, K.
    streams : int
        Streams of tokens, Q.
    dim : int
        Width of the output.
    codes : sequence of Tensor, optional
        The codec's codes, (K, L) for each stream.

    Raises
    ------
    UserError
        There are not as many codes as streams and tokens.

    Example
    -------
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> codes = BinarySphericalQuantizer(codebook_size=8).codebook
    >>> embedding = TokenEmbedding(codebook_size=8, dim=16, codes=[codes])
    >>> x, lengths = embedding(torch.tensor([[3, 7, 0]]), torch.tensor([2]))
    >>> x.shape, lengths
    (torch.Size([1, 3, 16]), tensor([2]))
    """

    def __init__(
        self,
        codebook_size: int,
        streams: int = 1,
        dim: int = 512,
        codes: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        if codes is None:
            codes = [torch.randn(codebook_size, dim) for _ in range(streams)]
        _check_codes(codes, codebook_size, streams)
        self.codebook_size, self.streams, self.dim = codebook_size, streams, dim
        self.tables = nn.ModuleList(
            nn.Embedding.from_pretrained(code.detach().float().clone(), freeze=False)
            for code in codes
        )
        # A bias would outweigh codes that are small, before the scale is taken out.
        self.maps = nn.ModuleList(nn.Linear(code.shape[1], dim, bias=False) for code in codes)
        self.stream_logits = nn.Parameter(torch.zeros(streams))
        self.norm = nn.LayerNorm(dim)

    def forward(self, toks: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Look the tokens up.

        Parameters
        ----------
        toks : Tensor
            (B, N) or (B, N, streams), integer; what stands in the padding does not matter.
        lengths : Tensor, optional
            (B,) int64, valid frames; None if all are.

        Returns
        -------
        tuple of Tensor
            (B, N, dim), zero in the padding, and lengths.

        Raises
        ------
        UserError
            Other shapes, or a token that the codec does not have.
        """
        toks = self._as_streams(toks)
        lengths = check_lengths(toks, lengths)
        mask = valid_mask(lengths, toks.shape[1])
        toks = zero_padding(toks, mask)
        self._check_range(toks)
        x = torch.zeros((), device=toks.device)
        for q, weight in enumerate(self.stream_weights):
            stream = self.maps[q](self.tables[q](toks[..., q]))
            x = x + weight * F.layer_norm(stream, (self.dim,))
        return zero_padding(self.norm(x), mask), lengths

    @property
    def stream_weights(self) -> Tensor:
        """(streams,) how much of each stream the probe takes; they sum to 1."""
        return self.stream_logits.softmax(dim=0)

    def _as_streams(self, toks: Tensor) -> Tensor:
        if toks.is_floating_point() or toks.is_complex() or toks.dtype == torch.bool:
            raise UserError(f"toks of type {toks.dtype}: give integers, such as torch.int64")
        streams = toks[..., None] if toks.dim() == 2 else toks
        if streams.dim() != 3 or streams.shape[2] != self.streams:
            wanted = "(batch, frames)" if self.streams == 1 else f"(batch, frames, {self.streams})"
            raise UserError(f"toks: shape {tuple(toks.shape)}; give {wanted}")
        return streams.long()

    def _check_range(self, toks: Tensor) -> None:
        low, high = (int(x) for x in torch.aminmax(toks))
        if low < 0 or high >= self.codebook_size:
            raise UserError(
                f"toks from {low} to {high}: this probe was made for [0, {self.codebook_size});"
                " is it the codec that made them?"
            )


class FeatureProjection(nn.Module):
    """Continuous frames to vectors of the size that `TokenEmbedding` gives.

    It stands in its place where a probe hears quantised features, or the encoder's, so that
    what differs between two such runs is what was heard. Frames are (B, N, input_dim).

    Parameters
    ----------
    input_dim : int
        Width of the features.
    dim : int
        Width of the output.

    Example
    -------
    >>> x, lengths = FeatureProjection(input_dim=4, dim=16)(torch.zeros(1, 3, 4))
    >>> x.shape, lengths
    (torch.Size([1, 3, 16]), tensor([3]))
    """

    def __init__(self, input_dim: int, dim: int = 512) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, dim
        self.map = nn.Linear(input_dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Project (B, N, input_dim) to (B, N, dim), zero in the padding; lengths stay."""
        x, lengths, mask = check_frames(x, lengths, self.input_dim)
        return zero_padding(self.norm(self.map(x)), mask), lengths


def _check_codes(codes: Sequence[Tensor], codebook_size: int, streams: int) -> None:
    if len(codes) != streams:
        raise UserError(f"codes of {len(codes)} streams, and streams={streams}; give one each")
    for q, code in enumerate(codes):
        if code.dim() != 2 or len(code) != codebook_size:
            raise UserError(
                f"codes of stream {q}: shape {tuple(code.shape)}; give ({codebook_size}, width)"
            )
