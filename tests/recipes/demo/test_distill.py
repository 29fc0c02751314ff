"""Distillation: the loss, its inputs and targets, and the codec with the small encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.errors import UserError
from focalcodec.training.run.export import export
from focalcodec.training.run.trained import (
    describe_encoder,
    load_run,
    load_student,
    load_trained,
    read_encoder,
)
from tests.recipes.demo import small
from tests.unit.small_codecs import GOLDEN
from tests.unit.training import tiny

OTHER_TEACHER = "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8, f_max: 4000.0}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips; some have noisy partners with the same names, in a separate split."""
    folder = tmp_path_factory.mktemp("data") / "corpus"
    tiny.write_corpus(folder, **tiny.SECONDS)
    tiny.write_corpus(folder, **{"train-noisy": tiny.SECONDS["train"][:2]})
    for path in (folder / "train-noisy").rglob("*.flac"):
        sig, rate = soundfile.read(path, dtype="float32")
        noise = np.random.default_rng(1).standard_normal(len(sig)).astype("float32")
        soundfile.write(path, 0.5 * sig + 0.05 * noise, rate)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distillation; both stages on the teacher; then stage 1 on the student."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in ("distill", "quantizer", "vocoder"):
        small.train(stage, folder / stage, data)
    student = f"!name:focalcodec.training.run.trained.load_student {{source: {folder}/distill}}"
    changes = {"encoder": student, "init_from": folder / "quantizer", "replace_encoder": True}
    small.train("quantizer", folder / "small", data, **changes)
    return {name: folder / name for name in ("distill", "quantizer", "vocoder", "small")}


