"""Word error rate: the counting always, the listener where it is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.metrics import wer
from focalcodec.metrics.wer import WhisperJudge, normalise_words, word_error_rate

needs_whisper = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("faster_whisper", *wer.PARTS)),
    reason="the Whisper judge is not installed",
)


def test_errors_are_counted_over_the_whole_set_not_averaged_over_clips() -> None:
    # 1 of 1 and 0 of 5: the average of the clips would be 0.5
    assert word_error_rate(["red", "a dog and a cat"], ["", "a dog and a cat"]) == 1 / 6


@pytest.mark.parametrize(
    ("hypothesis", "errors"),
    [("a b c d", 0), ("a b c", 1), ("a x c d", 1), ("a b b c d", 1), ("", 4), ("x x x x x x", 6)],
)
def test_substitutions_deletions_and_insertions_count_one_each(hypothesis, errors) -> None:
    # letters that the normaliser does not take for fillers
    names = {"a": "red", "b": "green", "c": "blue", "d": "pink", "x": "dog"}
    heard = " ".join(names[letter] for letter in hypothesis.split())
    assert word_error_rate(["RED GREEN BLUE PINK"], [heard]) == pytest.approx(errors / 4)


@given(st.lists(st.sampled_from(["red", "Green", "BLUE,", "it's", "Mr.", "7"]), min_size=1))
def test_a_transcript_has_no_error_against_itself(words) -> None:
    text = " ".join(words)
    assert word_error_rate([text], [text.upper()]) == 0


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


def test_bad_sets_are_refused() -> None:
    with pytest.raises(UserError, match="1 for 2 references"):
        word_error_rate(["one", "two"], ["one"])
    with pytest.raises(UserError, match="no word"):
        word_error_rate(["", ","], ["one", ""])


def test_a_missing_package_is_named_with_the_command(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(wer, "import_module", absent)
    with pytest.raises(UserError, match="faster_whisper: not installed; run pip install .*part2"):
        WhisperJudge()


@pytest.fixture
def halves(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """Two installed packages with a small made-up model."""
    site = tmp_path / "site"
    for part, name in enumerate(wer.PARTS, start=1):
        data = site / name / "data"
        data.mkdir(parents=True)
        (site / name / "__init__.py").touch()
        (data / f"model.bin.part{part}").write_bytes(b"half %d" % part)
    for name in wer.SIDE_FILES:
        (site / wer.PARTS[0] / "data" / name).write_text(name)
    monkeypatch.syspath_prepend(site)
    yield site
    for name in wer.PARTS:
        sys.modules.pop(name, None)


def test_the_halves_are_put_together_once_and_again_when_broken(
    halves: Path, tmp_path: Path, monkeypatch
) -> None:
    whole = b"half 1half 2"
    monkeypatch.setattr(wer, "BASE_SHA256", hashlib.sha256(whole).hexdigest())
    folder = wer._base_folder(tmp_path / "cache")
    assert (folder / "model.bin").read_bytes() == whole
    assert sorted(f.name for f in folder.iterdir()) == sorted((*wer.SIDE_FILES, "model.bin"))
    (folder / "model.bin").write_bytes(b"half 1")
    wer._base_folder(tmp_path / "cache")
    assert (folder / "model.bin").read_bytes() == whole


def test_halves_of_another_model_are_refused_and_nothing_is_left(
    halves: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="model.bin: sha256"):
        wer._base_folder(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*model*"))


@needs_whisper
def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CTranslate2"):
        WhisperJudge(tmp_path)


@needs_whisper
def test_the_judge_hears_the_same_at_any_rate_and_refuses_what_is_no_clip() -> None:
    judge = WhisperJudge()
    silence = judge.transcribe(torch.zeros(16000), 16000)
    assert judge.transcribe(torch.zeros(24000), 24000) == silence
    with pytest.raises(UserError, match="one clip"):
        judge.transcribe(torch.zeros(0), 16000)
    with pytest.raises(UserError, match="one clip"):
        judge.transcribe(torch.zeros(1, 16000), 16000)
