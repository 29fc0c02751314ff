"""Tokens of a corpus as one flat array on disk, with an index: written once, read as a memmap.

`toks.bin` holds the ids of all clips one after the other, little-endian; `index.npy` is int64
(clips, 4): where a clip's first speech token stands in it, tokens, samples and sample rate of the
audio file; `index.csv` has the same with ids, speakers and texts; `meta.json` says of what model.
"""

from __future__ import annotations

import csv
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.tokenize.vocabulary import TokenVocabulary

TOKS_NAME, INDEX_NAME, ROWS_NAME, META_NAME = "toks.bin", "index.npy", "index.csv", "meta.json"
_NUMBERS = ("offset", "length", "num_samples", "sample_rate")
_COLUMNS = ["id", *_NUMBERS, "spk_id", "wrd"]


class TokenizedClip(NamedTuple):
    """A clip with its tokens, (N * Q,) int64, and what its source knows of it."""

    id: str
    toks: Tensor
    num_samples: int
    sample_rate: int
    spk_id: str = ""
    wrd: str = ""


def write_memmap(folder: Path, clips: Iterable[TokenizedClip], vocabulary: TokenVocabulary) -> None:
    """Write `toks.bin`, `index.npy` and `index.csv`, one clip at a time.

    Parameters
    ----------
    folder : Path
        Where to.
    clips : iterable of TokenizedClip
        In the order of the corpus.
    vocabulary : TokenVocabulary
        Ids, and which go before and after a clip.
    """
    numbers = array("q")
    with (folder / TOKS_NAME).open("wb") as file:
        write_csv(folder / ROWS_NAME, _COLUMNS, _write_clips(file, clips, vocabulary, numbers))
    index = np.array(numbers, dtype=np.int64).reshape(-1, len(_NUMBERS))
    np.save(folder / INDEX_NAME, index)


def _write_clips(
    file: BinaryIO, clips: Iterable[TokenizedClip], vocabulary: TokenVocabulary, numbers: array[int]
) -> Iterator[dict[str, Any]]:
    """Write clips as they come; give the row of each and append its numbers."""
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


class TokenStore:
    """Tokens of a corpus, read from disk as they are asked for.

    `store[i]` are the codec's own tokens of clip i, (N,) int64, or (N, Q) where it has Q
    streams; `store.stream` is the flat array of vocabulary ids, specials included, for the training
    of a language model.

    Parameters
    ----------
    folder : str or path
        That `focalcodec tokenize` wrote.

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
        """Clips."""
        return len(self.index)

    def __getitem__(self, clip: int) -> Tensor:
        """Tokens of a clip for the codec, (N,) or (N, Q) int64, without offset and specials."""
        start, length = self.index[clip, :2].tolist()
        ids = self.stream[start : start + length].astype(np.int64)
        toks = torch.from_numpy(ids) - self.vocabulary.offset
        return toks if self.streams == 1 else toks.view(-1, self.streams)

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        """Opened anew in a data loader's worker, not copied there."""
        return TokenStore, (self.folder,)

    @property
    def streams(self) -> int:
        """Tokens of a frame."""
        return self.meta.get("streams", 1)

    def num_samples(self, clip: int) -> int:
        """Samples of a clip's audio file: `num_samples` for `codec.decode`."""
        return int(self.index[clip, 2])

    def sample_rate(self, clip: int) -> int:
        """Rate of a clip's audio file, Hz: `sample_rate` for `codec.decode`."""
        return int(self.index[clip, 3])

    @property
    def ids(self) -> list[str]:
        """Id of each clip."""
        return self._texts["id"]

    @property
    def spk_id(self) -> list[str]:
        """Speaker of each clip; empty where the source had none."""
        return self._texts["spk_id"]

    @property
    def text(self) -> list[str]:
        """Transcript of each clip; empty where the source had none."""
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
        """Refuse a codec that means something else by these tokens.

        Parameters
        ----------
        codec : FocalCodec
            Before any change of precision.

        Returns
        -------
        TokenStore
            This one.

        Raises
        ------
        UserError
            The tokens are of another model.
        """
        found = weights_sha256(codec)
        if found != self.meta["weights_sha256"]:
            raise UserError(
                f"{self.folder}: tokens of {self.meta['model']}"
                f" ({self.meta['weights_sha256'][:12]}), and this codec is {found[:12]}; load that"
                " model, or tokenize again"
            )
        return self


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run focalcodec tokenize to its end")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); copy the folder again") from error
    if not isinstance(meta, dict) or "ids" not in meta:
        raise UserError(f"{path}: not of a folder of tokens; give that of focalcodec tokenize")
    return meta
