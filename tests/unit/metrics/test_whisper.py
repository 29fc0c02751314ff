"""Whisper transcribes real speech."""

from __future__ import annotations

from focalcodec.metrics.judge import at_rate
from focalcodec.metrics.transcripts import word_errors

RATE = 16000


def test_whisper_transcribes_at_any_rate(judge, speech) -> None:
    whisper, text = judge("Whisper tiny.en"), "He was not an ill disposed young man."
    higher = at_rate(speech["real"], RATE, 24000)
    for sig, rate in ((speech["real"], RATE), (higher, 24000)):
        errors = word_errors(text, whisper.transcribe(sig, rate))
        assert errors.units == 8 and errors.edits <= 2  # "ill disposed" is hard for it


def test_tiny_supports_english_only_and_base_more(judge) -> None:
    assert not judge("Whisper tiny.en").supports("fr") and judge("Whisper tiny.en").supports("en")
    assert judge("Whisper base").supports("fr") and not judge("Whisper base").supports("xx")
