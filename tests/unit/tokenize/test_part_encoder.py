"""Parts: a batch gives what single clips do, broken files are told apart, batches keep to size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.audio import read_audio
from focalcodec.audio_stream import AudioStream
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import encode_blocks
from focalcodec.tokenize import part_encoder, tokenizer
from focalcodec.tokenize.part_encoder import PartEncoder, encode_batch, plan_batches
from focalcodec.tokenize.tokenizer import FocalTokenizer
from tests.unit.small_codecs import logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, plan_for, write_corpus


def test_each_clip_gets_the_tokens_it_has_alone(tmp_path, monkeypatch):
    sizes, windowed = [], []

    def counted(codec, sigs):
        sizes.append(len(sigs))
        return encode_batch(codec, sigs)

    def in_windows(codec, stream, window_seconds):
        windowed.append(stream.num_samples / stream.source_rate)
        return encode_blocks(codec, stream, window_seconds)

    monkeypatch.setattr(part_encoder, "encode_batch", counted)
    monkeypatch.setattr(tokenizer, "encode_blocks", in_windows)
    codec, plan = logmel_codec(), plan_for(logmel_codec(), write_corpus(tmp_path))
    heard = []
    with ThreadPoolExecutor(2) as pool:
        encoder = PartEncoder(FocalTokenizer(codec), plan.source, plan.options, pool)
        encoded = encoder.encode(plan.source.clips, heard.append)
    assert max(sizes) > 3 and windowed == [SECONDS["long"]]
    for clip, got in zip(plan.source.clips, encoded, strict=True):
        if clip.id in BROKEN:
            assert BROKEN[clip.id] in got.reason and len(got.toks) == 0
            continue
        path = plan.source.audio(clip)
        assert got.reason == "" and got.seconds == pytest.approx(SECONDS[clip.id], abs=0.03)
        with AudioStream(path, 16000, "mix") as stream:
            assert (got.num_samples, got.sample_rate) == (stream.num_samples, stream.source_rate)
            if clip.id == "long":
                expected = torch.cat([*encode_blocks(codec, stream, 2.5)])
            else:
                expected = codec.encode(read_audio(path, 16000, channels="mix")[None])[0][0]
        assert torch.equal(got.toks, expected)
    assert sum(heard) == pytest.approx(sum(clip.seconds for clip in encoded))


def test_channels_can_be_refused(tmp_path):
    plan = plan_for(logmel_codec(), write_corpus(tmp_path), channels="error")
    with ThreadPoolExecutor(2) as pool:
        encoder = PartEncoder(FocalTokenizer(logmel_codec()), plan.source, plan.options, pool)
        encoded = encoder.encode([clip for clip in plan.source.clips if clip.id in "ac"])
    assert [bool(clip.reason) for clip in encoded] == [False, True]
    assert "2 channels" in encoded[1].reason


@settings(max_examples=80)
@given(st.lists(st.floats(0.01, 60.0), max_size=60), st.floats(1.0, 200.0))
def test_batches_hold_each_clip_once_within_the_limit(durations, batch_seconds):
    seconds = {3 * place: duration for place, duration in enumerate(durations)}
    batches = plan_batches(seconds, batch_seconds)
    assert sorted(key for batch in batches for key in batch) == sorted(seconds)
    limit = max([batch_seconds, *durations])
    for batch in batches:
        assert len(batch) * max(seconds[key] for key in batch) <= limit


def test_batch_that_does_not_fit_the_device_is_told_of(monkeypatch):
    codec = logmel_codec()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(codec), "encode", full)
    with pytest.raises(UserError, match="^4 s of audio in a batch.* lower batch_seconds"):
        encode_batch(FocalTokenizer(codec), [torch.zeros(32000), "broken", torch.zeros(16000)])


def test_batch_of_broken_clips_alone():
    assert encode_batch(FocalTokenizer(logmel_codec()), ["one", "two"]) == ["one", "two"]
