"""Voice conversion of features: each frame becomes the mean of its nearest reference frames.

Source: kNN-VC, arXiv 2305.18975; FocalCodec uses it on its qfeats (arXiv 2502.04465, section on
voice conversion). The search is exact and works in blocks, so that an hour of reference frames
fits in memory; an inverted file of faiss is the approximate and faster choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.choices import SEARCHES
from focalcodec.errors import UserError
from focalcodec.nn.masking import as_tensor, full_lengths, valid_mask

if TYPE_CHECKING:
    import numpy as np

    from focalcodec.codec_base import CodecBase

# Candidates besides the k: float64 sorts candidates that are equal in float32.
SPARE = 8
# Queries ranked at once in float64: 64 x 12 candidates x 1024 values are 6 MB.
RANKED_AT_ONCE = 64
# Number of frames that are averaged at once: 256 x 4 neighbours of 1024 values are 4 MB.
AVERAGED_AT_ONCE = 256
# Frames that faiss needs for each centroid that it learns; it warns below that.
FRAMES_PER_LIST = 39
ADDED_AT_ONCE = 4096


@dataclass(eq=False)
class ReferenceFrames:
    """Frames of the wanted speaker: `feats` (N, D) float, continuous feats without padding.

    Raises a `UserError` if `feats` have another shape or type, no frames, or values that are NaN
    or infinite.
    """

    feats: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.feats.shape)
        if len(shape) != 2 or 0 in shape or not self.feats.is_floating_point():
            raise UserError(
                f"reference: {self.feats.dtype} {shape}; give float feats (frames, features), with"
                " at least one frame"
            )
        # a block at a time: the frames of a memory-mapped file need not all be in memory
        if not all(bool(torch.isfinite(block).all()) for block in self.feats.split(4096)):
            raise UserError("reference: NaN or infinite feats; with float16, use float32")
        self._index: FaissIndex | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.feats)

    def check_codec(self, codec: CodecBase) -> None:
        """Raise a `UserError` if these frames can't come from the codec's encoder."""
        check_width(self.feats.shape[1], codec.encoder.dim)

    def build_index(self, num_lists: int | None = None, num_probes: int = 16) -> FaissIndex:
        """Make the index for `search="faiss"`, see `FaissIndex`; otherwise its first use does."""
        self._index = FaissIndex(self.feats, num_lists, num_probes)
        return self._index

    def nearest(self, queries: Tensor, k: int, search: str = "exact") -> Tensor:
        """Indices (Q, k) int64 of the k nearest frames of queries (Q, D), by cosine, best first.

        `search` is "exact", a comparison with all frames, or "faiss", a search in an index of them.
        Raises a `UserError` if k is not in 1..N, there is no such search, or faiss is not
        installed.
        """
        if search not in SEARCHES:
            raise UserError(f"search={search!r}: not one of {', '.join(SEARCHES)}")
        if search == "exact":
            return nearest_frames(queries, self.feats, k)
        index = self.build_index() if self._index is None else self._index
        return index.nearest(queries, k)


@torch.no_grad()
def as_frames(reference: ReferenceFrames | Tensor) -> ReferenceFrames:
    """Frames as they are, and those of bare feats (R, D), a tensor or an array."""
    if isinstance(reference, ReferenceFrames):
        return reference
    return ReferenceFrames(as_tensor("reference", reference))


def convert_feats(
    qfeats: Tensor,
    lengths: Tensor | None,
    reference: ReferenceFrames | Tensor,
    k: int = 4,
    search: str = "exact",
) -> Tensor:
    """Replace each frame by the mean of its k nearest frames of the reference.

    Takes qfeats (B, N, D) float, or feats, with (B,) int64 frames of each clip, default all; gives
    (B, N, D) of the same dtype and device, zero beyond a clip's length. The reference is (R, D) if
    it is a Tensor, k is in 1..R, 4 in the paper, and `search` as in `ReferenceFrames.nearest`.
    Raises a `UserError` if widths differ, k is not in range, or valid frames are NaN or infinite.

    Example
    -------
    >>> convert_feats(torch.tensor([[[0.9, 0.1], [0.2, 0.7]]]), None, 2 * torch.eye(2), k=1)
    tensor([[[2., 0.],
             [0., 2.]]])
    """
    reference = as_frames(reference)
    if qfeats.shape[2] != reference.feats.shape[1]:
        raise UserError(
            f"qfeats: {qfeats.shape[2]} values a frame, the reference has"
            f" {reference.feats.shape[1]}; make it with this codec"
        )
    lengths = full_lengths(qfeats) if lengths is None else lengths.to(qfeats.device)
    mask = valid_mask(lengths, qfeats.shape[1])  # (B, N)
    queries = qfeats[mask]  # (Q, D): valid frames only
    if not bool(torch.isfinite(queries).all()):
        raise UserError("qfeats: NaN or infinite frames; use a higher precision")
    nearest = reference.nearest(queries, k, search)  # (Q, k)
    means = [
        take_frames(reference.feats, some).float().mean(dim=1)
        for some in nearest.split(AVERAGED_AT_ONCE)
    ]
    converted = torch.zeros_like(qfeats)
    converted[mask] = torch.cat(means).to(qfeats)
    return converted


def nearest_frames(
    queries: Tensor,
    references: Tensor,
    k: int,
    query_block: int = 512,
    reference_block: int = 4096,
) -> Tensor:
    """Indices (Q, k) int64 of the exact k nearest references of each query, by cosine, best first.

    Queries are (Q, D) and references (R, D), of any float precision; k is in 1..R, else a
    `UserError`. Blocks of references move to the queries' device. Memory holds one product of a
    block of queries with a block of references, and the best of each query so far: 4 (query_block +
    D) reference_block bytes, 25 MB by default at D = 1024. Similarities are float32; float64 then
    puts the k + 8 best in order, equal ones by their index. So neither the blocks nor the other
    queries of the batch change the result.
    """
    check_k(k, len(references))
    count = min(k + SPARE, len(references))
    unit = F.normalize(queries.float(), dim=1)  # (Q, D)
    best = unit.new_full((len(unit), count), -torch.inf)
    found = torch.zeros(best.shape, dtype=torch.int64, device=unit.device)
    buffer = unit.new_empty(min(reference_block, len(references)), unit.shape[1])
    for start in range(0, len(references), reference_block):
        block = buffer[: len(references) - start]
        block.copy_(references[start : start + reference_block])
        block /= block.norm(dim=1, keepdim=True).clamp_(min=1e-12)
        for first in range(0, len(unit), query_block):
            some = slice(first, first + query_block)
            top = (unit[some] @ block.T).topk(min(count, len(block)), dim=1)
            values = torch.cat([best[some], top.values], dim=1)
            indices = torch.cat([found[some], top.indices + start], dim=1)
            best[some], order = values.topk(count, dim=1)
            found[some] = indices.gather(1, order)
    return rank_candidates(queries, references, found, k)


def rank_candidates(queries: Tensor, references: Tensor, candidates: Tensor, k: int) -> Tensor:
    """The k best of each query's candidates (Q, C), by cosine in float64, equal ones by index."""
    ranked = []
    rows = zip(queries.split(RANKED_AT_ONCE), candidates.split(RANKED_AT_ONCE), strict=True)
    for query, indices in rows:
        # on the references' device: not every device has float64
        indices = indices.to(references.device).sort(dim=1).values
        frames = references[indices].double()  # (q, C, D)
        # sums of rows, not a matrix product: its rounding depends on the shape of the whole
        products = (frames * query.to(references.device).double()[:, None]).sum(dim=2)
        cosines = products / frames.norm(dim=2).clamp_(min=1e-12)
        order = cosines.argsort(dim=1, descending=True, stable=True)[:, :k]
        ranked.append(indices.gather(1, order).to(queries.device))
    return torch.cat(ranked)


