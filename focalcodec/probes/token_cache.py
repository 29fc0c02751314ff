"""Tokens of a set, computed once: kept by the model's hash and that of the set's audio."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile

from focalcodec.audio import audio_info
from focalcodec.audio_file import AudioSource
from focalcodec.data.clip_audio import read_clip
from focalcodec.errors import UserError
from focalcodec.probes.codec import ProbeCodec
from focalcodec.tokenize.plan import Shard, TokenizeOptions, TokenizePlan
from focalcodec.tokenize.run import tokenize_corpus
from focalcodec.tokenize.sources import CorpusClip
from focalcodec.tokenize.store import META_NAME, TokenStore
from focalcodec.tokenize.vocabulary import TokenVocabulary
from focalcodec.tokenize.workspace import FAILED_NAME

_logger = logging.getLogger(__name__)
_ALONE = Shard()
_WAIT_SECONDS = 0.5


class RowSource:
    """Clips of a manifest's rows, files or parts of them, for the corpus tokenizer.

    Parameters
    ----------
    rows : sequence of dict
        From `read_manifest`.
    column : str
        Which of their files: wav, noisy, s1 ...

    Raises
    ------
    UserError
        No such column.

    Example
    -------
    >>> RowSource([{"ID": "a", "wav": "a.flac"}], "s1")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: clip 'a': no column 's1' in its manifest, which has ID, wav; name \
one of them
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], column: str) -> None:
        for row in rows:
            if not row.get(column):
                raise UserError(
                    f"clip {row['ID']!r}: no column {column!r} in its manifest, which has"
                    f" {', '.join(row)}; name one of them"
                )
        self._rows = {row["ID"]: row for row in rows}
        self.clips: Sequence[CorpusClip] = [
            CorpusClip(row["ID"], row[column], *_status(row[column])) for row in rows
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is heard: names, sizes, times of change and parts of the files.

        Labels and texts, and where the corpus lies, are no part of it.
        """
        digest = hashlib.sha256()
        for clip in self.clips:
            part = [self._rows[clip.id].get(name) for name in ("start", "stop", "channels")]
            about = (clip.id, Path(clip.location).name, clip.size, clip.modified_ns, *part)
            digest.update(repr(about).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path of a clip, or the audio of the part that it is."""
        row = self._rows[clip.id]
        if "start" not in row and not row.get("channels"):
            return clip.location
        span = (row["start"], row["stop"]) if "start" in row else None
        rate = audio_info(clip.location).sample_rate
        sig = read_clip(clip.location, rate, span, row.get("channels") or "mix")
        made = io.BytesIO()
        soundfile.write(made, sig.numpy(), rate, format="WAV", subtype="FLOAT")
        made.seek(0)
        return made


def keep_tokens(
    codec: ProbeCodec,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    folder: str | Path,
    shard: Shard = _ALONE,
) -> TokenStore:
    """Tokens of a set: read where they are there, else computed.

    Several processes share the work, and all return when it is done; a run that was cut off goes
    on where it was.

    Parameters
    ----------
    codec : ProbeCodec
        Whose tokens.
    rows : sequence of dict
        From `read_manifest`.
    column : str
        Which of their files.
    folder : str or path
        Each set of tokens has a folder of its own in it.
    shard : Shard
        Which of how many processes this is.

    Returns
    -------
    TokenStore
        Clips by their IDs in the order of the rows; one whose file is broken is not among them.
    """
    options, vocabulary = TokenizeOptions(), TokenVocabulary(codec.codebook_size, special=())
    plan = TokenizePlan(RowSource(rows, column), codec.identity, options, vocabulary)
    out = Path(folder).expanduser() / f"{codec.folder}-{plan.digest[:16]}"
    # Those that are there are not looked at again: reading them is all that a run needs.
    if not (out / META_NAME).is_file():
        tokenize_corpus(codec.tokenizer, plan, out, shard)
    while not (out / META_NAME).is_file():
        time.sleep(_WAIT_SECONDS)
    store = TokenStore(out)
    if len(store) < len(rows):
        broken = len(rows) - len(store)
        _logger.warning(f"{broken} of {len(rows)} clips are broken: see {out / FAILED_NAME}")
    return store


def _status(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
