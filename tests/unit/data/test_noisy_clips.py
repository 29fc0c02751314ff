"""Clips with a mixture: two files of one length, or made anew at each draw."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioBatch, AudioDataset, Mixed, pad_collate
from focalcodec.data.feature_cache import FeatureCache, batch_feats
from focalcodec.data.randomness import clip_generator
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError


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


def test_noisy_files_come_beside_the_clean_ones(tmp_path):
    rows = noisy_rows(tmp_path)
    batch = pad_collate(list(AudioDataset(rows, 16000)))
    plain = pad_collate(list(AudioDataset(clean(rows), 16000)))
    heard = batch.mixture
    assert plain.mixture is None
    assert batch.sig.equal(plain.sig)
    assert heard.lengths.equal(batch.lengths)
    assert heard.wav == [row["noisy"] for row in rows]
    assert (heard.id, heard.wrd) == (batch.id, batch.wrd)
    renamed = clean([{**row, "wav": row["noisy"]} for row in rows])
    assert heard.sig.equal(pad_collate(list(AudioDataset(renamed, 16000))).sig)
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
    said, heard = (batch_feats(encoder, b, cache)[0] for b in (batch, batch.mixture))
    cached = pad_collate(list(AudioDataset(rows, 16000, cache=cache, with_sig=False)))
    assert cached.lengths.tolist() == cached.mixture.lengths.tolist() == [0, 0, 0]
    assert batch_feats(encoder, cached, cache)[0].equal(said)
    assert batch_feats(encoder, cached.mixture, cache)[0].equal(heard)
    assert not said.equal(heard)


@pytest.mark.parametrize("column", ["wav", "noisy"])
def test_unequal_lengths_are_left_out_and_told(tmp_path, column):
    rows = noisy_rows(tmp_path, **{f"{column}1": 3201 + 1600})
    dataset = AudioDataset(rows, 16000, report=tmp_path / "skipped.csv")
    batch = pad_collate(list(dataset))
    assert batch.id == batch.mixture.id == ["0", "2"]
    assert "they must be of one length" in (tmp_path / "skipped.csv").read_text()


def test_a_broken_noisy_file_breaks_the_clip(tmp_path):
    rows = noisy_rows(tmp_path)
    (tmp_path / "noisy0.flac").write_bytes(b"no audio")
    dataset = AudioDataset(rows, 16000, report=tmp_path / "skipped.csv")
    assert pad_collate(list(dataset)).id == ["1", "2"]
    assert "noisy0.flac: not audio" in (tmp_path / "skipped.csv").read_text()


def test_a_mixer_mixes_anew_at_each_draw(tmp_path):
    rows = clean(noisy_rows(tmp_path))
    dataset = AudioDataset(rows, 16000, mixer=mix)
    first, again, later = (pad_collate([dataset[i]]) for i in (1, (1, 0), (1, 1)))
    assert first.sig.equal(torch.ones(1, 4800))
    assert first.mixture.sig.equal(again.mixture.sig)
    assert not first.mixture.sig.equal(later.mixture.sig)
    assert first.sig.equal(later.sig)


def test_what_the_mixer_can_t_read_is_left_out_and_told(tmp_path):
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


def test_mixtures_can_t_be_kept_nor_be_there_for_some(tmp_path):
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


def test_items_and_batches_need_no_more_than_before():
    names = {"id": "a", "wav": "a.flac", "spk_id": "", "wrd": "", "feats": None}
    batch = pad_collate([None, {**names, "sig": torch.ones(3)}, None])
    assert (batch.span, batch.group, batch.mixture) == ([None], [""], None)
    assert pad_collate([None, None]) is None
    batch = AudioBatch(["a"], ["a"], [""], [""], torch.zeros(1, 2), torch.tensor([2]), [None])
    assert (batch.span, batch.group) == ([None], [""])
