"""Approximate search for the most similar frames: an inverted file of faiss."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.conversion.nearest import SPARE, check_k, nearest_frames, rank_candidates
from focalcodec.errors import UserError

# Frames that faiss wants for each centroid it learns: fewer, and it warns.
FRAMES_PER_LIST = 39
ADDED_AT_ONCE = 4096


class FaissIndex:
    """Normalised frames in lists, one around each centroid; a query looks into the nearest few.

    The lists hold 16-bit floats, so the index takes 2 D bytes a frame besides the frames
    themselves. Of what it finds the k best are chosen exactly.

    Parameters
    ----------
    references : Tensor
        (R, D) floating point.
    num_lists : int, optional
        Centroids; default the square root of R, and no more than can be learned from R frames.
    num_probes : int
        Lists that a query looks into: more is slower and misses less.

    Raises
    ------
    UserError
        faiss is not installed; numbers that do not fit.

    Example
    -------
    >>> import pytest
    >>> _ = pytest.importorskip("faiss")
    >>> references = torch.eye(8).repeat(10, 1)
    >>> FaissIndex(references, num_lists=2, num_probes=2).nearest(references[:1], k=2)
    tensor([[0, 8]])
    """

    def __init__(
        self, references: Tensor, num_lists: int | None = None, num_probes: int = 16
    ) -> None:
        faiss = _import_faiss()
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
        self._index = faiss.index_factory(dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        # evenly spaced: the frames of one file are much alike
        sample = torch.linspace(0, frames - 1, min(frames, FRAMES_PER_LIST * lists)).long()
        self._index.train(_unit(references[sample.to(references.device)]))
        for block in references.split(ADDED_AT_ONCE):
            self._index.add(_unit(block))

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Find the k nearest references of each query, by cosine; some may be missed.

        Parameters
        ----------
        queries : Tensor
            (Q, D) floating point.
        k : int
            Neighbours, 1..R.

        Returns
        -------
        Tensor
            (Q, k) int64, most similar first, on the queries' device.

        Raises
        ------
        UserError
            k is not in 1..R.
        """
        check_k(k, len(self.references))
        self._index.nprobe = min(self.num_probes, self.num_lists)
        _, found = self._index.search(_unit(queries), min(k + SPARE, len(self.references)))
        candidates = torch.from_numpy(found).to(queries.device)
        # -1: the lists that were looked into hold fewer frames than wanted
        short = (candidates < 0).any(dim=1)
        best = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
        best[~short] = rank_candidates(queries[~short], self.references, candidates[~short], k)
        if bool(short.any()):
            best[short] = nearest_frames(queries[short], self.references, k)
        return best


def _unit(frames: Tensor) -> Any:
    return F.normalize(frames.float(), dim=1).cpu().contiguous().numpy()


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "search='faiss': faiss is not installed; pip install faiss-cpu, or search='exact'"
        ) from error
    return faiss