def take_frames(references: Tensor, indices: Tensor) -> Tensor:
    """Frames at `indices` (any shape), indices.shape + (D,); only they move to its device."""
    return references[indices.to(references.device)].to(indices.device)


class FaissIndex:
    """Normalised frames in lists, one around each centroid; a query searches the nearest lists.

    The lists hold 16-bit floats, so the index takes 2 D bytes a frame besides `references` (R, D).
    The k best of what it finds are chosen exactly. `num_lists` centroids are by default the square
    root of R, and no more than R frames can train; a query searches `num_probes` lists: more is
    slower and misses less. Raises a `UserError` without faiss, or for numbers that do not fit.
    """

    def __init__(
        self, references: Tensor, num_lists: int | None = None, num_probes: int = 16
    ) -> None:
        frames, dim = references.shape
        most = max(1, frames // FRAMES_PER_LIST)
        lists = min(math.isqrt(frames), most) if num_lists is None else num_lists
        if not 1 <= lists <= frames or num_probes < 1:
            raise UserError(
                f"num_lists={num_lists}, num_probes={num_probes}: give num_lists in 1..{most} for"
                f" {frames} frames, and num_probes of 1 or more"
            )
        self.references = references
        self.num_lists, self.num_probes = lists, num_probes
        self._index = _make_index(dim, lists)
        # evenly spaced, because the frames of one file are similar
        sample = torch.linspace(0, frames - 1, min(frames, FRAMES_PER_LIST * lists)).long()
        self._index.train(_unit(references[sample.to(references.device)]))
        for block in references.split(ADDED_AT_ONCE):
            self._index.add(_unit(block))

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """As `nearest_frames`, for k in 1..R; some neighbours may be missed."""
        check_k(k, len(self.references))
        self._index.nprobe = min(self.num_probes, self.num_lists)
        _, found = self._index.search(_unit(queries), min(k + SPARE, len(self.references)))
        candidates = torch.from_numpy(found).to(queries.device)
        # -1: the searched lists hold fewer frames than wanted
        short = (candidates < 0).any(dim=1)
        best = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
        best[~short] = rank_candidates(queries[~short], self.references, candidates[~short], k)
        if bool(short.any()):
            best[short] = nearest_frames(queries[short], self.references, k)
        return best


class _Index(Protocol):
    """The methods of faiss' inverted file that are used here."""

    nprobe: int

    def train(self, frames: np.ndarray) -> None: ...
    def add(self, frames: np.ndarray) -> None: ...
    def search(self, frames: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...


def _make_index(dim: int, lists: int) -> _Index:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "search='faiss': faiss is not installed; pip install faiss-cpu, or search='exact'"
        ) from error
    index = faiss.index_factory(dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    return cast(_Index, index)


def _unit(frames: Tensor) -> np.ndarray:
    return F.normalize(frames.float(), dim=1).cpu().contiguous().numpy()


def check_k(k: int, num_references: int) -> None:
    """Raise a `UserError` if k is not in 1..num_references."""
    if not 1 <= k <= num_references:
        raise UserError(
            f"k={k}: give 1..{num_references}, the reference has {num_references} frames; or give"
            " more speech"
        )


def check_width(width: int, expected: int) -> None:
    """Raise a `UserError` if the reference's feats have another width than the encoder's."""
    if width != expected:
        raise UserError(
            f"reference: feats of {width} values, expected {expected}; make it with this encoder"
        )
