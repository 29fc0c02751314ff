"""Parts: batches give the tokens of single clips, broken files are reported, files are checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.audio import read_audio
from focalcodec.audio_stream import AudioStream
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import encode_blocks
from focalcodec.tokenize import parts
from focalcodec.tokenize.clips import CorpusClip
from focalcodec.tokenize.parts import (
    EncodedClip,
    FocalTokenizer,
    PartEncoder,
    encode_batch,
    plan_batches,
    read_part,
    write_part,
)
from tests.unit.small_codecs import logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, plan_for, write_corpus


def test_each_clip_has_the_same_tokens_as_alone(tmp_path, monkeypatch):
    sizes, windowed = [], []

    def counted(codec, sigs):
        sizes.append(len(sigs))
        return encode_batch(codec, sigs)

    def in_windows(codec, stream, sample_rate, window_seconds):
        windowed.append(stream.num_samples / stream.source_rate)
        return encode_blocks(codec, stream, sample_rate, window_seconds)

    monkeypatch.setattr(parts, "encode_batch", counted)
    monkeypatch.setattr(parts, "encode_blocks", in_windows)
    codec, plan = logmel_codec(), plan_for(logmel_codec(), write_corpus(tmp_path))
    reported = []
    with ThreadPoolExecutor(2) as pool:
        encoder = PartEncoder(FocalTokenizer(codec), plan.source, plan.options, pool)
        encoded = encoder.encode(plan.source.clips, reported.append)
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
                expected = torch.cat([*encode_blocks(codec, stream, 16000, 2.5)])
            else:
                expected = codec.encode(read_audio(path, 16000, channels="mix")[None], 16000)[0][0]
        assert torch.equal(got.toks, expected)
    assert sum(reported) == pytest.approx(sum(clip.seconds for clip in encoded))


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


def test_batch_too_large_for_the_device_is_an_error(monkeypatch):
    codec = logmel_codec()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(codec), "encode", full)
    with pytest.raises(UserError, match="^4 s of audio in a batch.* lower batch_seconds"):
        encode_batch(FocalTokenizer(codec), [torch.zeros(32000), "broken", torch.zeros(16000)])


def test_batch_with_only_broken_clips():
    assert encode_batch(FocalTokenizer(logmel_codec()), ["one", "two"]) == ["one", "two"]


# -- files of parts --------------------------------------------------------------------------------


CLIPS = [
    EncodedClip(torch.tensor([5, 8191, 70_000]), 960, 16000),
    EncodedClip(reason="a\udce4.wav: empty"),
    EncodedClip(torch.tensor([1]), 2**40, 44100),
]
LISTED = [CorpusClip(name, f"{name}.wav") for name in "abc"]


def test_part_file_round_trip(tmp_path):
    write_part(tmp_path / "p", "ab", CLIPS)
    found = read_part(tmp_path / "p", "ab", LISTED)
    for clip, expected in zip(found, CLIPS, strict=True):
        assert clip.toks.dtype == torch.int64 and torch.equal(clip.toks, expected.toks)
        assert (clip.num_samples, clip.sample_rate) == (expected.num_samples, expected.sample_rate)
        assert clip.reason == expected.reason
    assert [clip.clip for clip in found] == LISTED


def test_part_file_with_clips_that_no_source_lists(tmp_path):
    clips = [
        replace(clip, clip=CorpusClip(f"t/{name}", "t.tar", spk_id="7", wrd="\udce4"))
        for clip, name in zip(CLIPS, "xyz", strict=True)
    ]
    write_part(tmp_path / "p", "ab", clips, with_clips=True)
    found = read_part(tmp_path / "p", "ab", [CorpusClip("t", "t.tar")])
    assert [clip.clip for clip in found] == [clip.clip for clip in clips]


@pytest.mark.parametrize("digest, count", [("cd", 3), ("ab", 2), ("ab", 4)])
def test_part_of_another_plan_is_ignored(tmp_path, digest, count):
    write_part(tmp_path / "p", "ab", CLIPS)
    assert read_part(tmp_path / "p", digest, (LISTED * 2)[:count]) is None


def test_missing_part_is_none(tmp_path):
    assert read_part(tmp_path / "p", "ab", LISTED) is None


@settings(max_examples=150)
@given(st.data())
def test_damaged_part_is_ignored(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("part") / "p"
    write_part(path, "ab", CLIPS)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    assert read_part(path, "ab", LISTED) is None
