"""Tokens of a corpus on disk: a flat array that is read as a memmap, and Parquet files.

`toks.bin` holds the ids of all clips one after another, little-endian. `index.npy` is int64
(clips, 4): offset of a clip's first speech token in `toks.bin`, number of tokens, samples and
sample rate of the audio file. `index.csv` has the same with ids, speakers and texts, and
`meta.json` describes the model.
"""

from __future__ import annotations

import csv
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.tokenize.sources import import_datasets
from focalcodec.tokenize.vocabulary import TokenVocabulary

if TYPE_CHECKING:
    import pyarrow as pa

TOKS_NAME, INDEX_NAME, ROWS_NAME, META_NAME = "toks.bin", "index.npy", "index.csv", "meta.json"
META_KEY = b"focalcodec"
_NUMBERS = ("offset", "length", "num_samples", "sample_rate")
_COLUMNS = ["id", *_NUMBERS, "spk_id", "wrd"]
_GROUP_CLIPS = 256
_FILE_GROUPS = 400


class TokenizedClip(NamedTuple):
    """A clip with its tokens, and its data from the source."""

    id: str
    toks: Tensor  # (N * Q,) int64
    num_samples: int
    sample_rate: int
    spk_id: str = ""
    wrd: str = ""


class TokenStore:
    """Tokens of a corpus, read from disk on access.

    `store[i]` are the codec's own tokens of clip i, (N,) int64, or (N, Q) if it has Q streams.
    `store.stream` is the flat array of vocabulary ids, with special tokens, to train a language
    model.

    Parameters
    ----------
    folder : str or path
        Output folder of `focalcodec tokenize`.

    Raises
    ------
    UserError
        Not such a folder, not finished, or a file in it is truncated.

    Example
    -------
    >>> store = TokenStore("no/such/folder")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/such/folder/meta.json: no such file; run focalcodec tokenize \
to its end
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.meta: dict[str, Any] = _read_meta(self.folder / META_NAME)
        self.vocabulary = TokenVocabulary.from_config(self.meta["vocabulary"])
        path, dtype = self.folder / TOKS_NAME, self.vocabulary.dtype
        expected = self.meta["ids"] * dtype.itemsize
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise UserError(f"{path}: {size} bytes, not {expected}; copy the folder again")
        # an empty file can't be mapped
        self.stream: np.ndarray = np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)
        self.index: np.ndarray = np.load(self.folder / INDEX_NAME, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, clip: int) -> Tensor:
        """Tokens of a clip for the codec, (N,) or (N, Q) int64, without offset and specials."""
        start, length = self.index[clip, :2].tolist()
        ids = self.stream[start : start + length].astype(np.int64)
        toks = torch.from_numpy(ids) - self.vocabulary.offset
        return toks if self.streams == 1 else toks.view(-1, self.streams)

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        # a data loader's worker opens the files again instead of copying their content
        return TokenStore, (self.folder,)

    @property
    def streams(self) -> int:
        """Tokens per frame, Q."""
        return self.meta.get("streams", 1)

    def num_samples(self, clip: int) -> int:
        """Samples of a clip's audio file: `num_samples` for `codec.decode`."""
        return int(self.index[clip, 2])

    def sample_rate(self, clip: int) -> int:
        """Sample rate of a clip's audio file, Hz: `sample_rate` for `codec.decode`."""
        return int(self.index[clip, 3])

    @property
    def ids(self) -> list[str]:
        """Id of each clip."""
        return self._texts["id"]

    @property
    def spk_id(self) -> list[str]:
        """Speaker of each clip; empty if the source has none."""
        return self._texts["spk_id"]

    @property
    def text(self) -> list[str]:
        """Transcript of each clip; empty if the source has none."""
        return self._texts["wrd"]

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        with (self.folder / ROWS_NAME).open(
            encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            rows = [(row["id"], row["spk_id"], row["wrd"]) for row in csv.DictReader(file)]
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        names = ("id", "spk_id", "wrd")
        return {name: list(values) for name, values in zip(names, columns, strict=True)}

    def for_codec(self, codec: FocalCodec) -> TokenStore:
        """Check that a codec, before any change of precision, made these tokens; return the store.

        `UserError` if the tokens are of another model.
        """
        found = weights_sha256(codec)
        if found != self.meta["weights_sha256"]:
            raise UserError(
                f"{self.folder}: tokens of {self.meta['model']}"
                f" ({self.meta['weights_sha256'][:12]}), but this codec is {found[:12]}; load that"
                " model, or tokenize again"
            )
        return self


def write_memmap(folder: Path, clips: Iterable[TokenizedClip], vocabulary: TokenVocabulary) -> None:
    """Write `toks.bin`, `index.npy` and `index.csv`, one clip at a time."""
    numbers = array("q")  # int64, 32 bytes per clip
    with (folder / TOKS_NAME).open("wb") as file:
        write_csv(folder / ROWS_NAME, _COLUMNS, _write_clips(file, clips, vocabulary, numbers))
    index = np.array(numbers, dtype=np.int64).reshape(-1, len(_NUMBERS))
    np.save(folder / INDEX_NAME, index)


def write_parquet(
    folder: Path, clips: Iterable[TokenizedClip], codebook_size: int, meta: dict[str, Any]
) -> None:
    """Write `tokens-00000.parquet` and so on for the library `datasets`, 256 clips at a time.

    Columns: id, toks (the codec's own tokens, uint16 or uint32), num_samples, sample_rate, spk_id,
    wrd. The metadata of each file's schema hold `meta` as JSON under "focalcodec".
    """
    datasets = import_datasets()
    from pyarrow.parquet import ParquetWriter

    dtype = "uint16" if codebook_size <= 1 << 16 else "uint32"
    toks_type = datasets.List(datasets.Value(dtype))
    text, number = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features(
        {
            **{"id": text, "toks": toks_type, "num_samples": number, "sample_rate": number},
            **{"spk_id": text, "wrd": text},
        }
    )
    schema = features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, META_KEY: json.dumps(meta).encode()})
    rest = iter(clips)
    groups = iter(lambda: list(islice(rest, _GROUP_CLIPS)), [])
    for place, first in enumerate(groups):
        with ParquetWriter(folder / f"tokens-{place:05d}.parquet", schema) as writer:
            for group in chain([first], islice(groups, _FILE_GROUPS - 1)):
                writer.write_table(_parquet_group(group, dtype, schema))


