"""Inputs of probes: tokens, embedded by tables that start from the codec's codes, or features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.masking import check_lengths, full_lengths, valid_mask, zero_padding


class TokenEmbedding(nn.Module):
    """Embedding of one or more streams of tokens.

    Each stream has a table that starts as the codec's codes and has their width, and a linear map
    to `dim`; both are trained. So nothing is padded or projected at random before training, the
    table of FocalCodec has 8192 x 13 numbers instead of 8192 x `dim`, and training starts with the
    geometry of the quantised features. Without codes, a table has the width `dim` and starts from
    a normal distribution.

    Codecs scale their codes differently (residual codecs by less from stream to stream), so each
    stream is normalised to mean 0 and variance 1 over `dim`. The streams are added with softmax
    weights, equal at first; a layer norm follows. So all codecs give inputs of one scale.

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
        The codec's codes, (K, L) for each stream; UserError if they do not fit K and Q.

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
        # No bias: before the normalisation it would outweigh small codes.
        self.maps = nn.ModuleList(nn.Linear(code.shape[1], dim, bias=False) for code in codes)
        self.stream_logits = nn.Parameter(torch.zeros(streams))
        self.norm = nn.LayerNorm(dim)

    def forward(self, toks: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embed toks (B, N) or (B, N, Q), integer; return (B, N, dim) and lengths.

        The padding may hold any value and is zero in the output. `lengths` (B,) int64 has the valid
        frames, None means all. UserError for other shapes or a token that the codec does not have.
        """
        toks = self._as_streams(toks)  # (B, N, Q)
        lengths = valid_lengths(toks, lengths)
        mask = valid_mask(lengths, toks.shape[1])  # (B, N)
        toks = zero_padding(toks, mask)
        self._check_range(toks)
        x = torch.zeros((), device=toks.device)
        for q, weight in enumerate(self.stream_weights):
            stream = self.maps[q](self.tables[q](toks[..., q]))  # (B, N, dim)
            x = x + weight * F.layer_norm(stream, (self.dim,))
        return zero_padding(self.norm(x), mask), lengths

    @property
    def stream_weights(self) -> Tensor:
        """(Q,) weight of each stream; they sum to 1."""
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
                " give tokens of its codec"
            )


class FeatureProjection(nn.Module):
    """Projection of continuous features to the width and scale of `TokenEmbedding`'s output.

    So two probes, one on tokens and one on features, differ only in this input.

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
        """Project x (B, N, input_dim) to (B, N, dim), zero in the padding, and lengths."""
        x, lengths, mask = check_frames(x, lengths, self.input_dim)
        return zero_padding(self.norm(self.map(x)), mask), lengths


def check_frames(x: Tensor, lengths: Tensor | None, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Check x (B, N, dim) and set its padding, which may hold NaN, to zero.

    Return x, lengths (B,) int64 (None means N for all), and mask (B, N), True on valid frames.
    UserError if x has another shape or a length is not in 1..N.
    """
    if x.dim() != 3 or x.shape[2] != dim:
        raise UserError(f"x: shape {tuple(x.shape)}; give (batch, frames, {dim})")
    lengths = valid_lengths(x, lengths)
    mask = valid_mask(lengths, x.shape[1])
    return zero_padding(x, mask), lengths, mask


def valid_lengths(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return lengths (B,) int64 of x (B, N, ...), None meaning N; UserError if not in 1..N.

    Zero is an error, because a probe can't predict anything for a clip without frames.
    """
    if lengths is None:
        lengths = full_lengths(x)
    check_lengths(lengths, x, "frames")
    return lengths


def _check_codes(codes: Sequence[Tensor], codebook_size: int, streams: int) -> None:
    if len(codes) != streams:
        raise UserError(f"codes of {len(codes)} streams, and streams={streams}; give one each")
    for q, code in enumerate(codes):
        if code.dim() != 2 or len(code) != codebook_size:
            raise UserError(
                f"codes of stream {q}: shape {tuple(code.shape)}; give ({codebook_size}, width)"
            )
