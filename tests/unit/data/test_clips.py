"""Parts of files have the samples of the whole file, in any format, rate and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.data.clips import read_clip, write_whole_files
from focalcodec.data.dataset import AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache, batch_feats
from focalcodec.data.manifest import DATA_ROOT, read_manifest, write_csv
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from tests.unit.own_rate import read_own


def write(path, rate, seconds, **kinds):
    """Write noise with silences, so that a codec switches between its block sizes."""
    samples = int(rate * seconds)
    envelope = np.sin(2 * np.pi * 3 * np.arange(samples) / rate) > 0
    sig = 0.2 * envelope * np.random.default_rng(0).standard_normal(samples)
    with soundfile.SoundFile(path, "w", rate, 1, **kinds) as file:
        for start in range(0, samples, rate):
            file.write(sig[start : start + rate])
    return str(path)


FORMATS = {
    "flac": {"format": "FLAC"},
    "wav": {"format": "WAV"},
    "vorbis.ogg": {"format": "OGG", "subtype": "VORBIS"},
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_segments_are_slices_of_the_whole_file(tmp_path, suffix, rate):
    # longer than what is read on to the end of an Ogg file, so that there are seeks as well
    wav = write(tmp_path / f"a.{suffix}", rate, 40, **FORMATS[suffix])
    whole = read_own(wav)
    end = len(whole)
    generator = np.random.default_rng(1)
    # libsndfile itself misses its place on the last page of a Vorbis file
    spans = [(0, 10), (end - 10, end), (end - 3000, end - 100), (0, end)]
    for start in generator.integers(0, end - 4000, 30).tolist():
        spans.append((start, start + 4000))
    for start, stop in spans:
        assert read_clip(wav, rate, (start, stop)).equal(whole[start:stop])


def test_opus_segments_are_close_to_those_of_the_whole_file(tmp_path):
    wav = write(tmp_path / "a.opus", 16000, 40, format="OGG", subtype="OPUS")
    whole = read_own(wav)
    for start in (3000, 70001, 400000):
        part = read_clip(wav, 16000, (start, start + 8000))
        assert part.equal(read_clip(wav, 16000, (start, start + 8000)))
        torch.testing.assert_close(part, whole[start : start + 8000], atol=0.01, rtol=0)


@pytest.mark.parametrize("rate", [8000, 24000, 44100, 48000])
def test_resampled_segments_have_no_edges(tmp_path, rate):
    wav = write(tmp_path / "a.flac", rate, 3)
    whole = read_clip(wav, 16000)
    # places that are whole samples at both rates, so that the whole file has the same ones
    for seconds in (0.0, 0.01, 0.5, 1.0, 2.5):
        start, stop = round(seconds * rate), round((seconds + 0.5) * rate)
        part = read_clip(wav, 16000, (start, stop))
        assert len(part) == 8000
        first = round(seconds * 16000)
        torch.testing.assert_close(part, whole[first : first + 8000], atol=2e-5, rtol=0)


def test_segments_together_have_the_length_of_the_file(tmp_path):
    wav = write(tmp_path / "a.flac", 44100, 3)
    cuts = [0, 44111, 88200, 132300]
    parts = [read_clip(wav, 16000, span) for span in zip(cuts[:-1], cuts[1:], strict=True)]
    assert abs(sum(map(len, parts)) - 48000) <= 1
    joined, whole = torch.cat(parts)[:48000], read_clip(wav, 16000)
    # the cut between two samples of the new rate moves what follows by less than half of one
    assert torch.corrcoef(torch.stack([joined[:16000], whole[:16000]]))[0, 1] > 0.9999


def test_several_channels_and_spans_beyond_the_file(tmp_path):
    path = str(tmp_path / "a.wav")
    stereo = np.stack([np.full(100, 0.5), np.zeros(100)], axis=1)
    soundfile.write(path, stereo, 16000)
    assert read_clip(path, 16000, (10, 20), "mix").tolist() == [0.25] * 10
    assert read_clip(path, 16000, (10, 20), "first").tolist() == [0.5] * 10
    with pytest.raises(UserError, match="2 channels"):
        read_clip(path, 16000, (10, 20))
    for span in ((0, 101), (20, 20), (-1, 5), (100, 101)):
        with pytest.raises(UserError, match=f"start={span[0]}, stop={span[1]} do not fit its 100"):
            read_clip(path, 16000, span, "mix")


def segment_rows(wav, *spans):
    return [
        {
            **{"ID": f"a_{k}", "duration": (stop - start) / 16000, "wav": wav, "spk_id": ""},
            **{"wrd": "", "start": start, "stop": stop},
        }
        for k, (start, stop) in enumerate(spans)
    ]


def test_each_segment_has_its_own_cache_entry(tmp_path):
    encoder = LogMel().eval()
    wav = write(tmp_path / "a.flac", 16000, 2)
    rows = segment_rows(wav, (0, 16000), (16000, 32000), (0, 32000))
    cache = FeatureCache(tmp_path / "cache", encoder)
    batch = pad_collate(list(AudioDataset(rows, 16000, cache=cache)))
    assert batch.span == [(0, 16000), (16000, 32000), (0, 32000)]
    assert batch.lengths.tolist() == [16000, 16000, 32000]
    feats, _ = batch_feats(encoder, batch, cache)
    again = pad_collate(list(AudioDataset(rows, 16000, cache=cache, with_sig=False)))
    assert again.lengths.tolist() == [0, 0, 0]
    assert batch_feats(encoder, again, cache)[0].equal(feats)
    assert not feats[0].equal(feats[1])
    assert cache.get(wav) is None
    assert cache.get(wav, (0, 16001)) is None


def test_unread_segments_of_a_batch_are_read_as_segments(tmp_path):
    encoder = LogMel().eval()
    rows = segment_rows(write(tmp_path / "a.flac", 16000, 2), (0, 16000), (16000, 32000))
    cache = FeatureCache(tmp_path / "cache", encoder)
    cache.put(rows[0]["wav"], torch.zeros(3, encoder.dim), (0, 16000))
    half = pad_collate(list(AudioDataset(rows, 16000, cache=cache, with_sig=False)))
    assert half.lengths.tolist() == [0, 16000]
    plain = pad_collate(list(AudioDataset(rows, 16000)))
    assert batch_feats(encoder, half, cache)[0].equal(batch_feats(encoder, plain)[0])


def test_a_segment_beyond_its_file_is_left_out_and_reported(tmp_path):
    wav = write(tmp_path / "a.flac", 16000, 1)
    rows = segment_rows(wav, (0, 8000), (8000, 16001))
    dataset = AudioDataset(rows, 16000, report=tmp_path / "skipped.csv")
    assert pad_collate(list(dataset)).id == ["a_0"]
    assert "stop=16001 do not fit its 16000 samples" in (tmp_path / "skipped.csv").read_text()


# -- files of their own ----------------------------------------------------------------------------


SPANS = [(0, 300), (300, 600), (600, 1000)]


def test_segments_are_the_parts(tmp_path: Path) -> None:
    sig = torch.rand(1000) - 0.5
    soundfile.write(tmp_path / "talk.wav", sig.numpy(), 8000)
    rows = [
        {"ID": str(i), "duration": 1, "wav": f"{DATA_ROOT}/talk.wav", "start": a, "stop": b}
        for i, (a, b) in enumerate(SPANS)
    ]
    write_csv(tmp_path / "test.csv", list(rows[0]), rows)
    whole = write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "segments")
    found = read_manifest(whole, "nowhere")
    assert [row["ID"] for row in found] == ["0", "1", "2"]
    sig = read_own(tmp_path / "talk.wav")
    for row, (start, stop) in zip(found, SPANS, strict=True):
        assert "start" not in row
        assert torch.equal(read_own(row["wav"]), sig[start:stop])
    before = {path: path.stat().st_mtime_ns for path in whole.parent.glob("*.flac")}
    write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "segments")
    assert before == {path: path.stat().st_mtime_ns for path in whole.parent.glob("*.flac")}


def test_channels_are_mixed_as_the_manifest_says(tmp_path: Path) -> None:
    sig = torch.rand(100, 2) - 0.5
    soundfile.write(tmp_path / "both.wav", sig.numpy(), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", sig[:, 0].numpy(), 8000)
    rows = [
        {"ID": n, "duration": 1, "wav": f"{DATA_ROOT}/{n}.wav", "channels": "mix"}
        for n in ("both", "one")
    ]
    write_csv(tmp_path / "test.csv", list(rows[0]), rows)
    whole = write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "w")
    both, one = read_manifest(whole, "nowhere")
    torch.testing.assert_close(read_own(both["wav"]), sig.mean(dim=1), atol=1e-4, rtol=0)
    assert one["wav"] == str(tmp_path / "one.wav")


def test_whole_files_are_not_copied(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", torch.zeros(10).numpy(), 8000)
    row = {"ID": "a", "duration": 1, "wav": f"{DATA_ROOT}/a.wav"}
    write_csv(tmp_path / "test.csv", list(row), [row])
    assert (
        write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "s") == tmp_path / "test.csv"
    )
    assert not (tmp_path / "s").exists()
