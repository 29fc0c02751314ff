"""Errors of a transcript: words or characters, after one fixed normaliser for each language.

English goes through Whisper's English normaliser without its table of British and American
spellings, every other language through Whisper's basic one: Radford et al., arXiv 2212.04356,
appendix C.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from focalcodec.packages import need

INSTALL = "pip install jiwer==4.0.0 transformers"
NORMALISER = "Whisper's: English without its table of spellings, basic for other languages"
# Their writing has no space between words, so there are no words to count.
NO_WORDS = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


class Errors(NamedTuple):
    """Edits that turn a hypothesis into its reference, and the reference's units."""

    edits: int
    units: int


def normalise_words(text: str, language: str = "en") -> str:
    """Case, punctuation, symbols; in English also contractions, titles and numbers.

    Parameters
    ----------
    text : str
        A transcript.
    language : str
        ISO 639-1.

    Returns
    -------
    str
        Lower-case words with one space between them.

    Raises
    ------
    UserError
        If transformers is not installed.

    Example
    -------
    >>> normalise_words("Mr. Dashwood hadn't twenty-one!")
    'mister dashwood had not 21'
    >>> normalise_words("Où est-il ?", "fr")
    'où est il'
    """
    return _normaliser(language == "en")(text).strip()


def word_errors(reference: str, hypothesis: str, language: str = "en") -> Errors:
    """Substituted, deleted and inserted words of one clip.

    Parameters
    ----------
    reference, hypothesis : str
        Transcripts, normalised here.
    language : str
        ISO 639-1.

    Returns
    -------
    Errors
        Edits, and words of the reference.

    Raises
    ------
    UserError
        If jiwer or transformers is not installed.

    Example
    -------
    >>> word_errors("ONE CLIP, HERE", "one clips here now")
    Errors(edits=2, units=3)
    """
    return _errors("process_words", reference, hypothesis, language)


def character_errors(reference: str, hypothesis: str, language: str = "en") -> Errors:
    """Substituted, deleted and inserted characters of one clip, spaces included.

    Parameters
    ----------
    reference, hypothesis : str
        Transcripts, normalised here.
    language : str
        ISO 639-1.

    Returns
    -------
    Errors
        Edits, and characters of the reference.

    Raises
    ------
    UserError
        If jiwer or transformers is not installed.

    Example
    -------
    >>> character_errors("A cat.", "a bat")
    Errors(edits=1, units=5)
    """
    return _errors("process_characters", reference, hypothesis, language)


def _errors(process: str, reference: str, hypothesis: str, language: str) -> Errors:
    true, heard = normalise_words(reference, language), normalise_words(hypothesis, language)
    counts = getattr(need("jiwer", INSTALL), process)([true], [heard])
    edits = counts.substitutions + counts.deletions + counts.insertions
    return Errors(edits, counts.hits + counts.substitutions + counts.deletions)


@lru_cache(maxsize=2)
def _normaliser(english: bool) -> Any:
    normalisers = need("transformers.models.whisper.english_normalizer", INSTALL)
    return normalisers.EnglishTextNormalizer({}) if english else normalisers.BasicTextNormalizer()