def noisy_batch(data: Path) -> tuple:
    batch = tiny.batch_of(tiny.clips(data, "train"))
    noise = torch.randn(batch.sig.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(batch.sig.shape[1]) < batch.lengths[:, None]
    noisy = batch.sig + 0.1 * noise * mask
    return replace(batch, mixture=replace(batch, sig=noisy)), batch.sig, noisy


# -- the loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [sb.Stage.TRAIN, sb.Stage.VALID])
def test_the_input_is_noisy_and_the_target_is_clean(data, tmp_path, stage) -> None:
    brain, *_ = small.make_brain("distill", tmp_path, data)
    batch, clean, noisy = noisy_batch(data)
    with torch.no_grad():
        outputs = brain.compute_forward(batch, stage)
        loss = brain.compute_objectives(outputs, batch, stage)
    student, teacher = brain.modules.student, LogMel(n_mels=8)
    total, count = 0.0, 0
    for own, target, samples in zip(noisy, clean, batch.lengths, strict=True):
        with torch.no_grad():
            ours, _ = student.run(own[None, :samples])
            theirs, _ = teacher.run(target[None, :samples])
        errors = (ours - theirs).square().mean(dim=-1)
        total, count = total + float(errors.sum()), count + errors.numel()
    assert float(loss) == pytest.approx(total / count, rel=1e-5)
    assert brain.meters.averages()["loss"] == pytest.approx(total / count, rel=1e-5)
    plain = brain.compute_forward(replace(batch, mixture=None), stage)
    assert torch.equal(plain.targets, outputs.targets)
    assert not torch.equal(plain.feats, outputs.feats)


def test_frames_that_one_of_both_lacks_are_left_out(data, tmp_path) -> None:
    class Fewer(LogMel):
        """A teacher with one frame less, as with strided convolutions."""

        def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
            feats, frames = super().run(sig, lengths)
            return feats[:, :-1], frames - 1

    brain, *_ = small.make_brain("distill", tmp_path, data)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    brain.encoder = Fewer(n_mels=8)
    outputs = brain.compute_forward(batch, sb.Stage.VALID)
    assert torch.equal(outputs.frames, LogMel(n_mels=8).output_lengths(batch.lengths) - 1)
    assert outputs.feats.shape == outputs.targets.shape == (4, int(outputs.frames.max()), 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_dim": 9}, "student: dim is 9, the encoder's is 8; make them equal"),
        (
            {"encoder": "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8, hop_length: 160}"},
            "student: hop is 320, the encoder's is 160; make them equal",
        ),
    ],
)
def test_encoders_that_do_not_fit_are_refused(data, tmp_path, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        small.make_brain("distill", tmp_path, data, **changes)


# -- runs ------------------------------------------------------------------------------------------


def test_a_run_uses_the_noisy_partners(runs, data, tmp_path) -> None:
    rows = (runs["distill"] / "manifests" / "train.csv").read_text()
    assert rows.count("train-noisy/1/2/") == 2, "two clips have a partner, two are their own"
    small.train("distill", tmp_path / "clean", data, prepare="{noisy: False}")
    with_noise, without = (
        load_student(run).state_dict() for run in (runs["distill"], tmp_path / "clean")
    )
    assert not all(torch.equal(with_noise[name], without[name]) for name in with_noise)


def test_a_resumed_run_ends_at_the_same_weights(data, tmp_path) -> None:
    small.train("distill", tmp_path / "whole", data, number_of_epochs=2)
    for epochs in (1, 2):
        small.train("distill", tmp_path / "parts", data, number_of_epochs=epochs)
    states = [load_student(tmp_path / name).state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    cached = {"number_of_epochs": 2, "feature_cache": str(tmp_path / "cache")}
    small.train("distill", tmp_path / "cached", data, **cached)
    third = load_student(tmp_path / "cached").state_dict()
    assert list((tmp_path / "cache").rglob("*"))
    for name, tensor in states[0].items():  # the cache keeps float16
        torch.testing.assert_close(third[name], tensor, atol=1e-3, rtol=0)


def test_pictures_show_both(data, tmp_path) -> None:
    small.train("distill", tmp_path / "run", data, pictures=True, sample_clips=1)
    assert list((tmp_path / "run" / "samples").rglob("*_feats*.png"))


# -- the student ----------------------------------------------------------------------------------


def test_student_of_a_run_and_of_a_codec(runs) -> None:
    student = load_student(runs["distill"])
    assert isinstance(student, MelEncoder) and not student.training
    assert student.teacher == read_encoder(runs["distill"]) == describe_encoder(LogMel(n_mels=8))
    assert student.dim == 8
    stored = load_run(runs["distill"])["modules"]["student"].state_dict()
    assert all(torch.equal(student.state_dict()[name], stored[name]) for name in stored)
    golden = load_student(GOLDEN["tiny_50hz"])
    expected = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"]).encoder
    assert describe_encoder(golden) == describe_encoder(expected)


def test_source_without_a_student_is_refused(runs, tmp_path) -> None:
    with pytest.raises(UserError, match=r"quantizer: a run that trained no student; give one"):
        load_student(runs["quantizer"])
    with pytest.raises(UserError, match="gone: not a folder"):
        load_student(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        load_student(tmp_path / "empty")


# -- the codec with the student --------------------------------------------------------------------


def test_the_student_replaces_the_teacher(runs, data, tmp_path) -> None:
    student = load_student(runs["distill"])
    trained_on = json.loads((runs["small"] / "encoder.json").read_text())
    assert trained_on == describe_encoder(student)
    source = load_trained(runs["small"])
    assert describe_encoder(source.encoder) == trained_on
    # stage 2 for the student: tuned on its quantised feats, from the teacher's decoder
    small.train(
        "tuned", tmp_path / "tuned", data, quantized=runs["small"], init_from=runs["vocoder"]
    )
    sources = (runs["small"], tmp_path / "tuned")
    codec = export(*sources, tmp_path / "codec", "float16")
    assert isinstance(codec.encoder, MelEncoder)
    toks, lengths = codec.encode(torch.randn(1, 16000), 16000)
    assert lengths.tolist() == [50]
    assert torch.isfinite(codec.decode(toks, lengths)).all()
    again = load_student(tmp_path / "codec")
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_student_of_another_teacher_is_refused(runs, data, tmp_path) -> None:
    small.train("distill", tmp_path / "other", data, encoder=OTHER_TEACHER)
    student = f"!name:focalcodec.training.run.trained.load_student {{source: {tmp_path}/other}}"
    options = {"encoder": student, "init_from": runs["quantizer"], "replace_encoder": True}
    with pytest.raises(UserError, match="replace_encoder: init_from=.*trained on another encoder"):
        small.train("quantizer", tmp_path / "run", data, **options)


def test_a_decoder_of_the_teacher_works_with_the_student(runs, tmp_path) -> None:
    codec = export(runs["small"], runs["vocoder"], tmp_path / "codec")
    stored = load_run(runs["vocoder"], parts=["decoder"])["modules"]["decoder"].state_dict()
    assert tiny.same(codec.decoder.state_dict(), stored)


def test_a_decoder_of_another_teacher_is_refused(runs, data, tmp_path) -> None:
    small.train("vocoder", tmp_path / "other", data, encoder=OTHER_TEACHER)
    with pytest.raises(UserError, match="other: trained on another encoder"):
        export(runs["small"], tmp_path / "other", tmp_path / "codec")


def test_a_decoder_of_the_student_does_not_work_with_the_teacher(runs, data, tmp_path) -> None:
    student = f"!name:focalcodec.training.run.trained.load_student {{source: {runs['distill']}}}"
    small.train("vocoder", tmp_path / "own", data, encoder=student)
    with pytest.raises(UserError, match="own: trained on another encoder"):
        export(runs["quantizer"], tmp_path / "own", tmp_path / "codec")
