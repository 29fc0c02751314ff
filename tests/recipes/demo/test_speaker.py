"""The speaker encoder, its training, and the decoder's loss with it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch

from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.training.run.export import load_decoder
from focalcodec.training.run.trained import load_run
from focalcodec.training.speaker import SpeakerEncoder, SpeakerLoss
from tests.recipes.demo import small
from tests.unit.training import tiny

pair_figures = small.module("ablations").pair_figures


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers in training, other two in validation, one in the test set."""
    folder = tmp_path_factory.mktemp("data") / "corpus"
    for split, speakers in {"train": (1, 2), "dev": (3, 4), "test": (5,)}.items():
        for speaker in speakers:
            write_voice(folder / split / str(speaker) / "1", speaker)
    return folder


def write_voice(chapter: Path, speaker: int) -> None:
    """Four clips of a buzz at the speaker's own pitch."""
    generator = np.random.default_rng(speaker)
    chapter.mkdir(parents=True)
    names = [f"{speaker}-1-{index:04}" for index in range(4)]
    for index, name in enumerate(names):
        time = np.arange(round((1.1 + 0.13 * index) * 16000)) / 16000
        buzz = np.sign(np.sin(2 * np.pi * (90 + 60 * (speaker % 2)) * time))
        sig = 0.1 * buzz + 0.02 * generator.standard_normal(len(time))
        soundfile.write(chapter / f"{name}.flac", sig.astype("float32"), 16000)
    (chapter / f"{speaker}-1.trans.txt").write_text("".join(f"{name} WORDS\n" for name in names))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained speaker encoder."""
    folder = tmp_path_factory.mktemp("runs") / "speaker"
    return small.train("speaker", folder, data)


def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    return SpeakerEncoder(embedding_dim=8, num_layers=2, dim=16, ffn_dim=16)


# -- the encoder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_clip_has_the_same_embedding_alone_and_in_any_batch(training: bool) -> None:
    speaker = encoder().train(training)
    sig, lengths = torch.randn(3, 9000), torch.tensor([9000, 4001, 1])
    sig[1, 4001:], sig[2, 1:] = float("nan"), 1e9
    together = speaker(sig, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = speaker(sig[item : item + 1, :length])
        torch.testing.assert_close(together[item : item + 1], alone, atol=1e-5, rtol=1e-4)


def test_embeddings_do_not_depend_on_the_level() -> None:
    speaker, sig = encoder().eval(), torch.randn(1, 16000)
    torch.testing.assert_close(speaker(0.1 * sig), speaker(sig), atol=1e-4, rtol=1e-3)


def test_embeddings_are_float32_at_any_precision() -> None:
    speaker, sig = encoder().eval(), torch.randn(2, 8000)
    with torch.autocast("cpu", torch.bfloat16):
        half = speaker(sig)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half, speaker(sig)).min() > 0.99


def test_size() -> None:
    assert sum(p.numel() for p in SpeakerEncoder().parameters()) < 600_000


# -- its training --------------------------------------------------------------------------------


def test_voices_are_learnt(data: Path, tmp_path: Path) -> None:
    small.train("speaker", tmp_path / "run", data, number_of_epochs=15)
    log = (tmp_path / "run" / "train_log.txt").read_text()
    losses = [float(loss) for loss in re.findall(r"train loss: ([0-9.e+-]+)", log)]
    assert len(losses) == 15 and losses[-1] < 0.5 * losses[0]


def test_a_resumed_run_equals_an_uninterrupted_one(data: Path, run: Path, tmp_path: Path) -> None:
    for epochs in (1, 2):
        small.train("speaker", tmp_path / "run", data, number_of_epochs=epochs)
    assert newest(tmp_path / "run").keys() == newest(run).keys()
    assert tiny.same(newest(tmp_path / "run"), newest(run))


def newest(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    checkpoint = max(folder.glob("save/CKPT*"), key=lambda path: path.stat().st_mtime)
    parts = {name: load_file(checkpoint / f"{name}.ckpt") for name in ("speaker", "classifier")}
    return {f"{part}.{name}": t for part, found in parts.items() for name, t in found.items()}


def test_crops_depend_on_clip_and_step_not_on_the_batch(data: Path, tmp_path: Path) -> None:
    brain, *_ = small.make_brain("speaker", tmp_path, data)
    brain.hparams.crop_seconds, brain.step = 1.2, 3
    rows = tiny.clips(data, "train")
    together, lengths = brain.crops(tiny.batch_of(rows))
    assert together.shape == (8, 19200) and lengths.min() == 17600  # 1.1 s, whole
    for index, row in enumerate(rows):
        alone, length = brain.crops(tiny.batch_of([row]))
        assert torch.equal(alone[0], together[index, : int(length)])
        assert not together[index, int(length) :].any()


def test_figures_do_not_depend_on_the_batch_size(data: Path, tmp_path: Path) -> None:
    brain, *_ = small.make_brain("speaker", tmp_path, data)
    rows, found = tiny.clips(data, "dev"), []
    for size in (1, 3, 8):
        brain.modules.eval()
        brain.on_stage_start(sb.Stage.VALID, 1)
        for first in range(0, len(rows), size):
            brain.evaluate_batch(tiny.batch_of(rows[first : first + size]), sb.Stage.VALID)
        found.append(brain.stage_stats(sb.Stage.VALID))
    for stats in found[1:]:
        assert stats == pytest.approx(found[0], abs=1e-5)
    assert found[0]["loss"] == found[0]["other_cosine"] - found[0]["same_cosine"]


def test_a_set_of_one_speaker_has_figures_too() -> None:
    one = [("ann", torch.tensor([1.0, 0.0])), ("ann", torch.tensor([0.0, 1.0]))]
    assert pair_figures(one) == {"same_cosine": 0.0, "other_cosine": 0.0, "loss": 0.0}
    assert pair_figures(one[:1])["loss"] == 0.0


def test_more_speakers_than_outputs_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_speakers=1: the training set has 2; give as many"):
        small.train("speaker", tmp_path / "run", data, max_speakers=1)


def test_one_speaker_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all training clips have '5'; two are needed"):
        small.train("speaker", tmp_path / "run", data, tr_splits=["test"])


# -- the loss ------------------------------------------------------------------------------------


def loss_of(speaker: SpeakerEncoder) -> SpeakerLoss:
    loss = SpeakerLoss("a run")
    loss.encoder = speaker
    return loss.requires_grad_(False).eval()


def loaded(source: Path | str) -> SpeakerLoss:
    loss = SpeakerLoss(source)
    loss.load(LogMel())
    return loss


def test_loss_is_one_minus_the_cosine_over_valid_samples() -> None:
    loss, lengths = loss_of(encoder()), torch.tensor([9000, 5000])
    sig, rec_sig = torch.randn(2, 9000), torch.randn(2, 9000).cumsum(dim=1) / 50
    found = loss.distances(rec_sig, sig, lengths)
    for item, length in enumerate(lengths.tolist()):
        parts = [x[item : item + 1, :length] for x in (rec_sig, sig)]
        a, b = (encoder().eval()(x) for x in parts)
        cosine = (a @ b.T).squeeze() / a.norm() / b.norm()
        torch.testing.assert_close(found[item], 1 - cosine, atol=1e-5, rtol=1e-4)
    assert loss.distances(sig, sig, lengths).abs().max() < 1e-6


def test_gradients_reach_only_the_generated_clip() -> None:
    loss = loss_of(encoder())
    sig, rec_sig = torch.randn(2, 2, 8000, requires_grad=True).unbind(0)
    sig.retain_grad(), rec_sig.retain_grad()
    loss.distances(rec_sig, sig).sum().backward()
    assert rec_sig.grad is not None and rec_sig.grad.abs().sum() > 0 and sig.grad is None
    assert all(p.grad is None for p in loss.parameters())


def test_source_must_be_a_speaker_encoders_run(data: Path, run: Path, tmp_path: Path) -> None:
    wanted = load_run(run)["modules"]["speaker"].state_dict()
    assert tiny.same(wanted, loaded(str(run)).encoder.state_dict())
    with pytest.raises(UserError, match=r"gone: no hyperparams\.yaml; name the folder"):
        loaded(tmp_path / "gone")


# -- stage 2 -------------------------------------------------------------------------------------


def test_with_weight_zero_the_decoder_learns_the_same(
    data: Path, run: Path, tmp_path: Path
) -> None:
    ends, same = [], {"crop_frames": 50, "min_seconds": 1.0, "batch_size": 2}
    for stage in ("vocoder", "voice"):
        changes = {"speaker_source": str(run), "speaker_weight": 0.0} if stage == "voice" else {}
        brain, *sets = small.make_brain(stage, tmp_path / stage, data, **same, **changes)
        tiny.fit(brain, *sets)
        ends.append(tiny.weights(brain))
    assert tiny.same(*ends)


def test_loss_has_its_part_and_its_meter(data: Path, run: Path, tmp_path: Path) -> None:
    changes = {"speaker_source": str(run), "speaker_weight": 3.0}
    brain, *sets = small.make_brain("voice", tmp_path, data, **changes)
    measure = brain.terms["speaker_loss"].measure
    before = {n: p.clone() for n, p in measure.named_parameters()}
    tiny.fit(brain, *sets)
    stats = brain.history[0]["train"]
    parts = 45.0 * stats["mel_loss"] + stats["adversarial_loss"] + 10.0 * stats["matching_loss"]
    assert stats["speaker_loss"] > 0 and brain.history[0]["valid"]["speaker_loss"] > 0
    assert stats["loss"] == pytest.approx(parts + 3.0 * stats["speaker_loss"], rel=1e-5)
    assert tiny.same(before, dict(measure.named_parameters()))
    assert not any(module.training for module in measure.modules())
    assert not any("speaker" in name for name in brain.modules)


def test_decoder_learns_from_the_speaker_loss(data: Path, run: Path, tmp_path: Path) -> None:
    changes = {"speaker_source": str(run), "mel_weight": 1e-9, "adversarial_start_step": None}
    brain, *_ = small.make_brain("voice", tmp_path, data, **changes)
    brain.modules.train()
    brain.step = 1
    ((name, loss),) = brain.turns(tiny.batch_of(tiny.clips(data, "train")))
    loss.backward()
    assert name == "generator"
    assert all(p.grad is not None and p.grad.any() for p in brain.modules.decoder.parameters())
    measure = brain.terms["speaker_loss"].measure
    assert all(p.grad is None for p in measure.parameters())


def test_short_crops_are_refused(data: Path, run: Path, tmp_path: Path) -> None:
    message = "crop_frames: crops of 15680 samples; a voice can't be recognised in less than 16000"
    with pytest.raises(UserError, match=message):
        small.train("voice", tmp_path, data, speaker_source=str(run), crop_frames=49)


def test_run_resumes_and_its_decoder_needs_no_speaker_encoder(
    data: Path, run: Path, tmp_path: Path
) -> None:
    voice = Path(shutil.copytree(run, tmp_path / "voice"))
    knobs = {"speaker_source": str(voice)}
    for epochs in (1, 2):
        small.train("voice", tmp_path / "run", data, **knobs, number_of_epochs=epochs)
    with pytest.raises(UserError, match="started with speaker_weight=9.0, now speaker_weight=0.5"):
        small.train("voice", tmp_path / "run", data, **knobs, speaker_weight=0.5)
    with pytest.raises(UserError, match="a run that trained no speaker encoder; give one of"):
        loaded(tmp_path / "run")
    shutil.rmtree(voice)
    load_decoder(tmp_path / "run", load_run(tmp_path / "run", parts=["decoder"])["encoder"]())
