"""Word and character error rates, whoever the listener is."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.metrics.judge import (
    LEAST_SECONDS,
    Clip,
    ClipJudge,
    Column,
    Score,
    Verdict,
    at_rate,
    audible,
    sig_key,
)
from focalcodec.metrics.text import NO_WORDS, Errors, character_errors, word_errors

SAMPLE_RATE = 16000


class _Keys(NamedTuple):
    dwer: str
    dcer: str
    wer: str


class TranscriptJudge(ClipJudge):
    """dWER, dCER and WER by what a recogniser hears.

    dWER and dCER compare what it hears in the output with what it hears in the reference audio,
    as the papers do (arXiv 2502.04465, section 4): its own mistakes on clean speech are not the
    codec's. WER compares with the true text, where there is one. Each is in percent of the words
    or characters that should have been heard, which are its weight.

    Silence, or less than half a second, is not given to the recogniser, which dreams of phrases
    then: nothing is heard in it. So a silent output has lost all words. A clip has no score when
    nothing is heard in its reference, or its language is unknown to the recogniser; no word error
    rates when its language is written without spaces.

    A reference is heard once, however many codecs are judged on it.

    Parameters
    ----------
    name : str
        Such as "Whisper base".
    key : str
        End of the columns' keys, such as "whisper_base".
    """

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self._keys = _Keys(f"dwer_{key}", f"dcer_{key}", f"wer_{key}")
        self.columns = tuple(
            Column(key, f"{kind}, {name}", "%", "lower")
            for key, kind in zip(self._keys, ("dWER", "dCER", "WER"), strict=True)
        )
        self._references: dict[str, str] = {}

    @abstractmethod
    def knows(self, language: str) -> bool:
        """Whether the recogniser was trained on a language (ISO 639-1)."""

    @abstractmethod
    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Words in audio (T,) at 16 kHz."""

    def transcribe(self, sig: Tensor, sample_rate: int, language: str = "en") -> str:
        """Words heard in one signal.

        Parameters
        ----------
        sig : Tensor
            (T,) float.
        sample_rate : int
            Hz.
        language : str
            ISO 639-1.

        Returns
        -------
        str
            The recogniser's own spelling; empty where it hears nothing.

        Raises
        ------
        UserError
            If `sig` is not (T,).
        """
        if sig.dim() != 1:
            raise UserError(f"sig: shape {tuple(sig.shape)}; give one clip, (samples,)")
        if not audible(sig, sample_rate, LEAST_SECONDS):
            return ""
        return self.recognise(at_rate(sig, sample_rate, SAMPLE_RATE).numpy(), language).strip()

    def score_clip(self, clip: Clip) -> Verdict:
        """Error rates of one clip, and the transcript of its output."""
        if not self.knows(clip.language):
            return Verdict({})
        reference = self._reference(clip)
        if sig_key(clip.rec_sig, clip.sample_rate) == sig_key(clip.ref_sig, clip.sample_rate):
            transcript = reference
        else:
            transcript = self.transcribe(clip.rec_sig, clip.sample_rate, clip.language)
        counts = {self._keys.dcer: character_errors(reference, transcript, clip.language)}
        if clip.language not in NO_WORDS:
            counts[self._keys.dwer] = word_errors(reference, transcript, clip.language)
            counts[self._keys.wer] = word_errors(clip.text, transcript, clip.language)
        scores = {key: _percent(errors) for key, errors in counts.items() if errors.units}
        return Verdict(scores, transcript)

    def _reference(self, clip: Clip) -> str:
        key = f"{clip.language} {sig_key(clip.ref_sig, clip.sample_rate)}"
        if key not in self._references:
            self._references[key] = self.transcribe(clip.ref_sig, clip.sample_rate, clip.language)
        return self._references[key]


def _percent(errors: Errors) -> Score:
    return Score(100 * errors.edits / errors.units, errors.units)
