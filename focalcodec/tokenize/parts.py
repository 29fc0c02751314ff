"""Parts of a corpus: a tokenizer encodes their clips in batches of similar length, into files."""

from __future__ import annotations

import hashlib
import io
import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import AudioInfo, audio_info, read_audio
from focalcodec.audio_files.sound import AudioSource
from focalcodec.audio_stream import AudioStream
from focalcodec.codec import FocalCodec
from focalcodec.coders.hub import HubCoder
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.long_audio.coding import encode_blocks, encode_plan, encode_window
from focalcodec.tokenize.clips import CorpusClip, CorpusSource
from focalcodec.tokenize.plan import PART_BYTES, TokenizeOptions
from focalcodec.tokenize.store import TokenizedClip
from focalcodec.tokenize.tars import TarSource
from focalcodec.tokenize.urls import StorageError

_READ_AHEAD = 2  # batches
_T = TypeVar("_T")


@dataclass(frozen=True)
class EncodedClip:
    """Tokens of a clip, or the reason why it failed."""

    toks: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # (N * Q,)
    num_samples: int = 0  # of the audio file
    sample_rate: int = 0  # of the audio file, Hz
    reason: str = ""  # why the clip failed; empty if it did not
    clip: CorpusClip = CorpusClip("", "")

    @property
    def seconds(self) -> float:
        """Audio encoded."""
        return 0.0 if self.reason else self.num_samples / self.sample_rate


class PartEncoder:
    """Encodes parts of a corpus, while the threads of `pool` read the next batches."""

    def __init__(
        self, tokenizer: Tokenizer, source: CorpusSource, options: TokenizeOptions, pool: Executor
    ) -> None:
        self.tokenizer, self.source = tokenizer, source
        self.options, self.pool = options, pool

    def encode_part(
        self,
        clips: Sequence[CorpusClip],
        on_seconds: Callable[[float], None] = lambda seconds: None,
    ) -> list[EncodedClip]:
        """Encode a part; tar files are replaced by the clips that are found while they are read."""
        if not isinstance(self.source, TarSource):
            return self.encode(clips, on_seconds)
        done: list[EncodedClip] = []
        for read in self.source.read(clips, self.options.part_clips):
            encoder = PartEncoder(self.tokenizer, read, self.options, self.pool)
            done += encoder.encode(read.clips, on_seconds)
        return done

    def encode(
        self,
        clips: Sequence[CorpusClip],
        on_seconds: Callable[[float], None] = lambda seconds: None,
    ) -> list[EncodedClip]:
        """Encode clips, one result per clip in their order.

        The batches depend only on the part, so its tokens do not depend on the process that
        encodes it. `on_seconds` is called with the audio of each finished batch, in seconds.
        """
        # Headers first: they give the lengths, which decide the batches.
        headers = dict(enumerate(self._headers(clips)))
        infos = {index: info for index, info in headers.items() if not isinstance(info, str)}
        done = {
            index: EncodedClip(reason=info, clip=clips[index])
            for index, info in headers.items()
            if isinstance(info, str)
        }
        for indices, toks in self._toks(clips, infos):
            for index, found in zip(indices, toks, strict=True):
                if isinstance(found, str):
                    done[index] = EncodedClip(reason=found, clip=clips[index])
                else:
                    size = infos[index].num_samples, infos[index].sample_rate
                    done[index] = EncodedClip(found, *size, clip=clips[index])
            on_seconds(sum(done[index].seconds for index in indices))
        return [done[index] for index in range(len(clips))]

    def _headers(self, clips: Sequence[CorpusClip]) -> Iterator[AudioInfo | str]:
        """Header of each clip; bytes that were fetched for it are kept, up to `PART_BYTES`."""
        self._kept: dict[str, io.BytesIO] = {}
        free = PART_BYTES
        for clip, (info, audio) in zip(clips, self.pool.map(self._header, clips), strict=True):
            if isinstance(audio, io.BytesIO) and audio.getbuffer().nbytes <= free:
                free -= audio.getbuffer().nbytes
                self._kept[clip.location] = audio
            yield info

    def _toks(
        self, clips: Sequence[CorpusClip], infos: Mapping[int, AudioInfo]
    ) -> Iterator[tuple[list[int], list[Tensor | str]]]:
        """Clips of each batch, with their tokens or the reason why they failed."""
        limit = self.options.window_seconds
        short = {index: info.seconds for index, info in infos.items() if info.seconds <= limit}
        batches = plan_batches(short, self.options.batch_seconds)
        for indices, sigs in self._read_ahead(clips, batches):
            yield indices, encode_batch(self.tokenizer, sigs)
        # Long clips are read and encoded window by window, so they need little memory.
        for index in infos.keys() - short.keys():
            yield [index], [self._encode_long(clips[index])]

    def _read_ahead(
        self, clips: Sequence[CorpusClip], batches: Iterable[list[int]]
    ) -> Iterator[tuple[list[int], list[Tensor | str]]]:
        # While the model encodes a batch, the threads read the next ones.
        waiting: deque[tuple[list[int], list[Future[Tensor | str]]]] = deque()
        for batch in batches:
            waiting.append((batch, [self.pool.submit(self._read, clips[i]) for i in batch]))
            if len(waiting) > _READ_AHEAD:
                indices, futures = waiting.popleft()
                yield indices, [future.result() for future in futures]
        for indices, futures in waiting:
            yield indices, [future.result() for future in futures]

    def _header(self, clip: CorpusClip) -> tuple[AudioInfo | str, AudioSource | None]:
        audio: AudioSource | None = None

        def read() -> AudioInfo:
            nonlocal audio
            audio = self.source.audio(clip)
            return audio_info(audio)

        return _or_reason(read), audio

    def _audio(self, clip: CorpusClip) -> AudioSource:
        kept = self._kept.pop(clip.location, None)
        if kept is None:
            return self.source.audio(clip)
        kept.seek(0)
        return kept

    def _read(self, clip: CorpusClip) -> Tensor | str:
        rate, channels = self.tokenizer.sample_rate_input, self.options.channels
        return _or_reason(lambda: read_audio(self._audio(clip), rate, channels=channels))

    def _encode_long(self, clip: CorpusClip) -> Tensor | str:
        def encode() -> Tensor:
            rate, channels = self.tokenizer.sample_rate_input, self.options.channels
            with AudioStream(self._audio(clip), rate, channels) as stream:
                return self.tokenizer.encode_long(stream, self.options.window_seconds)

        return _or_reason(encode)


