"""Tokens of a corpus on disk: a flat array that is read as a memmap.

`toks.bin` holds the ids of all clips one after another, little-endian. `index.npy` is int64
(clips, 4): offset of a clip's first speech token in `toks.bin`, number of tokens, samples and
sample rate of the audio file. `index.csv` has the same with ids, speakers and texts, and
`meta.json` describes the model. The ids are those of a `TokenVocabulary`.
"""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub.fingerprint import weights_sha256

TOKS_NAME, INDEX_NAME, ROWS_NAME, META_NAME = "toks.bin", "index.npy", "index.csv", "meta.json"
FAILED_COLUMNS = ["id", "path", "reason"]
_NUMBERS = ("offset", "length", "num_samples", "sample_rate")
_COLUMNS = ["id", *_NUMBERS, "spk_id", "wrd"]


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


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run focalcodec tokenize to its end")
    meta = read_json(path, "copy the folder again")
    if not isinstance(meta, dict) or "ids" not in meta:
        raise UserError(f"{path}: not of a folder of tokens; give that of focalcodec tokenize")
    return meta


# -- ids -------------------------------------------------------------------------------------------


class TokenVocabulary:
    """Speech tokens that start at an offset, and named special tokens.

    The id of token t is `offset + t`. Special tokens follow the speech tokens, or have given ids,
    such as those of an existing text model.

    Parameters
    ----------
    codebook_size : int
        Tokens of the codec.
    offset : int
        Id of token 0, e.g. the size of a text model's vocabulary.
    special : sequence of str, or mapping of str to int
        Names of the special tokens, or their names and ids. Each clip is written between "bos"
        and "eos" if these exist; other names only reserve an id.

    Raises
    ------
    UserError
        A size or id out of range, a repeated name, a special id that is repeated or that of a
        speech token.

    Example
    -------
    >>> vocabulary = TokenVocabulary(8192, offset=32000, special=("bos", "eos"))
    >>> vocabulary.special, vocabulary.size
    ({'bos': 40192, 'eos': 40193}, 40194)
    >>> ids = vocabulary.to_ids(torch.tensor([5, 7]))
    >>> ids, vocabulary.to_toks(ids)
    (tensor([40192, 32005, 32007, 40193]), tensor([5, 7]))
    """

    def __init__(
        self,
        codebook_size: int,
        offset: int = 0,
        special: Sequence[str] | Mapping[str, int] = ("bos", "eos", "pad"),
    ) -> None:
        if codebook_size < 1 or offset < 0:
            raise UserError(
                f"codebook_size={codebook_size}, offset={offset}: give 1 or more, and 0 or more"
            )
        self.codebook_size, self.offset = codebook_size, offset
        end = offset + codebook_size
        if not isinstance(special, Mapping):
            if len(set(special)) < len(special):
                raise UserError(f"special={','.join(special)}: a repeated name; names must differ")
            special = {name: end + place for place, name in enumerate(special)}
        self.special = dict(special)
        ids = list(self.special.values())
        for name, index in self.special.items():
            if index < 0 or offset <= index < end or ids.count(index) > 1:
                raise UserError(
                    f"special {name}={index}: negative, the id of another, or one of the"
                    f" speech tokens {offset}..{end - 1}; give another id"
                )
        self.size = max([end, *(index + 1 for index in ids)])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TokenVocabulary:
        """Vocabulary with this `config`."""
        return cls(config["codebook_size"], config["offset"], config["special"])

    @property
    def config(self) -> dict[str, Any]:
        """Arguments of the constructor and the size, ready for JSON."""
        return {
            "codebook_size": self.codebook_size,
            "offset": self.offset,
            "special": self.special,
            "size": self.size,
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smaller of uint16 and uint32, little-endian, that holds every id."""
        return np.dtype("<u2" if self.size <= 1 << 16 else "<u4")

    @property
    def before(self) -> list[int]:
        """Ids before every clip."""
        return [self.special["bos"]] if "bos" in self.special else []

    @property
    def after(self) -> list[int]:
        """Ids after every clip."""
        return [self.special["eos"]] if "eos" in self.special else []

    def to_ids(self, toks: Tensor) -> Tensor:
        """Ids (N',) int64 of one clip with "bos" and "eos".

        `UserError` if toks are not (N,) integers in [0, codebook_size).
        """
        _check_range("toks", toks, 0, self.codebook_size)
        before, after = (
            toks.new_tensor(ids, dtype=torch.int64) for ids in (self.before, self.after)
        )
        return torch.cat([before, toks.long() + self.offset, after])

    def to_toks(self, ids: Tensor) -> Tensor:
        """Tokens (N,) int64 for the codec, from ids (N',) such as a language model's output.

        Special tokens are dropped. `UserError` if an id is neither a speech token nor special.
        """
        # drop special tokens wherever they stand, not only around the clip
        special = torch.tensor(list(self.special.values()), dtype=torch.int64, device=ids.device)
        speech = ids.long()[~torch.isin(ids.long(), special)]
        _check_range("ids", speech, self.offset, self.offset + self.codebook_size)
        return speech - self.offset


def _check_range(name: str, values: Tensor, start: int, end: int) -> None:
    if values.dim() != 1 or values.is_floating_point() or values.is_complex():
        raise UserError(f"{name}: {values.dtype} {tuple(values.shape)}; give integers (N,)")
    outside = values[(values < start) | (values >= end)]
    if len(outside):
        raise UserError(
            f"{name}: {int(outside[0])} is not in {start}..{end - 1}, the speech tokens"
        )
