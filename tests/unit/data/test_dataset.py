"""The way from a manifest to batches of signals and features."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from focalcodec.data.corpus import embedded_corpus
from focalcodec.data.dataset import AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache, batch_feats, cache_bytes, encoder_key
from focalcodec.data.randomness import clip_generator
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError


def make_rows(folder, num_clips=5, rate=16000):
    rows = []
    for k in range(num_clips):
        samples = np.random.default_rng(k).normal(0, 0.1, rate * (k + 2) // 10)
        soundfile.write(folder / f"{k}.flac", samples, rate)
        row = {"ID": str(k), "duration": len(samples) / rate, "wav": str(folder / f"{k}.flac")}
        rows.append({**row, "spk_id": "7", "wrd": "YES"})
    return rows


def test_batches_hold_whole_clips_at_the_encoders_rate(tmp_path):
    dataset = AudioDataset(make_rows(tmp_path, rate=24000), sample_rate=16000)
    batch = pad_collate([dataset[k] for k in (0, 3)])
    assert batch.id == ["0", "3"]
    assert batch.wrd == ["YES", "YES"]
    assert batch.lengths.tolist() == [3200, 8000]
    assert batch.sig.shape == (2, 8000)
    assert not batch.sig[0, 3200:].any()
    assert batch.to("cpu").sig.equal(batch.sig)
    assert len(batch) == 2


def test_long_clips_are_left_out(tmp_path):
    rows = make_rows(tmp_path)
    assert len(AudioDataset(rows, 16000, max_seconds=0.45)) == 3
    with pytest.raises(UserError, match="no clip of 5 is left"):
        AudioDataset(rows, 16000, max_seconds=0.1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_clips_are_skipped_and_listed_once(tmp_path, num_workers):
    rows = make_rows(tmp_path)
    (tmp_path / "1.flac").unlink()
    (tmp_path / "4.flac").write_bytes(b"no audio")
    report = tmp_path / "run" / "skipped.csv"
    dataset = AudioDataset(rows, 16000, report=report)
    sampler = EpochBatchSampler(dataset.durations, batch_size=2, sorting="ascending")
    for _ in range(2):
        loader = DataLoader(
            dataset, batch_sampler=sampler, collate_fn=pad_collate, num_workers=num_workers
        )
        ids = [None if batch is None else batch.id for batch in loader]
        assert ids == [["0"], ["2", "3"], None]
    with report.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert sorted(row["path"] for row in listed) == [rows[1]["wav"], rows[4]["wav"]]
    assert {row["path"]: row["reason"] for row in listed}[rows[1]["wav"]].count("no such file")


def test_draws_for_a_clip_depend_on_seed_epoch_and_clip_only():
    def draw(*key):
        return int(torch.randint(2**40, (1,), generator=clip_generator(*key)))

    assert draw(1, 2, "a") == draw(1, 2, "a")
    assert len({draw(1, 2, "a"), draw(0, 2, "a"), draw(1, 1, "a"), draw(1, 2, "b")}) == 4
    assert draw(1, 11, "a") != draw(11, 1, "a")


def test_cached_features_are_those_of_the_encoder(tmp_path):
    encoder = LogMel().eval()
    cache = FeatureCache(tmp_path / "cache", encoder)
    rows = make_rows(tmp_path)
    first = AudioDataset(rows, encoder.sample_rate, cache=cache)
    fresh = pad_collate([first[k] for k in range(5)])
    feats, lengths = batch_feats(encoder, fresh, cache)
    plain, plain_lengths = batch_feats(encoder, fresh)
    assert feats.equal(plain)
    assert lengths.equal(plain_lengths)

    second = AudioDataset(rows, encoder.sample_rate, cache=cache, with_sig=False)
    cached = pad_collate([second[k] for k in range(5)])
    assert cached.lengths.tolist() == [0] * 5

    def refuse(*args):
        raise AssertionError("encoded again")

    again, again_lengths = batch_feats(refuse, cached, cache)
    assert again.equal(feats)
    assert again_lengths.equal(lengths)


def test_half_cached_batch_is_encoded_whole(tmp_path):
    encoder = LogMel().eval()
    cache = FeatureCache(tmp_path / "cache", encoder)
    rows = make_rows(tmp_path)
    cache.put(rows[1]["wav"], torch.zeros(3, encoder.dim))
    dataset = AudioDataset(rows, encoder.sample_rate, cache=cache, with_sig=False)
    batch = pad_collate([dataset[k] for k in range(3)])
    assert batch.lengths[1] == 0
    plain = pad_collate([AudioDataset(rows, encoder.sample_rate)[k] for k in range(3)])
    assert batch_feats(encoder, batch, cache)[0].equal(batch_feats(encoder, plain)[0])


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage", "empty"])
def test_damaged_entry_counts_as_not_there(tmp_path, damage):
    cache = FeatureCache(tmp_path / "cache", LogMel())
    wav = make_rows(tmp_path, 1)[0]["wav"]
    feats = torch.randn(4, 3)
    cache.put(wav, feats)
    assert cache.get(wav).equal(feats)
    entry = next(cache.folder.glob("*/*.safetensors"))
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    whole = entry.read_bytes()
    damaged = {"cut": whole[:-5], "flip": bytes(content), "garbage": b"x" * 99, "empty": b""}
    entry.write_bytes(damaged[damage])
    assert cache.get(wav) is None
    cache.put(wav, feats)
    assert cache.get(wav).equal(feats)


def test_entries_are_keyed_by_encoder_options_and_file(tmp_path):
    wav = make_rows(tmp_path, 1)[0]["wav"]
    FeatureCache(tmp_path, LogMel()).put(wav, torch.ones(1, 1))
    assert FeatureCache(tmp_path, LogMel()).get(wav) is not None
    assert FeatureCache(tmp_path, LogMel(), "float16").get(wav) is None
    assert FeatureCache(tmp_path, LogMel(), options={"precision": "bf16"}).get(wav) is None
    soundfile.write(wav, np.zeros(1600), 16000)
    assert FeatureCache(tmp_path, LogMel()).get(wav) is None

    class Weighted(torch.nn.Linear):
        config = {"in_features": 2}

    torch.manual_seed(0)
    assert encoder_key(Weighted(2, 2)) != encoder_key(Weighted(2, 2))


def test_float16_gives_the_rounded_features_at_once(tmp_path):
    cache = FeatureCache(tmp_path / "cache", LogMel(), "float16")
    wav = make_rows(tmp_path, 1)[0]["wav"]
    feats = torch.randn(4, 3)
    stored = cache.put(wav, feats)
    assert stored.dtype == torch.float32
    assert stored.equal(cache.get(wav))
    assert stored.equal(feats.half().float())


def test_cost_is_told_before(tmp_path):
    encoder = LogMel()
    cache = FeatureCache(tmp_path / "none" / "yet", encoder)
    line = cache.describe_cost(3600.0)
    need = cache_bytes(3600.0, encoder.sample_rate, encoder.hop, encoder.dim, "float32")
    assert f"1.00 h x {encoder.sample_rate / encoder.hop:g} frames/s" in line
    assert f"{need / 1e9:.3f} GB in {cache.folder}" in line
    assert "\n" not in line
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="too much: use float16"):
        cache.describe_cost(1e15)
    with pytest.raises(UserError, match="cache dtype='int8'"):
        FeatureCache(tmp_path, encoder, "int8")


def test_embedded_corpus_is_found_or_refused():
    assert (embedded_corpus("LibriSpeech") / "train-mini").is_dir()
    assert (embedded_corpus("VoxPopuli") / "transcribed_data" / "en" / "asr_dev.tsv").is_file()
    with pytest.raises(UserError, match="the embedded corpus is missing"):
        embedded_corpus("TIMIT")
