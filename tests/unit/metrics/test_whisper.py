"""What Whisper hears, and how its transcripts become error rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.metrics.judge import Clip, Score, at_rate
from focalcodec.metrics.text import word_errors
from focalcodec.metrics.transcript_judge import TranscriptJudge

RATE = 16000


class _Parrot(TranscriptJudge):
    """Hears what the first sample says, and counts how often it was asked."""

    words = {1: "one red dog", 2: "one blue dog", 3: "", 4: "red", 5: "紅 犬"}

    def __init__(self) -> None:
        super().__init__("Parrot", "parrot")
        self.languages: list[str] = []

    def knows(self, language: str) -> bool:
        return language in ("en", "ja")

    def recognise(self, audio: np.ndarray, language: str) -> str:
        self.languages.append(language)
        return self.words[round(float(audio[0]))]

    def describe(self) -> dict[str, str]:
        return {}


def _sig(kind: int, seconds: float = 1.0) -> torch.Tensor:
    sig = torch.randn(round(RATE * seconds), generator=torch.Generator().manual_seed(kind))
    sig[0] = kind
    return sig


def test_columns_compare_with_the_reference_audio_and_with_the_text() -> None:
    clip = Clip("a", _sig(1), _sig(2), RATE, "One red dog, barks!")
    verdict = _Parrot().score([clip])[0]
    assert verdict.transcript == "one blue dog"
    rounded = {key: Score(round(s.value, 1), s.weight) for key, s in verdict.scores.items()}
    assert rounded == {
        "dwer_parrot": (33.3, 3),
        "dcer_parrot": (36.4, 11),
        "wer_parrot": (50.0, 4),
    }


def test_what_has_no_words_has_no_rate() -> None:
    judge = _Parrot()
    nothing, silent, no_text, unknown, unspaced = judge.score(
        [
            Clip("nothing", _sig(3), _sig(4), RATE),
            Clip("silent", torch.zeros(RATE), _sig(4), RATE),
            Clip("no text", _sig(1), _sig(4), RATE),
            Clip("unknown", _sig(1), _sig(1), RATE, "rouge", language="fr"),
            Clip("unspaced", _sig(5), _sig(5), RATE, "紅犬", language="ja"),
        ]
    )
    assert nothing.scores == silent.scores == unknown.scores == {}
    assert unknown.transcript == ""
    assert no_text.scores.keys() == {"dwer_parrot", "dcer_parrot"}
    assert unspaced.scores.keys() == {"dcer_parrot"}


def test_silence_and_half_a_word_are_not_listened_to() -> None:
    judge = _Parrot()
    assert judge.transcribe(torch.zeros(RATE), RATE) == ""
    assert judge.transcribe(_sig(1, seconds=0.3), RATE) == ""
    assert judge.languages == []
    lost = judge.score([Clip("lost", _sig(1), torch.zeros(RATE), RATE)])[0]
    assert lost.scores["dwer_parrot"] == Score(100.0, 3)


def test_what_is_no_signal_is_refused() -> None:
    with pytest.raises(UserError, match=r"sig: shape \(1, 16000\); give one clip"):
        _Parrot().transcribe(torch.ones(1, RATE), RATE)


def test_a_reference_is_heard_once_for_all_codecs_and_again_in_another_language() -> None:
    judge = _Parrot()
    judge.score([Clip("a", _sig(1), _sig(2), RATE)])
    judge.score([Clip("a", _sig(1), _sig(4), RATE), Clip("a", _sig(1), _sig(1), RATE)])
    assert judge.languages == ["en"] * 3
    judge.score([Clip("a", _sig(1), _sig(1), RATE, language="ja")])
    assert judge.languages == ["en"] * 3 + ["ja"]


def test_whisper_hears_the_words_at_any_rate(judge, speech) -> None:
    whisper, text = judge("Whisper tiny.en"), "He was not an ill disposed young man."
    higher = at_rate(speech["real"], RATE, 24000)
    for sig, rate in ((speech["real"], RATE), (higher, 24000)):
        errors = word_errors(text, whisper.transcribe(sig, rate))
        assert errors.units == 8 and errors.edits <= 2  # it has trouble with "ill disposed"


def test_tiny_knows_english_alone_and_base_more(judge) -> None:
    assert not judge("Whisper tiny.en").knows("fr") and judge("Whisper tiny.en").knows("en")
    assert judge("Whisper base").knows("fr") and not judge("Whisper base").knows("xx")
