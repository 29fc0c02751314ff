"""Ids of a codec's tokens in a language model's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focalcodec.errors import UserError


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
