"""From a manifest to batches of signals, features and mixtures."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from focalcodec.data.corpus import embedded_corpus
from focalcodec.data.dataset import AudioBatch, AudioDataset, Mixed, pad_collate
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
def test_damaged_entry_counts_as_missing(tmp_path, damage):
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


def test_cost_is_reported_before_a_run(tmp_path):
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


# -- mixtures --------------------------------------------------------------------------------------


def noisy_rows(folder, num_clips=3, **lengths):
    rows = []
    for k in range(num_clips):
        row = {"ID": str(k), "duration": (k + 2) / 10, "spk_id": "7", "wrd": "YES"}
        for column, seed in (("wav", k), ("noisy", k + 50)):
            samples = lengths.get(f"{column}{k}", 1600 * (k + 2))
            sig = np.random.default_rng(seed).normal(0, 0.1, samples)
            row[column] = str(folder / f"{column}{k}.flac")
            soundfile.write(row[column], sig, 16000)
        rows.append(row)
    return rows


def clean(rows):
    return [{name: value for name, value in row.items() if name != "noisy"} for row in rows]


def mix(row, draw):
    sig = torch.ones(int(row["duration"] * 16000))
    noise = torch.rand(len(sig), generator=clip_generator(0, draw, row["ID"]))
    return Mixed(sig + noise, sig)


def test_noisy_files_are_read_beside_the_clean_ones(tmp_path):
    rows = noisy_rows(tmp_path)
    batch = pad_collate(list(AudioDataset(rows, 16000)))
    plain = pad_collate(list(AudioDataset(clean(rows), 16000)))
    mixture = batch.mixture
    assert plain.mixture is None
    assert batch.sig.equal(plain.sig)
    assert mixture.lengths.equal(batch.lengths)
    assert mixture.wav == [row["noisy"] for row in rows]
    assert (mixture.id, mixture.wrd) == (batch.id, batch.wrd)
    renamed = clean([{**row, "wav": row["noisy"]} for row in rows])
    assert mixture.sig.equal(pad_collate(list(AudioDataset(renamed, 16000))).sig)
    assert batch.to("meta").mixture.sig.is_meta


def test_segments_are_of_both_files(tmp_path):
    rows = [{**row, "start": 100, "stop": 900} for row in noisy_rows(tmp_path)]
    whole = [{k: v for k, v in row.items() if k not in ("start", "stop")} for row in rows]
    part, full = (pad_collate(list(AudioDataset(some, 16000))) for some in (rows, whole))
    assert part.sig.equal(full.sig[:, 100:900])
    assert part.mixture.sig.equal(full.mixture.sig[:, 100:900])
    assert part.mixture.span == [(100, 900)] * 3


def test_both_are_cached(tmp_path):
    encoder = LogMel().eval()
    cache = FeatureCache(tmp_path / "cache", encoder)
    rows = noisy_rows(tmp_path)
    batch = pad_collate(list(AudioDataset(rows, 16000, cache=cache)))
    clean_feats, mixture_feats = (batch_feats(encoder, b, cache)[0] for b in (batch, batch.mixture))
    cached = pad_collate(list(AudioDataset(rows, 16000, cache=cache, with_sig=False)))
    assert cached.lengths.tolist() == cached.mixture.lengths.tolist() == [0, 0, 0]
    assert batch_feats(encoder, cached, cache)[0].equal(clean_feats)
    assert batch_feats(encoder, cached.mixture, cache)[0].equal(mixture_feats)
    assert not clean_feats.equal(mixture_feats)


@pytest.mark.parametrize("column", ["wav", "noisy"])
def test_unequal_lengths_are_left_out_and_reported(tmp_path, column):
    rows = noisy_rows(tmp_path, **{f"{column}1": 3201 + 1600})
    dataset = AudioDataset(rows, 16000, report=tmp_path / "skipped.csv")
    batch = pad_collate(list(dataset))
    assert batch.id == batch.mixture.id == ["0", "2"]
    assert "they must have the same length" in (tmp_path / "skipped.csv").read_text()


def test_a_broken_noisy_file_breaks_the_clip(tmp_path):
    rows = noisy_rows(tmp_path)
    (tmp_path / "noisy0.flac").write_bytes(b"no audio")
    dataset = AudioDataset(rows, 16000, report=tmp_path / "skipped.csv")
    assert pad_collate(list(dataset)).id == ["1", "2"]
    assert "noisy0.flac: not audio" in (tmp_path / "skipped.csv").read_text()


def test_a_mixer_makes_a_new_mixture_at_each_draw(tmp_path):
    rows = clean(noisy_rows(tmp_path))
    dataset = AudioDataset(rows, 16000, mixer=mix)
    first, again, later = (pad_collate([dataset[i]]) for i in (1, (1, 0), (1, 1)))
    assert first.sig.equal(torch.ones(1, 4800))
    assert first.mixture.sig.equal(again.mixture.sig)
    assert not first.mixture.sig.equal(later.mixture.sig)
    assert first.sig.equal(later.sig)


def test_clips_that_the_mixer_can_t_read_are_left_out_and_reported(tmp_path):
    def broken(row, draw):
        if row["ID"] == "1":
            raise UserError("noise.wav: no such file")
        return mix(row, draw)

    rows = clean(noisy_rows(tmp_path))
    dataset = AudioDataset(rows, 16000, mixer=broken, report=tmp_path / "skipped.csv")
    assert pad_collate(list(dataset)).id == ["0", "2"]
    assert "noise.wav: no such file" in (tmp_path / "skipped.csv").read_text()


def test_files_take_precedence_over_a_mixer(tmp_path):
    rows = noisy_rows(tmp_path)
    mixed, plain = (AudioDataset(rows, 16000, mixer=mixer)[0] for mixer in (mix, None))
    assert mixed["mixture"]["sig"].equal(plain["mixture"]["sig"])


def test_mixtures_can_t_be_cached_and_all_rows_have_a_noisy_file_or_none(tmp_path):
    rows = noisy_rows(tmp_path)
    cache = FeatureCache(tmp_path / "cache", LogMel())
    with pytest.raises(UserError, match="feature_cache: a mixer"):
        AudioDataset(clean(rows), 16000, mixer=mix, cache=cache)
    AudioDataset(rows, 16000, mixer=mix, cache=cache)
    with pytest.raises(UserError, match="clip '0' has no column noisy"):
        AudioDataset([*clean(rows[:1]), *rows[1:]], 16000)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_mixtures_are_those_of_the_uninterrupted_run(tmp_path, num_workers):
    rows = clean(noisy_rows(tmp_path, 6))

    def run(state, epochs, stop=None):
        dataset = AudioDataset(rows, 16000, group_by="spk_id", mixer=mix)
        sampler = EpochBatchSampler(
            *(dataset.durations, 2), passes=2, groups=dataset.groups, with_draws=True
        )
        if state is not None:
            sampler.load_state_dict(state)
        loader = DataLoader(
            dataset, batch_sampler=sampler, collate_fn=pad_collate, num_workers=num_workers
        )
        seen = []
        for epoch in range(sampler.epoch, epochs):
            sampler.set_epoch(epoch)
            for batch in loader:
                sampler.advance()
                seen.append(batch.mixture.sig)
                if len(seen) == stop:
                    return seen, sampler.state_dict()
        return seen, None

    whole, _ = run(None, 3)
    before, state = run(None, 3, stop=8)
    after, _ = run(state, 3)
    assert len(whole) == len(before + after) == 18
    assert all(a.equal(b) for a, b in zip(whole, before + after, strict=True))


def test_groups_are_a_column_of_the_manifest(tmp_path):
    rows = [
        {**row, "language": name} for row, name in zip(noisy_rows(tmp_path), "aba", strict=True)
    ]
    dataset = AudioDataset(rows, 16000, group_by="language")
    assert dataset.groups == ["a", "b", "a"]
    batch = pad_collate(list(dataset))
    assert batch.group == batch.mixture.group == ["a", "b", "a"]
    assert pad_collate(list(AudioDataset(rows, 16000))).group == ["", "", ""]
    assert AudioDataset(rows, 16000).groups is None
    with pytest.raises(UserError, match="group_by='accent': no such column") as error:
        AudioDataset(rows, 16000, group_by="accent")
    assert "\n" not in str(error.value)


def test_defaults_of_items_and_batches():
    names = {"id": "a", "wav": "a.flac", "spk_id": "", "wrd": "", "feats": None}
    batch = pad_collate([None, {**names, "sig": torch.ones(3)}, None])
    assert (batch.span, batch.group, batch.mixture) == ([None], [""], None)
    assert pad_collate([None, None]) is None
    batch = AudioBatch(["a"], ["a"], [""], [""], torch.zeros(1, 2), torch.tensor([2]), [None])
    assert (batch.span, batch.group) == ([None], [""])
