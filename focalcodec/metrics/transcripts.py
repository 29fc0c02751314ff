"""Error rates of transcripts: words or characters, after one fixed normaliser per language.

English goes through Whisper's English normaliser without its table of British and American
spellings, every other language through Whisper's basic one: Radford et al., arXiv 2212.04356,
appendix C.
"""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.metrics.judge import (
    LEAST_SECONDS,
    SAMPLE_RATE,
    ClipJudge,
    Column,
    JudgedClip,
    Score,
    Verdict,
    at_rate,
    audible,
    sig_key,
)
from focalcodec.packages import need

INSTALL = "pip install jiwer==4.0.0 transformers"
NORMALISER = (
    "Whisper's: English without its table of spellings, basic for other languages; marks that stand"
    " alone are no words"
)
_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc", "'''")
# These languages are written without spaces, so words can't be counted.
NO_WORDS = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


class Errors(NamedTuple):
    """Edits that turn a hypothesis into its reference, and the units of the reference."""

    edits: int
    units: int


def normalise_words(text: str, language: str = "en") -> str:
    """Normalise case, punctuation and symbols; in English also contractions, titles and numbers.

    Returns lower-case words with one space between them. `language` is ISO 639-1. Raises
    `UserError` if transformers is not installed.

    Example
    -------
    >>> normalise_words("Mr. Dashwood hadn't twenty-one!")
    'mister dashwood had not 21'
    """
    if language == "en":
        # Whisper's normaliser leaves a period of "..." and splits "don\u2019t"
        plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
        text = re.sub(r"\.{2,}", " ", plain)
    words = _normaliser(language == "en")(text).split()
    return " ".join(word for word in words if any(char.isalnum() for char in word))


def word_errors(reference: str, hypothesis: str, language: str = "en") -> Errors:
    """Count substituted, deleted and inserted words of a transcript, and the reference's words.

    Both texts are normalised here. Raises `UserError` if jiwer or transformers is not installed.

    Example
    -------
    >>> word_errors("ONE CLIP, HERE", "one clips here now")
    Errors(edits=2, units=3)
    """
    return _errors("process_words", reference, hypothesis, language)


def character_errors(reference: str, hypothesis: str, language: str = "en") -> Errors:
    """Count errors as `word_errors`, but in characters, spaces included."""
    return _errors("process_characters", reference, hypothesis, language)


def alignment(reference: str, hypothesis: str, language: str = "en") -> str:
    """Reference above hypothesis, word below word, with S, D and I below each error.

    Both texts are normalised here. Raises `UserError` if jiwer or transformers is not installed.

    Example
    -------
    >>> print(alignment("ONE CLIP, HERE", "one clips here now"))
    REF: one  clip here ***
    HYP: one clips here now
                 S        I
    """
    jiwer = need("jiwer", INSTALL)
    true, found = normalise_words(reference, language), normalise_words(hypothesis, language)
    if not true:
        return f"REF:\nHYP: {found}".rstrip()
    aligned = jiwer.process_words([true], [found])
    text = jiwer.visualize_alignment(aligned, show_measures=False, skip_correct=False)
    return "\n".join(line.rstrip() for line in text.splitlines()[2:]).rstrip()


def _errors(process: str, reference: str, hypothesis: str, language: str) -> Errors:
    true, found = normalise_words(reference, language), normalise_words(hypothesis, language)
    counts = getattr(need("jiwer", INSTALL), process)([true], [found])
    edits = counts.substitutions + counts.deletions + counts.insertions
    return Errors(edits, counts.hits + counts.substitutions + counts.deletions)


@lru_cache(maxsize=2)
def _normaliser(english: bool) -> Any:
    normalisers = need("transformers.models.whisper.english_normalizer", INSTALL)
    return normalisers.EnglishTextNormalizer({}) if english else normalisers.BasicTextNormalizer()


class TranscriptJudge(ClipJudge):
    """dWER, dCER and WER of a speech recogniser's transcripts.

    dWER and dCER compare the transcript of the output with the transcript of the reference audio,
    as the papers do (arXiv 2502.04465, section 4): the recogniser's own errors on clean speech do
    not count against the codec. WER compares with the true text, if there is one. Each is in
    percent of the words or characters of the reference; their number is the weight.

    Silence, or less than half a second, is not given to the recogniser, because recognisers invent
    text for it. Its transcript is empty, so all words of a silent output count as deleted. A clip
    has no score if the transcript of its reference is empty, or if the recogniser was not trained
    on its language. It has no word error rates if its language is written without spaces. A
    reference is transcribed once for all codecs. The columns' keys end with `key`, such as
    "whisper_base".
    """

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self._dwer, self._dcer, self._wer = (f"{kind}_{key}" for kind in ("dwer", "dcer", "wer"))
        titles = {self._dwer: "dWER", self._dcer: "dCER", self._wer: "WER"}
        self.columns = tuple(
            Column(column, f"{title}, {name}", "%", "lower") for column, title in titles.items()
        )
        self._references: dict[str, str] = {}

    @abstractmethod
    def supports(self, language: str) -> bool:
        """Whether the recogniser was trained on a language (ISO 639-1)."""

    @abstractmethod
    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Transcribe audio (T,) at 16 kHz."""

    def transcribe(self, sig: Tensor, sample_rate: int, language: str = "en") -> str:
        """Transcribe sig (T,) without normalising; "" for silence; UserError for a batch."""
        if sig.dim() != 1:
            raise UserError(f"sig: shape {tuple(sig.shape)}; give one clip, (samples,)")
        if not audible(sig, sample_rate, LEAST_SECONDS):
            return ""
        return self.recognise(at_rate(sig, sample_rate, SAMPLE_RATE).numpy(), language).strip()

    def score_clip(self, clip: JudgedClip) -> Verdict:
        """Error rates of one clip, and the transcript of its output."""
        if not self.supports(clip.language):
            return Verdict({})
        reference = self._reference(clip)
        if sig_key(clip.rec_sig, clip.sample_rate) == sig_key(clip.ref_sig, clip.sample_rate):
            transcript = reference
        else:
            transcript = self.transcribe(clip.rec_sig, clip.sample_rate, clip.language)
        counts = {self._dcer: character_errors(reference, transcript, clip.language)}
        if clip.language not in NO_WORDS:
            counts[self._dwer] = word_errors(reference, transcript, clip.language)
            counts[self._wer] = word_errors(clip.text, transcript, clip.language)
        scores = {key: _percent(errors) for key, errors in counts.items() if errors.units}
        return Verdict(scores, transcript)

    def _reference(self, clip: JudgedClip) -> str:
        key = f"{clip.language} {sig_key(clip.ref_sig, clip.sample_rate)}"
        if key not in self._references:
            self._references[key] = self.transcribe(clip.ref_sig, clip.sample_rate, clip.language)
        return self._references[key]


def _percent(errors: Errors) -> Score:
    return Score(100 * errors.edits / errors.units, errors.units)
