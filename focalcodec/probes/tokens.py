"""The frozen codec of a probe, and its tokens of a set, which are computed once and stored."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor, nn

from focalcodec.audio import audio_info
from focalcodec.audio_files.sound import AudioSource
from focalcodec.codec import FocalCodec
from focalcodec.coders import load_coder, parse_spec
from focalcodec.coders.coder import Sent
from focalcodec.coders.focal import FocalCoder, VocoderCoder
from focalcodec.coders.hub import HubCoder
from focalcodec.data.clips import read_clip
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.tokenize.clips import CorpusClip
from focalcodec.tokenize.parts import as_tokenizer
from focalcodec.tokenize.plan import ModelIdentity, TokenizeOptions, TokenizePlan
from focalcodec.tokenize.run import FAILED_NAME, tokenize_corpus
from focalcodec.tokenize.store import META_NAME, TokenStore, TokenVocabulary

logger = logging.getLogger(__name__)

INPUTS = ("toks", "qfeats", "feats", "logmel")
FROM_AUDIO = ("feats", "logmel")
_LOGMEL_RATE = 50  # frames a second
_ALONE = Shard()
_WAIT_SECONDS = 0.5


class ProbeCodec:
    """A frozen codec with tokens, loaded by its name in the YAML.

    Parameters
    ----------
    text : str
        As in `focalcodec.coders`: a folder or hub name of ours, encodec:6, dac:4, mimi:8.
    device : torch.device, optional
        Device of the codec; default CPU.
    trust : collection of str
        Modules whose classes may be its parts.

    Attributes
    ----------
    name, folder : str
        Name in tables, and the same as a file name.
    coder : FocalCoder or HubCoder
        The codec for the evaluation.
    tokenizer : Tokenizer
        The codec for the corpus tokenizer.

    Raises
    ------
    UserError
        The codec can't be loaded, or has no tokens.
    """

    def __init__(
        self, text: str, device: torch.device | None = None, trust: Collection[str] = ()
    ) -> None:
        spec = replace(parse_spec(str(text)), trust=tuple(trust))
        self.name, self.folder, self.text = spec.label, spec.folder, text
        coder = load_coder(spec, device or torch.device("cpu"))
        if isinstance(coder, FocalCoder) and not isinstance(coder, VocoderCoder):
            self.tokenizer = as_tokenizer(coder.codec)
        elif isinstance(coder, HubCoder):
            self.tokenizer = as_tokenizer(coder)
        else:
            raise UserError(f"codec={text}: it has no tokens; give a neural codec")
        self.coder: FocalCoder | HubCoder = coder

    @property
    def identity(self) -> ModelIdentity:
        """The model's part of the key under which tokens are stored."""
        return ModelIdentity(self.name, self.coder.weights_sha256, streams=self.tokenizer.streams)

    @property
    def streams(self) -> int:
        """Tokens of a frame, Q."""
        return self.tokenizer.streams

    @property
    def codebook_size(self) -> int:
        """Tokens of a stream, K."""
        return self.tokenizer.codebook_size

    def frozen_part(self, inputs: str) -> Any:
        """Return the frozen module that computes a probe's input during training.

        It is `nn.Identity` for "toks", the codec for "qfeats", its encoder for "feats", and 80
        log-mel bands, which need no codec, for "logmel". UserError if `inputs` is not in `INPUTS`,
        or for features of a codec other than FocalCodec.
        """
        if inputs not in INPUTS:
            raise UserError(f"inputs={inputs!r}: not one of {', '.join(INPUTS)}")
        if inputs == "toks":
            return nn.Identity()
        if inputs == "logmel":
            rate = self.tokenizer.sample_rate_input
            return LogMel(rate, hop_length=rate // _LOGMEL_RATE)
        codec = self._focal_codec(f"inputs={inputs}")
        return codec if inputs == "qfeats" else codec.encoder

    def feature_dim(self, inputs: str) -> int:
        """Return the width of feats, qfeats or logmel."""
        return int(self.frozen_part("feats" if inputs == "qfeats" else inputs).dim)

    @torch.no_grad()
    def decode(self, toks: Tensor) -> Tensor:
        """Decode toks (N,) or (N, Q) to rec_sig (T,) on the CPU, at the coder's output rate."""
        if isinstance(self.coder, FocalCoder):
            return self.coder.decode(Sent((False, None), None, [toks.cpu()]))[0].float().cpu()
        streams = toks.view(len(toks), self.streams).T.to(self.coder.device)  # (Q, N)
        return self.coder.decode_clip(streams).float().cpu()

    def describe(self, inputs: str) -> dict[str, Any]:
        """Return the card's description of the codec, JSON-ready; features have no bitrate."""
        about = {"name": self.name, **self.coder.describe(), "streams": self.streams}
        return about | dict.fromkeys(("kbps", "bits") if inputs in FROM_AUDIO else ())

    def _focal_codec(self, what: str) -> FocalCodec:
        if not isinstance(self.coder, FocalCoder):
            raise UserError(f"{what}: only FocalCodec has them, not {self.name}; use toks")
        return self.coder.codec


class RowSource:
    """Source for the corpus tokenizer: the clips of a manifest's rows, whole files or parts.

    `rows` come from `read_manifest`; `column` names one of their files: wav, noisy, s1 ...
    UserError if the manifest has no such column.
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
            CorpusClip(row["ID"], row[column], *_size_and_time(row[column])) for row in rows
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the audio: names, sizes, modification times and parts of the files.

        Labels, texts and the folder of the corpus are not included, so the tokens stay valid if the
        corpus is moved or labelled again.
        """
        digest = hashlib.sha256()
        for clip in self.clips:
            part = [self._rows[clip.id].get(name) for name in ("start", "stop", "channels")]
            about = (clip.id, Path(clip.location).name, clip.size, clip.modified_ns, *part)
            digest.update(repr(about).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Return the path of a clip, or the audio of its part of a file."""
        row = self._rows[clip.id]
        if "start" not in row and not row.get("channels"):
            return clip.location
        span = (row["start"], row["stop"]) if "start" in row else None
        rate = audio_info(clip.location).sample_rate
        sig = read_clip(clip.location, rate, span, row.get("channels") or "mix")
        file = io.BytesIO()
        soundfile.write(file, sig.numpy(), rate, format="WAV", subtype="FLOAT")
        file.seek(0)
        return file


def cached_tokens(
    codec: ProbeCodec,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    folder: str | Path,
    shard: Shard = _ALONE,
) -> TokenStore:
    """Return the tokens of a set: read them if they are stored, otherwise compute them.

    The key is the hash of the model and of the set's audio. Several processes share the work, and
    all return when it is complete; an interrupted computation resumes.

    Parameters
    ----------
    codec : ProbeCodec
        Codec of the tokens.
    rows : sequence of dict
        Rows from `read_manifest`.
    column : str
        Which of their files: wav, noisy, s1 ...
    folder : str or path
        Folder of all token sets; each set has a folder in it.
    shard : Shard
        Index of this process and number of processes.

    Returns
    -------
    TokenStore
        Clips by their IDs, in the order of the rows, without clips with broken files.
    """
    options, vocabulary = TokenizeOptions(), TokenVocabulary(codec.codebook_size, special=())
    plan = TokenizePlan(RowSource(rows, column), codec.identity, options, vocabulary)
    out = Path(folder).expanduser() / f"{codec.folder}-{plan.digest[:16]}"
    # Complete tokens are not checked again: a run only needs to read them.
    if not (out / META_NAME).is_file():
        tokenize_corpus(codec.tokenizer, plan, out, shard)
    while not (out / META_NAME).is_file():
        time.sleep(_WAIT_SECONDS)
    store = TokenStore(out)
    if len(store) < len(rows):
        broken = len(rows) - len(store)
        logger.warning(f"{broken} of {len(rows)} clips are broken: see {out / FAILED_NAME}")
    return store


def _size_and_time(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
