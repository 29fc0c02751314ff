"""Clips of the voices of the small text to speech."""

from __future__ import annotations

from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.training.run.config import read_tree
from tests.recipes.demo import small

VOICES = ["af_bella", "am_puck", "bf_emma"]
SENTENCES = [f"Sentence {'with words ' * (k % 8)}number {k}." for k in range(400)]


def clips(train: int) -> list:
    cast = small.module("demo_tts").TTSCast(VOICES[:2], {"dev-tts": 2, "train-tts": train})
    return cast.clips(VOICES, SENTENCES)


def test_no_sentence_is_read_twice_and_no_id_is_there_twice() -> None:
    made = clips(120)
    assert len({clip.text for clip in made}) == len({clip.id for clip in made}) == len(made) == 244
    assert {clip.speaker for clip in made} == {"3001", "3002"}
    assert all(len(clip.text.split()) <= 12 for clip in made)
    assert {clip.source.voices for clip in made} == {(("af_bella", 1.0),), (("am_puck", 1.0),)}


def test_a_longer_corpus_begins_with_the_shorter_one() -> None:
    known = {clip.id: clip.text for clip in clips(30)}
    longer = {clip.id: clip.text for clip in clips(60)}
    assert known.items() <= longer.items() and len(longer) == 124


def test_wrong_casts_are_one_line() -> None:
    with pytest.raises(UserError, match="lower clips_per_voice"):
        clips(1000)
    cast = small.module("demo_tts").TTSCast(["af_none"], {"train-tts": 1})
    with pytest.raises(UserError, match="no voice 'af_none'; there are af_bella"):
        cast.clips(VOICES, SENTENCES)


def test_the_corpus_has_the_splits_of_the_training() -> None:
    recipes = Path(__file__).parents[3] / "recipes"
    cast = read_tree(recipes / "Demo/hparams/demo_tts_corpus.yaml")["cast"]
    speakers = {f"{3001 + k}": name.split("_")[1] for k, name in enumerate(cast["names"])}
    for yaml in ("tts_demo", "tts_aligned_demo"):
        training = read_tree(recipes / f"LibriSpeech/hparams/{yaml}.yaml")
        used = [training[f"{name}_splits"][0] for name in ("tr", "dev", "te")]
        assert sorted(used) == sorted(cast["clips_per_voice"])
        assert {str(who): name for name, who in training["voices"].items()} == speakers
    assert len(speakers) == 8
    assert 8 * cast["clips_per_voice"]["test-tts"] >= 100
