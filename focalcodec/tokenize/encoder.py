"""Batches of audio in, tokens out: one callable for Ray Data, `datasets` and Spark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from focalcodec.audio_files.sound import AudioSource
from focalcodec.choices import WINDOW_SECONDS, Channels
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError, one_line
from focalcodec.precision import set_precision
from focalcodec.tokenize.clips import CorpusClip, NamedBytes, open_location, wave_bytes
from focalcodec.tokenize.parts import FocalTokenizer, PartEncoder
from focalcodec.tokenize.plan import TokenizeOptions

if TYPE_CHECKING:
    import pandas as pd

_RATES = ("sample_rate", "sampling_rate")
_IMPORTED_BY = os.getpid()


@dataclass(frozen=True)
class ClipEncoder:
    """Encode batches of clips, for Ray's `map_batches`, `datasets.map` and Spark's `mapInPandas`.

    A batch is a mapping of columns, an Arrow table, which gives a mapping, or a pandas DataFrame;
    an iterator of DataFrames gives an iterator. The result has the other columns of the batch and

    * `toks`: the clip's tokens, (N,) integers, those that `focalcodec tokenize` writes;
    * `lengths`: N;
    * `num_samples`, `sample_rate`: of the clip, for `codec.decode`;
    * `reason`: why the clip could not be read, "" if it could; such a clip has no tokens.

    The object has no weights and can be pickled; a process loads the model for its first batch.
    A forked process encodes with one thread, because threads do not survive a fork.

    Parameters
    ----------
    model : str
        As for `FocalCodec.from_pretrained`; each worker loads it.
    column : str
        Column of audio: bytes of a file, a path or URL, a dict with `bytes` or `path`, a dict with
        `array` and `sampling_rate`, or an array (T,) or (channels, T) beside a column
        `sample_rate`.
    device, precision, revision, trust
        As for `FocalCodec.from_pretrained` and `focalcodec.precision.set_precision`.
    channels, batch_seconds, window_seconds
        As for `TokenizeOptions`.
    read_threads : int
        Threads that read audio.

    Raises
    ------
    UserError
        An option is out of range; with the first batch: no such model, device or column.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> paths = sorted(map(str, embedded_corpus("LibriSpeech").glob("test-real/91/1/*.flac")))
    >>> encoded = ClipEncoder("demo")({"audio": paths, "id": ["a", "b", "c"][: len(paths)]})
    >>> list(encoded)
    ['id', 'toks', 'lengths', 'num_samples', 'sample_rate', 'reason']
    """

    SCHEMA: ClassVar[str] = (
        "toks array<int>, lengths long, num_samples long, sample_rate long, reason string"
    )
    """Columns of the result as Spark names them."""

    model: str
    column: str = "audio"
    device: str = "auto"
    precision: str = "fp32"
    revision: str | None = None
    trust: Sequence[str] = ()
    channels: Channels = "mix"
    batch_seconds: float = 120.0
    window_seconds: float = WINDOW_SECONDS
    read_threads: int = 4

    def __post_init__(self) -> None:
        """Check the options where the object is made, not in a worker."""
        object.__setattr__(self, "trust", tuple(self.trust))  # a key of the cache of models
        self._options()

    def __call__(self, batch: Any) -> Any:
        """Encode a mapping of columns, a DataFrame, or each of an iterator of DataFrames."""
        if isinstance(batch, Mapping):
            return self._encode(batch)
        if hasattr(batch, "to_pydict"):  # a table of Arrow
            return self._encode(batch.to_pydict())
        if hasattr(batch, "columns"):
            return self._encode_frame(batch)
        return self._encode_frames(batch)

    def _encode_frames(self, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            yield self._encode_frame(frame)

    def _encode_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        encoded = self._encode({str(name): list(frame[name]) for name in frame.columns})
        return pd.DataFrame(encoded, index=frame.index)

    def _encode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        if self.column not in batch:
            raise UserError(
                f"column={self.column!r}: the batch has {', '.join(batch) or 'no columns'}; give"
                " the name of its column of audio"
            )
        values = batch[self.column]
        if isinstance(values, (Mapping, bytes, str)):
            raise UserError(f"column={self.column!r}: one clip, not a batch; give batched=True")
        rates: Sequence[Any] = next(
            (batch[name] for name in _RATES if name in batch), [None] * len(values)
        )
        source = _BatchSource(list(zip(values, rates, strict=True)))
        if os.getpid() != _IMPORTED_BY:  # forked: the threads of OpenMP stayed in the parent
            torch.set_num_threads(1)
        about = self.model, self.revision, self.device, self.precision, self.trust
        tokenizer = _load(*about, os.getpid())
        with ThreadPoolExecutor(self.read_threads) as pool:
            clips = PartEncoder(tokenizer, source, self._options(), pool).encode(source.clips)
        return {
            **{name: batch[name] for name in batch if name != self.column},
            "toks": [clip.toks.tolist() for clip in clips],
            "lengths": [len(clip.toks) for clip in clips],
            "num_samples": [clip.num_samples for clip in clips],
            "sample_rate": [clip.sample_rate for clip in clips],
            "reason": [clip.reason for clip in clips],
        }

    def _options(self) -> TokenizeOptions:
        return TokenizeOptions(self.channels, self.batch_seconds, self.window_seconds)


@lru_cache(maxsize=1)
def _load(
    model: str,
    revision: str | None,
    device: str,
    precision: str,
    trust: Sequence[str],
    process: int,
) -> FocalTokenizer:
    """Load the model once in this process; a forked one can't use that of its parent on a GPU."""
    try:
        codec = FocalCodec.from_pretrained(model, revision=revision, device=device, trust=trust)
    except RuntimeError as error:
        if "forked subprocess" not in str(error):
            raise
        raise UserError(
            f"device={device}: a forked process can't use the GPU ({one_line(error)}); call"
            ' multiprocess.set_start_method("spawn") first'
        ) from error
    return FocalTokenizer(set_precision(codec, precision))


class _BatchSource:
    """Values of a column as clips."""

    digest = ""

    def __init__(self, values: Sequence[tuple[Any, Any]]) -> None:
        self._values = values
        self.clips = [CorpusClip(str(row), str(row)) for row in range(len(values))]

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path or bytes of a clip."""
        value, rate = self._values[int(clip.location)]
        name = f"row {clip.location} of the batch"
        if isinstance(value, Mapping):
            rate = value.get("sampling_rate", rate)
            name = str(value.get("path") or name)
            kinds = (value.get(kind) for kind in ("bytes", "array", "path"))
            value = next((kind for kind in kinds if kind is not None), None)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return NamedBytes(bytes(value), name)
        if isinstance(value, (str, os.PathLike)):
            return open_location(os.fspath(value))
        if value is not None and rate is not None:
            return _wave(np.asarray(value), int(rate), name)
        raise UserError(
            f"{name}: no audio; give bytes of a file, a path, or an array with its sample_rate"
        )


def _wave(sig: np.ndarray, sample_rate: int, name: str) -> NamedBytes:
    """Samples (T,) or (channels, T) as a WAV file in memory, without a loss."""
    if sig.ndim not in (1, 2) or not np.issubdtype(sig.dtype, np.floating):
        raise UserError(f"{name}: {sig.dtype} {sig.shape}; give floats (T,) or (channels, T)")
    return wave_bytes(sig.T, sample_rate, name)
