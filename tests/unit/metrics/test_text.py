"""Counting errors in transcripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focalcodec import packages
from focalcodec.errors import UserError
from focalcodec.metrics.text import (
    character_errors,
    normalise_words,
    word_errors,
)


@pytest.mark.parametrize(
    ("hypothesis", "errors"),
    [("a b c d", 0), ("a b c", 1), ("a x c d", 1), ("a b b c d", 1), ("", 4), ("x x x x x x", 6)],
)
def test_substitutions_deletions_and_insertions_count_one_each(hypothesis, errors) -> None:
    # words that the normaliser does not take for fillers
    names = {"a": "red", "b": "green", "c": "blue", "d": "pink", "x": "dog"}
    heard = " ".join(names[letter] for letter in hypothesis.split())
    assert word_errors("RED GREEN BLUE PINK", heard) == (errors, 4)


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


def test_nothing_heard_and_nothing_said() -> None:
    assert word_errors("", "red dog") == (2, 0)
    assert word_errors("red dog", "") == (2, 2)


def test_a_missing_package_is_named_with_the_command(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    normalise_words("a")  # the normaliser itself is there
    monkeypatch.setattr(packages, "import_module", absent)
    with pytest.raises(UserError, match="jiwer: not installed; run pip install jiwer=="):
        word_errors("a", "b")