def plan_batches(seconds: Mapping[int, float], batch_seconds: float) -> list[list[int]]:
    """Group clips of similar length into batches, longest clips first.

    `seconds` holds the length of each clip, and a batch holds its keys. A batch has at most
    `batch_seconds` of audio, padding included, or as much as the longest clip.

    Example
    -------
    >>> plan_batches({3: 1.0, 5: 4.0, 8: 3.0, 9: 7.0}, batch_seconds=8.0)
    [[9], [5, 8], [3]]
    """
    if not seconds:
        return []
    keys, durations = list(seconds), list(seconds.values())
    limit = max(batch_seconds, *durations)
    sampler = EpochBatchSampler(durations, max_batch_seconds=limit, sorting="descending")
    return [[keys[place] for place in batch] for batch in sampler]


def encode_batch(tokenizer: Tokenizer, sigs: Sequence[Tensor | str]) -> list[Tensor | str]:
    """Encode the clips of a batch that could be read, (T,) each; keep the reasons of the others.

    Returns toks (N * Q,) int64 on the CPU per clip. A batch that is too large for the memory of
    the device is a `UserError`.
    """
    read = [sig for sig in sigs if not isinstance(sig, str)]
    if not read:
        return list(sigs)
    try:
        rows = iter(tokenizer.encode(read))
    except torch.OutOfMemoryError as error:
        seconds = len(read) * max(map(len, read)) / tokenizer.sample_rate_input
        raise UserError(
            f"{seconds:.0f} s of audio in a batch: more than the device's memory holds; lower"
            " batch_seconds and window_seconds"
        ) from error
    return [sig if isinstance(sig, str) else next(rows) for sig in sigs]


def write_part(
    path: Path, digest: str, clips: Sequence[EncodedClip], with_clips: bool = False
) -> None:
    """Write a finished part of the plan with this digest, atomically: a SHA-256 and a `.npz`.

    `with_clips` writes the clips too, which else come from the source.
    """
    texts = json.dumps([digest, *(clip.reason for clip in clips)]).encode()
    about = json.dumps([clip.clip for clip in clips] if with_clips else None).encode()
    numbers = [(len(clip.toks), clip.num_samples, clip.sample_rate) for clip in clips]
    content = io.BytesIO()
    np.savez(
        content,
        toks=torch.cat([clip.toks for clip in clips]).numpy().astype(np.uint32),  # (all tokens,)
        numbers=np.array(numbers, dtype=np.int64),  # (clips, 3)
        texts=np.frombuffer(texts, dtype=np.uint8),  # JSON: strings of any length, no pickle
        clips=np.frombuffer(about, dtype=np.uint8),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())


def read_part(path: Path, digest: str, listed: Sequence[CorpusClip]) -> list[EncodedClip] | None:
    """Read a finished part; None if there is no intact file of this plan and these clips."""
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    with np.load(io.BytesIO(content[32:])) as arrays:
        toks, numbers = arrays["toks"], arrays["numbers"]
        found, *reasons = json.loads(arrays["texts"].tobytes())
        about = json.loads(arrays["clips"].tobytes()) if "clips" in arrays else None
    clips = listed if about is None else [CorpusClip(*clip) for clip in about]
    if found != digest or len(reasons) != len(clips):
        return None
    each = torch.from_numpy(toks.astype(np.int64)).split(numbers[:, 0].tolist())
    return [
        EncodedClip(toks, num_samples, sample_rate, reason, clip)
        for toks, (_, num_samples, sample_rate), reason, clip in zip(
            each, numbers.tolist(), reasons, clips, strict=True
        )
    ]


