"""The most similar of many frames: exact, in blocks, so that an hour of them fits in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.errors import UserError

# Candidates besides the k: what float32 can't tell apart is put in order in float64.
SPARE = 8
# Queries ranked at once in float64: 64 x 12 candidates x 1024 values are 6 MB.
RANKED_AT_ONCE = 64


def check_k(k: int, num_references: int) -> None:
    """Refuse a number of neighbours that the references do not have.

    Parameters
    ----------
    k : int
        Neighbours wanted.
    num_references : int
        Frames that there are.

    Raises
    ------
    UserError
        k is not in 1..num_references.

    Example
    -------
    >>> check_k(4, num_references=3)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: k=4: give 1..3, the reference has 3 frames; or give more speech
    """
    if not 1 <= k <= num_references:
        raise UserError(
            f"k={k}: give 1..{num_references}, the reference has {num_references} frames; or give"
            " more speech"
        )


def nearest_frames(
    queries: Tensor,
    references: Tensor,
    k: int,
    query_block: int = 512,
    reference_block: int = 4096,
) -> Tensor:
    """Exact k nearest references of each query, by cosine.

    One product of a block of queries with a block of references is in memory at a time, and the
    best so far of each query. Similarities are float32; the k + 8 best are then put in order in
    float64, equal ones by their index, so neither the blocks nor a query's company in the batch
    change what comes out.

    The default blocks take 4 (query_block + D) reference_block bytes, 25 MB at D = 1024.

    Parameters
    ----------
    queries : Tensor
        (Q, D) floating point.
    references : Tensor
        (R, D) floating point, of any precision; blocks of it move to the queries' device.
    k : int
        Neighbours, 1..R.
    query_block, reference_block : int
        Frames compared at once.

    Returns
    -------
    Tensor
        (Q, k) int64 in [0, R), most similar first, on the queries' device.

    Raises
    ------
    UserError
        k is not in 1..R.

    Example
    -------
    >>> nearest_frames(torch.tensor([[1.0, 0.1]]), torch.eye(2), k=2)
    tensor([[0, 1]])
    """
    check_k(k, len(references))
    count = min(k + SPARE, len(references))
    unit = F.normalize(queries.float(), dim=1)
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
    """The k best of each query's candidates, by cosine in float64, equal ones by their index.

    Parameters
    ----------
    queries : Tensor
        (Q, D) floating point.
    references : Tensor
        (R, D) floating point.
    candidates : Tensor
        (Q, C) int64 in [0, R), C >= k, no index twice in a row.
    k : int
        How many to keep.

    Returns
    -------
    Tensor
        (Q, k) int64, most similar first.

    Example
    -------
    >>> rank_candidates(torch.ones(1, 2), torch.eye(2), torch.tensor([[1, 0]]), k=1)
    tensor([[0]])
    """
    ranked = []
    rows = zip(queries.split(RANKED_AT_ONCE), candidates.split(RANKED_AT_ONCE), strict=True)
    for query, indices in rows:
        # where the references lie: not every device has float64
        indices = indices.to(references.device).sort(dim=1).values
        frames = references[indices].double()
        # sums of rows, not a matrix product: that rounds by the shape of the whole
        products = (frames * query.to(references.device).double()[:, None]).sum(dim=2)
        cosines = products / frames.norm(dim=2).clamp_(min=1e-12)
        order = cosines.argsort(dim=1, descending=True, stable=True)[:, :k]
        ranked.append(indices.gather(1, order).to(queries.device))
    return torch.cat(ranked)


def take_frames(references: Tensor, indices: Tensor) -> Tensor:
    """Look frames up where they lie, and bring only them to the indices' device.

    Parameters
    ----------
    references : Tensor
        (R, D), on any device.
    indices : Tensor
        int64 in [0, R), any shape.

    Returns
    -------
    Tensor
        indices.shape + (D,), on the device of `indices`.

    Example
    -------
    >>> take_frames(torch.eye(2), torch.tensor([[1, 0]]))
    tensor([[[0., 1.],
             [1., 0.]]])
    """
    return references[indices.to(references.device)].to(indices.device)
