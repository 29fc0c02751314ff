"""Voice conversion of features with NumPy; `focalcodec.knn` explains it."""

from __future__ import annotations

import numpy as np

from focalcodec.errors import UserError
from focalcodec.onnx_runtime.bundle import Array

_BLOCK = 256  # queries compared with all references at once
_SPARE = 8  # candidates besides the k, which are ranked again in float64


def convert_feats(qfeats: Array, lengths: Array, reference: Array, k: int = 4) -> Array:
    """Replace each valid frame of qfeats (B, N, D) by the mean of its k nearest references (R, D).

    `lengths` (B,) are the valid frames; the others are zero. A `UserError` if the widths differ, or
    k is not in 1..R.
    """
    if qfeats.shape[2] != reference.shape[1]:
        raise UserError(
            f"reference: {reference.shape[1]} values a frame, expected {qfeats.shape[2]}; make it"
            " with this codec"
        )
    if not 1 <= k <= len(reference):
        raise UserError(f"k={k}: give 1..{len(reference)}, or more speech as the reference")
    converted = np.zeros_like(qfeats)
    for clip, size, out in zip(qfeats, lengths, converted, strict=True):
        for start in range(0, int(size), _BLOCK):
            some = slice(start, min(start + _BLOCK, int(size)))
            found = nearest_frames(clip[some], reference, k)
            out[some] = reference[found].mean(axis=1)
    return converted


def nearest_frames(queries: Array, references: Array, k: int) -> Array:
    """Indices (Q, k) of the k nearest references of each query, by cosine, best first.

    float64 ranks the best candidates of float32, equal ones by their index.
    """
    cosines = _unit(queries) @ _unit(references).T  # (Q, R)
    count = min(k + _SPARE, len(references))
    candidates = np.sort(np.argpartition(-cosines, count - 1, axis=1)[:, :count], axis=1)
    frames = references[candidates].astype(np.float64)  # (Q, count, D)
    products = (frames * queries[:, None].astype(np.float64)).sum(axis=2)
    exact = products / np.maximum(np.linalg.norm(frames, axis=2), 1e-12)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, order, axis=1)


def _unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