def tokenized(clips: Iterable[EncodedClip]) -> Iterator[TokenizedClip]:
    """Clips with tokens, as the store writes them."""
    for encoded in clips:
        if not encoded.reason:
            size = encoded.num_samples, encoded.sample_rate
            clip = encoded.clip
            yield TokenizedClip(clip.id, encoded.toks, *size, clip.spk_id, clip.wrd)


def failed_row(encoded: EncodedClip) -> dict[str, str]:
    """Row of `failed.csv`."""
    clip = encoded.clip
    return {"id": clip.id, "path": clip.location, "reason": encoded.reason}


def _or_reason(read: Callable[[], _T]) -> _T | str:
    """Result of `read`, or the message of its error if the file is bad."""
    try:
        return read()
    except StorageError:  # it is not the clip that is bad
        raise
    except (UserError, OSError) as error:
        return str(error)


# -- tokenizers ------------------------------------------------------------------------------------


class Tokenizer(ABC):
    """Interface of a codec for `tokenize_corpus`.

    Tokens of Q streams are written frame by frame, (N * Q,): the streams of a frame stand side by
    side. A clip gives the same tokens alone and in any batch.
    """

    sample_rate_input: int  # Hz
    sample_rate_output: int  # Hz
    token_rate: float  # frames per second
    codebook_size: int  # tokens of a stream
    streams: int = 1  # tokens of a frame, Q

    @abstractmethod
    def check(self, window_seconds: float) -> None:
        """Raise `UserError` if no clip can be encoded with this window."""

    @abstractmethod
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (N * Q,) int64 on the CPU of each clip (T,) at `sample_rate_input`."""

    @abstractmethod
    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Tokens of one clip that arrives in blocks (T,)."""

    @abstractmethod
    def codes(self) -> list[Tensor] | None:
        """Vectors (K, L) of the tokens of each stream; None if the codec has no codebook."""


class FocalTokenizer(Tokenizer):
    """FocalCodec, in eval mode and on its device: one stream."""

    def __init__(self, codec: FocalCodec) -> None:
        self.codec = codec
        self.sample_rate_input = codec.sample_rate_input
        self.sample_rate_output = codec.sample_rate_output
        self.token_rate, self.codebook_size = codec.token_rate, codec.codebook_size

    def check(self, window_seconds: float) -> None:
        """Raise `UserError` if the window is shorter than the model's context."""
        encode_plan(self.codec, window_seconds)

    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode a batch."""
        lengths = torch.tensor([len(sig) for sig in sigs], dtype=torch.int64)
        # an encoder may have a maximum length that is shorter than these clips
        limit = encode_window(self.codec, math.inf)
        if int(lengths.max()) > limit * self.sample_rate_input:
            return [self.encode_long([sig], limit) for sig in sigs]
        sig = pad_sequence(list(sigs), batch_first=True)  # (B, T)
        toks, ends = self.codec.encode(sig, self.sample_rate_input, lengths)  # (B, N), (B,)
        return [row[:end] for row, end in zip(toks.cpu(), ends.tolist(), strict=True)]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode in windows."""
        rate = self.sample_rate_input
        return torch.cat([*encode_blocks(self.codec, blocks, rate, window_seconds)])

    def codes(self) -> list[Tensor]:
        """The codebook."""
        return [self.codec.codebook.detach().float().cpu()]


class HubTokenizer(Tokenizer):
    """EnCodec, DAC, Mimi or X-codec2: clip by clip, because their tokens depend on padding."""

    def __init__(self, coder: HubCoder) -> None:
        self.coder, self.streams = coder, coder.streams
        self.sample_rate_input = coder.sample_rate_input
        self.sample_rate_output = coder.sample_rate_output
        self.token_rate = coder.frame_rate(coder.model.config)
        self.codebook_size = coder.stream_size(coder.model.config)

    def check(self, window_seconds: float) -> None:
        """Nothing to check: these codecs have no windows."""

    @torch.no_grad()
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode clip by clip."""
        # (Q, N) -> (N * Q,)
        return [self.coder.encode_clip(sig)[0].T.flatten().long().cpu() for sig in sigs]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode as a whole."""
        return self.encode([torch.cat([*blocks])])[0]

    def codes(self) -> list[Tensor] | None:
        """Codebooks of the streams in use."""
        return self.coder.codebooks()


def as_tokenizer(codec: FocalCodec | HubCoder | Tokenizer) -> Tokenizer:
    """Return the tokenizer of a codec; `UserError` if the codec has no tokens."""
    if isinstance(codec, FocalCodec):
        return FocalTokenizer(codec)
    if isinstance(codec, HubCoder):
        return HubTokenizer(codec)
    if isinstance(codec, Tokenizer):
        return codec
    raise UserError(f"{type(codec).__name__}: it has no tokens; give a neural codec")
