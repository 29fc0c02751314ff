"""Transcripts are normalised, their errors counted, and clips scored with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec import packages
from focalcodec.errors import UserError
from focalcodec.metrics.judge import JudgedClip, Score
from focalcodec.metrics.transcripts import (
    TranscriptJudge,
    character_errors,
    normalise_words,
    word_errors,
)

RATE = 16000


@pytest.mark.parametrize(
    ("hypothesis", "errors"),
    [("a b c d", 0), ("a b c", 1), ("a x c d", 1), ("a b b c d", 1), ("", 4), ("x x x x x x", 6)],
)
def test_substitutions_deletions_and_insertions_count_one_each(hypothesis, errors) -> None:
    # words that the normaliser does not take for fillers
    names = {"a": "red", "b": "green", "c": "blue", "d": "pink", "x": "dog"}
    transcript = " ".join(names[letter] for letter in hypothesis.split())
    assert word_errors("RED GREEN BLUE PINK", transcript) == (errors, 4)


def test_characters_are_counted_with_spaces() -> None:
    assert character_errors("red dog", "red fog") == (1, 7)
    assert character_errors("red dog", "reddog") == (1, 7)


@given(st.lists(st.sampled_from(["red", "Green", "BLUE,", "it's", "Mr.", "7"]), min_size=1))
def test_a_transcript_has_no_error_against_itself(words) -> None:
    text = " ".join(words)
    assert word_errors(text, text.upper()).edits == 0
    assert character_errors(text, text.upper()).edits == 0


@pytest.mark.parametrize(
    ("transcript", "whispers_spelling"),
    [
        ("MISTER JOHN DASHWOOD", "Mr. John Dashwood."),
        ("THEY DIVIDED IT INTO THREE PARTS", "They divided it into 3 parts."),
        ("HE HAD NOT AN ILL DISPOSED SON", "He had not an ill-disposed son!"),
    ],
)
def test_spellings_of_the_same_words_are_the_same(transcript, whispers_spelling) -> None:
    assert normalise_words(transcript) == normalise_words(whispers_spelling)


def test_other_languages_keep_their_words() -> None:
    # in English "um" is a filler and "twenty one" a number
    assert normalise_words("Um, ¿cuántos años?", "pt") == "um cuántos años"
    assert normalise_words("twenty one um") != normalise_words("twenty one um", "fr")
    assert normalise_words("Где он?", "ru") == "где он"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "And then...",
            "And then\u2026",
            "...and then",
            "and .. then",
            "and . . . then .",
            "And then.",
        ),
        *(
            "and - then",
            "and \u2014 then",
            "and\u2013then",
            "'And then.'",
            "\u201cAnd then\uff0e\u201d",
        ),
        *(
            "And then?!...",
            "and $ then %",
            ". and then .",
            "and then \u3002",
            "\u00ab And then \u00bb",
        ),
    ],
)
def test_a_mark_is_no_word_and_no_character(text) -> None:
    for reference, hypothesis in (("And then.", text), (text, "AND THEN")):
        assert word_errors(reference, hypothesis) == (0, 2)
        assert character_errors(reference, hypothesis) == (0, 8)
        assert word_errors(reference, hypothesis, "de") == (0, 2)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        *[
            ("I don\u2019t know...", "I DO NOT KNOW"),
            ("no...5 men", "no, 5 men"),
            ("3...", "three"),
        ],
        *[
            ("it\u2019s 3.14.", "it is 3.14"),
            ("...5 of 7.", "five of seven"),
            ("$5...", "5 dollars"),
        ],
        *[
            ("\uff13\uff0e\uff11\uff14", "3.14"),
            ("50%.", "fifty percent"),
            ("U.S.A...", "u. s. a."),
        ],
    ],
)
def test_digits_and_apostrophes_beside_marks(text, same) -> None:
    assert normalise_words(text) == normalise_words(same)
    assert word_errors("and then 5", "and then .5").edits == 1, "a decimal point is no mark"


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        *[("\u4f60\u597d\uff0c\u4e16\u754c\uff01", "zh", "\u4f60\u597d \u4e16\u754c")],
        *[
            ("\u00bfQu\u00e9\u2026 no?", "es", "qu\u00e9 no"),
            ("l\u2019\u00e9t\u00e9 \u2014", "fr", "l \u00e9t\u00e9"),
        ],
        *[
            ("\u2026", "fr", ""),
            ("...", "en", ""),
            ("\u061f\u0645\u0631\u062d\u0628\u0627 \u060c", "ar", "\u0645\u0631\u062d\u0628\u0627"),
        ],
    ],
)
def test_marks_of_other_languages(text, language, words) -> None:
    assert normalise_words(text, language) == words


def test_empty_transcript_and_empty_reference() -> None:
    assert word_errors("", "red dog") == (2, 0)
    assert word_errors("red dog", "") == (2, 2)


def test_a_missing_package_is_named_with_the_command(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    normalise_words("a")  # the normaliser is installed
    monkeypatch.setattr(packages, "import_module", absent)
    with pytest.raises(UserError, match="jiwer: not installed; run pip install jiwer=="):
        word_errors("a", "b")


# -- a judge with transcripts ----------------------------------------------------------------------


class _Parrot(TranscriptJudge):
    """The first sample chooses the transcript; keeps the language of each call."""

    words = {1: "one red dog", 2: "one blue dog", 3: "", 4: "red", 5: "紅 犬"}

    def __init__(self) -> None:
        super().__init__("Parrot", "parrot")
        self.languages: list[str] = []

    def supports(self, language: str) -> bool:
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
    clip = JudgedClip("a", _sig(1), _sig(2), RATE, "One red dog, barks!")
    verdict = _Parrot().score([clip])[0]
    assert verdict.transcript == "one blue dog"
    rounded = {key: Score(round(s.value, 1), s.weight) for key, s in verdict.scores.items()}
    assert rounded == {
        "dwer_parrot": (33.3, 3),
        "dcer_parrot": (36.4, 11),
        "wer_parrot": (50.0, 4),
    }


def test_no_error_rate_without_words() -> None:
    judge = _Parrot()
    nothing, silent, no_text, unknown, unspaced = judge.score(
        [
            JudgedClip("nothing", _sig(3), _sig(4), RATE),
            JudgedClip("silent", torch.zeros(RATE), _sig(4), RATE),
            JudgedClip("no text", _sig(1), _sig(4), RATE),
            JudgedClip("unknown", _sig(1), _sig(1), RATE, "rouge", language="fr"),
            JudgedClip("unspaced", _sig(5), _sig(5), RATE, "紅犬", language="ja"),
        ]
    )
    assert nothing.scores == silent.scores == unknown.scores == {}
    assert unknown.transcript == ""
    assert no_text.scores.keys() == {"dwer_parrot", "dcer_parrot"}
    assert unspaced.scores.keys() == {"dcer_parrot"}


def test_silence_and_half_a_word_are_not_transcribed() -> None:
    judge = _Parrot()
    assert judge.transcribe(torch.zeros(RATE), RATE) == ""
    assert judge.transcribe(_sig(1, seconds=0.3), RATE) == ""
    assert judge.languages == []
    lost = judge.score([JudgedClip("lost", _sig(1), torch.zeros(RATE), RATE)])[0]
    assert lost.scores["dwer_parrot"] == Score(100.0, 3)


def test_batches_are_refused() -> None:
    with pytest.raises(UserError, match=r"sig: shape \(1, 16000\); give one clip"):
        _Parrot().transcribe(torch.ones(1, RATE), RATE)


def test_a_reference_is_transcribed_once_for_all_codecs_and_once_per_language() -> None:
    judge = _Parrot()
    judge.score([JudgedClip("a", _sig(1), _sig(2), RATE)])
    judge.score([JudgedClip("a", _sig(1), _sig(4), RATE), JudgedClip("a", _sig(1), _sig(1), RATE)])
    assert judge.languages == ["en"] * 3
    judge.score([JudgedClip("a", _sig(1), _sig(1), RATE, language="ja")])
    assert judge.languages == ["en"] * 3 + ["ja"]
