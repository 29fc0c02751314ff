"""Options of stage 1: noise in frames, merged neighbours, the vector of an utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch

from focalcodec.errors import UserError
from focalcodec.training.run.export import export
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def brain_of(data: Path, folder: Path, **changes: Any) -> Any:
    brain = tiny.make_brain("quantizer25", folder, data, **changes)[0]
    brain.step = 3
    return brain


def test_masked_frames_are_noise_of_the_clips_own_size(data: Path, tmp_path: Path) -> None:
    brain, rows = brain_of(data, tmp_path, mask_share=0.4), tiny.clips(data, "train")
    batch = tiny.batch_of(rows)
    feats, frames = brain.encode(batch)
    masked = brain.mask_frames(feats, frames, batch, sb.Stage.TRAIN)
    changed = (masked != feats).any(dim=-1)
    share = changed.sum() / frames.sum()
    assert 0.25 < share < 0.55 and not changed[0, int(frames[0]) :].any()
    for item, row in enumerate(rows):  # as in any batch
        own, one = tiny.batch_of([row]), brain.encode(tiny.batch_of([row]))
        alone = brain.mask_frames(*one, own, sb.Stage.TRAIN)[0]
        torch.testing.assert_close(alone, masked[item, : len(alone)])
    assert brain.mask_frames(feats, frames, batch, sb.Stage.VALID) is feats


def test_merged_lats_give_equal_tokens(data: Path, tmp_path: Path) -> None:
    brain, batch = brain_of(data, tmp_path, merge_range=[-1.0, -1.0]), None
    batch = tiny.batch_of(tiny.clips(data, "train"))
    out = brain.compute_forward(batch, sb.Stage.TRAIN)
    for toks, end in zip(out.toks, out.lat_frames.tolist(), strict=True):
        groups = toks[:end].split(8)
        assert all(len(set(group.tolist())) == 1 for group in groups)
    lats, ends = out.lats, out.lat_frames
    assert brain.merge_frames(lats, ends, batch, sb.Stage.VALID) is lats


def test_the_vector_is_of_half_a_clip_and_sometimes_dropped(data: Path, tmp_path: Path) -> None:
    brain = brain_of(data, tmp_path, voice_tokens=3)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    feats, frames = brain.encode(batch)
    whole = brain.utterance_vector(feats, frames, batch, sb.Stage.VALID)["voice"]
    assert torch.equal(whole, brain.modules.compressor.voice(feats, frames))
    torch.manual_seed(0)
    seen = [
        brain.utterance_vector(feats, frames, batch, sb.Stage.TRAIN)["voice"]
        for brain.step in range(1, 60)
    ]
    dropped = sum(int((voice == 0).all(dim=1).sum()) for voice in seen)
    assert 8 < dropped < 44  # of 236, 10 %
    assert len({tuple(voice[0].tolist()) for voice in seen}) > 2


def test_all_together_train_resume_and_export(data: Path, tmp_path: Path) -> None:
    """The resumed run starts from a base without them."""
    given: dict[str, Any] = {"mask_share": 0.3, "merge_range": [0.5, 1.0], "voice_tokens": 3}
    tiny.train(tiny.arguments("quantizer25", tmp_path / "base", data, number_of_epochs=1))
    given["init_from"] = tmp_path / "base"
    for name, epochs in (("a", 1), ("a", 2), ("b", 2)):
        words = {"number_of_epochs": epochs, **given}
        tiny.train(tiny.arguments("quantizer25", tmp_path / name, data, **words))
    logs = [(tmp_path / name / "train_log.txt").read_text() for name in "ab"]
    assert logs[0] == logs[1] and "nan" not in logs[0]
    source = {"codec_input": {"source": tmp_path / "a", "share": 0.5}, "voice_tokens": 3}
    tiny.train(tiny.arguments("vocoder", tmp_path / "v", data, number_of_epochs=1, **source))
    codec = export(tmp_path / "a", tmp_path / "v", tmp_path / "codec")
    sig = torch.randn(1, 8000)
    toks, lengths = codec.encode(sig, 16000)
    voice = codec.encode_voice(sig, 16000)
    assert torch.isfinite(codec.decode(toks, lengths, voice=voice)).all()
    for norm in [*codec.decompressor.adaptive_norms, *codec.decoder.adaptive_norms]:
        assert norm.weight.any(), "it was trained"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_share": 1.0}, "mask_share=1.0: give a number from 0 .off. to below 1"),
        ({"merge_range": 0.7}, r"merge_range=0.7: give null .off. or \[lowest, highest\] cosine"),
        ({"merge_range": [0.9, 0.7]}, r"merge_range=\[0.9, 0.7\]: .* the lower one first"),
        ({"merge_range": [0.9, 1.7]}, "merge=1.7: give a cosine"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(changes: dict, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        brain_of(data, tmp_path, **changes)


def test_a_vector_without_a_source_is_refused(data: Path, tmp_path: Path) -> None:
    message = (
        "voice_tokens=3: the vector comes from the stage 1 that codec_input names, which has 0"
    )
    with pytest.raises(UserError, match=message):
        tiny.make_brain("vocoder", tmp_path, data, voice_tokens=3)
