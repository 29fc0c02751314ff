"""Phonemes of texts, as espeak-ng writes them, and their ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.packages import need

INSTALL = "pip install 'focalcodec[say]'"
_STRESS, _MARKS = "\u02c8\u02cc", "\u02d0\u02b2\u0303\u0329"  # length, palatal, nasal, syllabic
_PHONEME = re.compile(f"[{_STRESS}]?.[{_MARKS}]*")  # a letter of IPA, and what belongs to it


def write_phonemes(texts: Sequence[str], language: str = "en-us") -> list[list[str]]:
    """Phonemes of each text, with its spaces and punctuation.

    Numbers and abbreviations are written as they are spoken; a text in capitals, as in LibriSpeech,
    is read as words. Raises `UserError` for an empty text, a language that espeak-ng does not have,
    or if its packages are not installed.

    Example
    -------
    >>> write_phonemes(["a cat, 2 dogs"])[0][3:8]
    ['ˈæ', 't', ',', ' ', 't']
    """
    espeak = _espeak(language)
    lines = [" ".join(text.split()) for text in texts]
    lines = [line.lower() if line.isupper() else line for line in lines]  # else IT is I, T
    if not all(lines):
        raise UserError("text: empty; give at least one word")
    found = [" ".join(line.split()) for line in espeak.phonemize(lines)]
    for text, line in zip(texts, found, strict=True):
        if not any(letter.isalpha() for letter in line):
            raise UserError(f"text {text!r}: it has no words to read; write them in letters")
    return [_PHONEME.findall(line) for line in found]


class _Espeak(Protocol):
    def phonemize(self, text: list[str]) -> list[str]: ...


def _espeak(language: str) -> _Espeak:
    loader = need("espeakng_loader", INSTALL)
    library = need("phonemizer.backend.espeak.wrapper", INSTALL).EspeakWrapper
    library.set_data_path(loader.get_data_path())
    library.set_library(loader.get_library_path())
    try:
        return need("phonemizer.backend", INSTALL).EspeakBackend(
            language,
            preserve_punctuation=True,
            with_stress=True,
            language_switch="remove-flags",
        )
    except RuntimeError as error:
        raise UserError(f"language={language}: espeak-ng does not have it ({error})") from error


class Phonemes:
    """Ids of phonemes; 0 is the padding.

    Parameters
    ----------
    names : sequence of str
        Phonemes in the order of their ids, which begin at 1.
    language : str
        Language of espeak-ng, such as en-us.

    Example
    -------
    >>> Phonemes.of([["k", "a"], ["b", "a"]]).names
    ['a', 'b', 'k']
    """

    def __init__(self, names: Sequence[str], language: str = "en-us") -> None:
        self.names, self.language = list(names), language
        self._ids = {name: place for place, name in enumerate(self.names, start=1)}
        self.size = len(self.names) + 1

    @classmethod
    def of(cls, written: Iterable[Sequence[str]], language: str = "en-us") -> Phonemes:
        """All phonemes of some texts, results of `write_phonemes`."""
        return cls(sorted({name for line in written for name in line}), language)

    def text_ids(self, texts: Sequence[str]) -> list[Tensor]:
        """Ids (S,) int64 of each text; `UserError` for a phoneme without an id.

        Also for a text in another script than that of English, if this is the language: espeak-ng
        would spell its letters.
        """
        for text in texts if self.language.startswith("en") else ():
            letters = [letter for letter in text if letter.isalpha()]
            latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
            if latin < len(letters) / 2:
                raise UserError(f"text {text!r}: the model reads {self.language} only")
        written = write_phonemes(texts, self.language)
        return [self.ids(line, text) for line, text in zip(written, texts, strict=True)]

    def ids(self, phonemes: Sequence[str], text: str) -> Tensor:
        """Ids (S,) int64 of the phonemes of a text.

        A phoneme that is not known loses its marks; punctuation that is not known is left out.
        """
        found = [self._id(name) for name in phonemes]
        if None in found:
            raise UserError(
                f"text {text!r}: the model has no phoneme {phonemes[found.index(None)]!r}; write"
                " the word with other letters"
            )
        return torch.tensor([place for place in found if place])

    def knows(self, phonemes: Sequence[str]) -> bool:
        """Whether `ids` has all phonemes of a text."""
        return all(self._id(name) is not None for name in phonemes)

    def _id(self, name: str) -> int | None:
        for known in (name, name.lstrip(_STRESS), name.strip(_STRESS + _MARKS)):
            if known in self._ids:
                return self._ids[known]
        return None if any(letter.isalpha() for letter in name) else 0
