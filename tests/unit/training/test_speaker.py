"""The speaker encoder, its training, and the loss of the decoder that listens to it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch

from focalcodec.errors import UserError
from focalcodec.training.config import load_config
from focalcodec.training.export import load_decoder
from focalcodec.training.speaker_brain import SpeakerBrain, pair_figures
from focalcodec.training.speaker_encoder import SpeakerEncoder
from focalcodec.training.speaker_loss import SpeakerLoss, load_speaker_loss
from focalcodec.training.trained_run import load_run
from tests.unit.training import tiny

SMALL = "{speaker: {num_layers: 1, dim: 16, ffn_dim: 16}}"
VOICE = {"crop_frames": 50, "min_seconds": 1.0}


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


def arguments(output: Path, data: Path, **changes: str | int) -> list[str]:
    knobs: dict[str, str | int | float] = {
        "number_of_epochs": 2,
        "tr_splits": "[train]",
        "dev_splits": "[dev]",
        "te_splits": "[test]",
        "batch_size": 4,
        "embedding_dim": 8,
        "max_speakers": 5,
        "modules": SMALL,
        "warmup_steps": 2,
        "total_steps": 100,
        "lr": 0.01,
    }
    places = [f"--output_folder={output}", f"--data_folder={data}"]
    options = [f"--{key}={value}" for key, value in (knobs | changes).items()]
    return ["hparams/speaker_encoder.yaml", *places, *options]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained speaker encoder."""
    folder = tmp_path_factory.mktemp("runs") / "speaker"
    tiny.train(arguments(folder, data))
    return folder


def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    return SpeakerEncoder(embedding_dim=8, num_layers=2, dim=16, ffn_dim=16)


def speaker_brain(data: Path, folder: Path) -> SpeakerBrain:
    changes = f"output_folder: {folder}\ndata_folder: {data}\nmodules: {SMALL}\nembedding_dim: 8"
    hparams = load_config(tiny.RECIPE / "hparams" / "speaker_encoder.yaml", changes)
    sampler = tiny.loader(tiny.clips(data, "train"), 2).batch_sampler
    return SpeakerBrain(
        encoder=hparams["encoder"](),
        monitor=tiny.QuietMonitor(folder),
        sampler=sampler,
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts={"noprogressbar": True},
    )


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


def test_loudness_is_no_trait_of_a_voice() -> None:
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
    tiny.train(arguments(tmp_path / "run", data, number_of_epochs=15))
    log = (tmp_path / "run" / "train_log.txt").read_text()
    losses = [float(loss) for loss in re.findall(r"train loss: ([0-9.e+-]+)", log)]
    assert len(losses) == 15 and losses[-1] < 0.5 * losses[0]


