"""Files of finished parts: whole or not there, and known to belong to their plan."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from focalcodec.files import atomic_path
from focalcodec.tokenize.part_encoder import EncodedClip


def write_part(path: Path, digest: str, clips: Sequence[EncodedClip]) -> None:
    """Write a finished part, or nothing: a SHA-256 and the `.npz` that it is of.

    Parameters
    ----------
    path : Path
        File to write.
    digest : str
        Of the plan.
    clips : sequence of EncodedClip
        All of the part.

    Example
    -------
    >>> import tempfile
    >>> clips = [EncodedClip(torch.tensor([3, 1]), 640, 16000), EncodedClip(reason="empty")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_part(Path(folder) / "0", "ab", clips)
    ...     read_part(Path(folder) / "0", "ab", 2)
    ...     read_part(Path(folder) / "0", "cd", 2)
    [EncodedClip(toks=tensor([3, 1]), num_samples=640, sample_rate=16000, reason=''), \
EncodedClip(toks=tensor([], dtype=torch.int64), num_samples=0, sample_rate=0, reason='empty')]
    """
    texts = json.dumps([digest, *(clip.reason for clip in clips)]).encode()
    numbers = [(len(clip.toks), clip.num_samples, clip.sample_rate) for clip in clips]
    content = io.BytesIO()
    np.savez(
        content,
        toks=torch.cat([clip.toks for clip in clips]).numpy().astype(np.uint32),
        numbers=np.array(numbers, dtype=np.int64),
        texts=np.frombuffer(texts, dtype=np.uint8),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())


def read_part(path: Path, digest: str, num_clips: int) -> list[EncodedClip] | None:
    """Read a finished part.

    Parameters
    ----------
    path : Path
        From `write_part`.
    digest : str
        Of the plan.
    num_clips : int
        Clips that the plan has in this part.

    Returns
    -------
    list of EncodedClip or None
        None where there is no sound file of this plan: the part is to be done.
    """
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    with np.load(io.BytesIO(content[32:])) as arrays:
        toks, numbers = arrays["toks"], arrays["numbers"]
        found, *reasons = json.loads(arrays["texts"].tobytes())
    if found != digest or len(reasons) != num_clips:
        return None
    each = torch.from_numpy(toks.astype(np.int64)).split(numbers[:, 0].tolist())
    return [
        EncodedClip(clip, num_samples, sample_rate, reason)
        for clip, (_, num_samples, sample_rate), reason in zip(
            each, numbers.tolist(), reasons, strict=True
        )
    ]