def _write_clips(
    file: BinaryIO, clips: Iterable[TokenizedClip], vocabulary: TokenVocabulary, numbers: array[int]
) -> Iterator[dict[str, Any]]:
    """Write each clip, append its numbers, and yield its row of `index.csv`."""
    place = 0
    for clip in clips:
        ids = vocabulary.to_ids(clip.toks)
        file.write(ids.numpy().astype(vocabulary.dtype).tobytes())
        start = place + len(vocabulary.before)
        place += len(ids)
        row = (start, len(clip.toks), clip.num_samples, clip.sample_rate)
        numbers.extend(row)
        named = zip(_NUMBERS, row, strict=True)
        yield {"id": clip.id, **dict(named), "spk_id": clip.spk_id, "wrd": clip.wrd}


def _parquet_group(clips: Sequence[TokenizedClip], dtype: str, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    # Arrow stores lists as one array of values and the offset of each list.
    ends = np.cumsum([0, *(len(clip.toks) for clip in clips)], dtype=np.int32)
    values = torch.cat([clip.toks for clip in clips]).numpy().astype(dtype)
    columns = [
        [_utf8(clip.id) for clip in clips],
        pa.ListArray.from_arrays(ends, values),
        [clip.num_samples for clip in clips],
        [clip.sample_rate for clip in clips],
        [_utf8(clip.spk_id) for clip in clips],
        [_utf8(clip.wrd) for clip in clips],
    ]
    arrays = [pa.array(x, field.type) for x, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _utf8(text: str) -> str:
    """Text as Parquet can store it; names of files need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run focalcodec tokenize to its end")
    meta = read_json(path, "copy the folder again")
    if not isinstance(meta, dict) or "ids" not in meta:
        raise UserError(f"{path}: not of a folder of tokens; give that of focalcodec tokenize")
    return meta