def test_a_run_taken_up_again_is_one_that_never_stopped(
    data: Path, run: Path, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        tiny.train(arguments(tmp_path / "run", data, number_of_epochs=epochs))
    assert newest(tmp_path / "run").keys() == newest(run).keys()
    assert tiny.same(newest(tmp_path / "run"), newest(run))


def newest(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    checkpoint = max(folder.glob("save/CKPT*"), key=lambda path: path.stat().st_mtime)
    parts = {name: load_file(checkpoint / f"{name}.ckpt") for name in ("speaker", "classifier")}
    return {f"{part}.{name}": t for part, found in parts.items() for name, t in found.items()}


def test_crops_depend_on_clip_and_step_not_on_the_batch(data: Path, tmp_path: Path) -> None:
    brain = speaker_brain(data, tmp_path)
    brain.hparams.crop_seconds, brain.step = 1.2, 3
    rows = tiny.clips(data, "train")
    together, lengths = brain.crops(tiny.batch_of(rows))
    assert together.shape == (8, 19200) and lengths.min() == 17600  # 1.1 s, whole
    for index, row in enumerate(rows):
        alone, length = brain.crops(tiny.batch_of([row]))
        assert torch.equal(alone[0], together[index, : int(length)])
        assert not together[index, int(length) :].any()


def test_figures_do_not_depend_on_the_batch_size(data: Path, tmp_path: Path) -> None:
    brain = speaker_brain(data, tmp_path)
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


def test_more_speakers_than_places_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_speakers=1: the training set has 2; give as many"):
        tiny.train(arguments(tmp_path / "run", data, max_speakers=1))


def test_one_speaker_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all training clips have '5'; two are needed"):
        tiny.train(arguments(tmp_path / "run", data, tr_splits="[test]"))


# -- the loss ------------------------------------------------------------------------------------


def test_loss_is_one_minus_the_cosine_over_valid_samples() -> None:
    loss, lengths = SpeakerLoss(encoder()), torch.tensor([9000, 5000])
    sig, rec_sig = torch.randn(2, 9000), torch.randn(2, 9000).cumsum(dim=1) / 50
    found = loss(rec_sig, sig, lengths)
    for item, length in enumerate(lengths.tolist()):
        parts = [x[item : item + 1, :length] for x in (rec_sig, sig)]
        a, b = (encoder().eval()(x) for x in parts)
        cosine = (a @ b.T).squeeze() / a.norm() / b.norm()
        torch.testing.assert_close(found[item], 1 - cosine, atol=1e-5, rtol=1e-4)
    assert loss(sig, sig, lengths).abs().max() < 1e-6


def test_gradients_reach_what_was_generated_alone() -> None:
    loss = SpeakerLoss(encoder()).train()
    assert not any(module.training for module in loss.modules())
    sig, rec_sig = torch.randn(2, 2, 8000, requires_grad=True).unbind(0)
    sig.retain_grad(), rec_sig.retain_grad()
    loss(rec_sig, sig).sum().backward()
    assert rec_sig.grad is not None and rec_sig.grad.abs().sum() > 0 and sig.grad is None
    assert all(p.grad is None for p in loss.parameters())


def test_source_must_be_a_speaker_encoders_run(data: Path, run: Path, tmp_path: Path) -> None:
    wanted = load_run(run)["modules"]["speaker"].state_dict()
    assert tiny.same(wanted, load_speaker_loss(str(run)).encoder.state_dict())
    with pytest.raises(UserError, match=r"gone: no hyperparams\.yaml; name the folder"):
        load_speaker_loss(tmp_path / "gone")


# -- stage 2 -------------------------------------------------------------------------------------


def test_weight_zero_is_the_training_that_was(data: Path, run: Path, tmp_path: Path) -> None:
    histories, ends = [], []
    for index, changes in enumerate(({}, {"speaker_source": str(run)})):
        brain, *sets = tiny.make_brain("vocoder", tmp_path / str(index), data, **changes)
        assert brain.speaker_loss is None
        tiny.fit(brain, *sets)
        histories.append(brain.history)
        ends.append(tiny.weights(brain))
    assert histories[0] == histories[1] and tiny.same(*ends)
    assert "speaker_loss" not in histories[0][0]["train"]


def test_loss_has_its_part_and_its_meter(data: Path, run: Path, tmp_path: Path) -> None:
    changes = {"speaker_source": str(run), "speaker_weight": 3.0, "number_of_epochs": 1, **VOICE}
    brain, *sets = tiny.make_brain("vocoder", tmp_path, data, **changes)
    before = {n: p.clone() for n, p in brain.speaker_loss.named_parameters()}
    tiny.fit(brain, *sets)
    stats = brain.history[0]["train"]
    parts = 45.0 * stats["mel_loss"] + stats["adversarial_loss"] + 54.0 * stats["matching_loss"]
    assert stats["speaker_loss"] > 0 and brain.history[0]["valid"]["speaker_loss"] > 0
    assert stats["loss"] == pytest.approx(parts + 3.0 * stats["speaker_loss"], rel=1e-5)
    assert tiny.same(before, dict(brain.speaker_loss.named_parameters()))
    assert not any("speaker" in name for name in brain.modules)


def test_decoder_learns_from_the_voice(data: Path, run: Path, tmp_path: Path) -> None:
    changes = {"speaker_source": str(run), "speaker_weight": 1.0, "mel_weight": 0.0, **VOICE}
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data, **changes, adversarial_start_step=99)
    brain.modules.train()
    brain.step = 1
    ((name, loss),) = brain.turns(tiny.batch_of(tiny.clips(data, "train")))
    loss.backward()
    assert name == "generator"
    assert all(p.grad is not None and p.grad.any() for p in brain.modules.decoder.parameters())
    assert all(p.grad is None for p in brain.speaker_loss.parameters())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"speaker_source": None}, "speaker_weight=1.0: needs a speaker encoder; name a run"),
        ({"crop_frames": 49}, "crop_frames=49: too short to tell a voice.* give 50 or more"),
    ],
    ids=str,
)
def test_what_can_not_be_heard_is_refused(data, run, tmp_path, changes, told) -> None:
    knobs = {"speaker_source": str(run), "speaker_weight": 1.0, **VOICE, **changes}
    with pytest.raises(UserError, match=told):
        tiny.make_brain("vocoder", tmp_path, data, **knobs)


def test_run_resumes_and_its_decoder_needs_no_speaker_encoder(
    data: Path, run: Path, tmp_path: Path
) -> None:
    voice = Path(shutil.copytree(run, tmp_path / "voice"))
    knobs = {"speaker_source": str(voice), "speaker_weight": 1.0, **VOICE}
    for epochs in (1, 2):
        tiny.train(
            tiny.arguments("vocoder", tmp_path / "run", data, **knobs, number_of_epochs=epochs)
        )
    with pytest.raises(UserError, match="started with speaker_weight=1.0, now speaker_weight=0.5"):
        tiny.train(
            tiny.arguments("vocoder", tmp_path / "run", data, **{**knobs, "speaker_weight": 0.5})
        )
    with pytest.raises(UserError, match="a run that trained decoder, discriminator; give one of"):
        load_speaker_loss(tmp_path / "run")
    shutil.rmtree(voice)
    load_decoder(tmp_path / "run", load_run(tmp_path / "run")["encoder"]())
