"""One vocabulary of text and speech, and the sequences that a model is trained on.

An utterance has parts, each after the special id of its kind, and ends with `<eos>`:

    <text> c h a r a c t e r s <speech> tok tok tok <eos>     text to speech
    <speech> tok tok tok <text> c h a r a c t e r s <eos>     recognition
    <speech> tok tok tok <eos>                                speech alone

An utterance in front of another one of the same speaker is the prompt of its voice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.tokenize.store import TokenVocabulary

CHARACTERS = " !\"',-.:;?abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("text", "speech", "eos", "pad")


class Sequence(NamedTuple):
    """Ids of an utterance, and which of them the model is trained to predict."""

    ids: Tensor  # (N,) int64
    is_target: Tensor  # (N,) bool


class Vocabulary:
    """Ids of characters (or bytes), then special ids, then the codec's tokens.

    Parameters
    ----------
    codebook_size : int
        K, tokens of the codec.
    characters : str, optional
        Characters of texts, which are written in lower case; None: the 256 bytes of UTF-8.

    Example
    -------
    >>> vocabulary = Vocabulary(8192)
    >>> vocabulary.size, vocabulary.text_ids("A cat").tolist()
    (8232, [10, 0, 12, 10, 29])
    >>> vocabulary.text_ids("12 cats")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: text '12 cats': the model has no character '1'; it has ...
    """

    def __init__(self, codebook_size: int, characters: str | None = CHARACTERS) -> None:
        if characters is not None and len({*characters}) < len(characters):
            raise UserError(f"characters={characters!r}: one is repeated; give each once")
        self.codebook_size, self.characters = codebook_size, characters
        self._ids = {character: place for place, character in enumerate(characters or ())}
        first = 256 if characters is None else len(characters)
        self.special = {name: first + place for place, name in enumerate(SPECIAL)}
        self.toks = TokenVocabulary(codebook_size, first + len(SPECIAL), self.special)
        self.size = self.toks.size

    def normalised(self, text: str) -> str:
        """Text in lower case, with single spaces; a vocabulary of bytes keeps the case."""
        text = re.sub(r"\s+", " ", text).strip()
        return text if self.characters is None else text.lower().replace("\u2019", "'")

    def text_ids(self, text: str) -> Tensor:
        """Ids (N,) of a text; `UserError` if it is empty or has a character without an id."""
        found = self.normalised(text)
        if not found:
            raise UserError("text: empty; give at least one word")
        if self.characters is None:
            return torch.tensor([*found.encode()])
        for character in found:
            if character not in self._ids:
                raise UserError(
                    f"text {text!r}: the model has no character {character!r}; it has"
                    f" {self.characters!r}, so write numbers and other signs as words"
                )
        return torch.tensor([self._ids[character] for character in found])

    def to_text(self, ids: Iterable[int]) -> str:
        """Text of ids; those that are not of the text are left out."""
        kept = [int(i) for i in ids if i < self.special["text"]]
        if self.characters is None:
            return bytes(kept).decode(errors="replace")
        return "".join(self.characters[i] for i in kept)

    def codes(self, codes: Tensor) -> Tensor:
        """Codes (size, L) of all ids, from those of the codec's tokens (K, L): bits as 1 and -1.

        The ids of text and the special ids have zeros.
        """
        first = self.toks.offset
        if len(codes) != self.codebook_size:
            raise UserError(f"codes: {len(codes)}, not {self.codebook_size} as the tokens")
        table = codes.new_zeros(self.size, codes.shape[1])
        table[first : first + len(codes)] = codes / codes.abs().amax()
        return table

    def part(self, kind: str, content: Tensor) -> Tensor:
        """Special id `kind`, "text" or "speech", and the ids of a part after it."""
        return torch.cat([torch.tensor([self.special[kind]]), content])

    def speech(self, toks: Tensor) -> Tensor:
        """Part of speech, from toks (N,) of the codec."""
        return self.part("speech", toks + self.toks.offset)

    def utterance(self, order: Iterable[str], text: str, toks: Tensor) -> Sequence:
        """Parts "text" and "speech" in their order, and `<eos>`; the last part is the target.

        Example
        -------
        >>> words, toks = Vocabulary(4, "ab"), torch.tensor([3])
        >>> ids, is_target = words.utterance(["text", "speech"], "ab", toks)
        >>> ids.tolist(), is_target.tolist()
        ([2, 0, 1, 3, 9, 4], [False, False, False, False, True, True])
        """
        make = {
            "text": lambda: self.part("text", self.text_ids(text)),
            "speech": lambda: self.speech(toks),
        }
        parts = [make[kind]() for kind in order]
        ids = torch.cat([*parts, torch.tensor([self.special["eos"]])])
        is_target = torch.zeros(len(ids), dtype=torch.bool)
        is_target[-len(parts[-1]) :] = True  # its content, and <eos>
        return Sequence(ids, is_target)
