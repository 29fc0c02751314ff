"""Stage 2 on feats after a codec's quantizer, and the loss through a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch

from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from focalcodec.training.encoder_loss import EncoderLoss
from focalcodec.training.quantized_feats import CodecInput, quantized_feats
from focalcodec.training.run.export import export
from tests.unit import small_encoders
from tests.unit.training import tiny

TERM = "!new:focalcodec.training.encoder_loss.EncoderLoss {source: null}"
LOSS = {"encoder_loss": {"weight": 3.0, "loss": TERM}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def stage_1(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage 1 at 25 Hz."""
    folder = tmp_path_factory.mktemp("stage_1") / "run"
    factors = {"downscale_factors": [2, 1, 1], "upscale_factors": [1, 1, 2]}
    tiny.train(tiny.arguments("quantizer25", folder, data, number_of_epochs=1, **factors))
    return folder


def brain_of(data: Path, folder: Path, source: Path, share: float = 0.5, **changes: Any) -> Any:
    given = {"source": source, "share": share}
    return tiny.make_brain("vocoder", folder, data, codec_input=given, **changes)[0]


def test_a_share_of_the_clips_has_the_input_of_the_codecs_decoder(data, stage_1, tmp_path) -> None:
    brain = brain_of(data, tmp_path, stage_1)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    clean, frames = brain.encode(batch)
    qfeats, _ = quantized_feats(stage_1).run(batch.sig, batch.lengths)
    seen = []
    for brain.step in range(1, 16):
        feats, ends, _ = brain.decoder_input(batch, sb.Stage.TRAIN)
        assert ends.tolist() == frames.tolist()
        for item in range(4):
            quantized = torch.allclose(feats[item], qfeats[item], atol=1e-5)
            assert quantized or torch.equal(feats[item], clean[item])
            seen.append(quantized)
    assert 0.25 < sum(seen) / len(seen) < 0.75
    feats, *_ = brain.decoder_input(batch, sb.Stage.VALID)
    torch.testing.assert_close(feats, qfeats, atol=1e-5, rtol=1e-4)


def test_the_choice_depends_on_the_clip_not_on_the_batch(data, stage_1, tmp_path) -> None:
    brain, rows = brain_of(data, tmp_path, stage_1), tiny.clips(data, "train")
    brain.step = 3
    together, frames, _ = brain.decoder_input(tiny.batch_of(rows), sb.Stage.TRAIN)
    for item, row in enumerate(rows):
        alone, *_ = brain.decoder_input(tiny.batch_of([row]), sb.Stage.TRAIN)
        torch.testing.assert_close(alone[0], together[item, : int(frames[item])])


def test_another_encoder_gets_the_clips_themselves(data, stage_1) -> None:
    """The source's encoder is a student, say; the run's is its teacher."""
    given = {"source": stage_1, "share": 1.0}
    student = CodecInput(given, LogMel(n_mels=8))
    assert student.same_encoder
    student.same_encoder = False
    batch = tiny.batch_of(tiny.clips(data, "train"))
    qfeats, _ = student.codec.run(batch.sig, batch.lengths)
    feats, frames = torch.zeros_like(qfeats), LogMel(n_mels=8).output_lengths(batch.lengths)
    torch.testing.assert_close(student.mix(feats, frames, batch, None)[0], qfeats)


def test_trains_resumes_and_exports(data, stage_1, tmp_path) -> None:
    """Also with the cache, the loss through the encoder, and spectrograms beside periods."""
    given = {"codec_input": {"source": stage_1, "share": 0.5}, "extra_losses": LOSS}
    name = "focalcodec.training.spectrogram_discriminators.SpectrogramDiscriminators"
    sizes = "windows: [64, 128], periods: [2], channel_divisor: !ref <discriminator_divisor>"
    discriminator = f"!new:{name} {{{sizes}}}"
    decoder = {"num_layers": 1, "dim": 8, "ffn_dim": 8}
    given["modules"] = {"decoder": decoder, "discriminator": discriminator}
    given["feature_cache"] = tmp_path / "cache"

    def train(name: str, epochs: int) -> None:
        knobs = {"number_of_epochs": epochs, **given}
        tiny.train(tiny.arguments("vocoder", tmp_path / name, data, **knobs))

    for epochs in (1, 2):
        train("a", epochs)
    train("b", 2)
    logs = [(tmp_path / name / "train_log.txt").read_text() for name in "ab"]
    assert logs[0] == logs[1] and "encoder_loss" in logs[0]
    codec = export(stage_1, tmp_path / "a", tmp_path / "codec")
    toks, lengths = codec.encode(torch.randn(1, 8000), 16000)
    assert torch.isfinite(codec.decode(toks, lengths)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "x"}, r"codec_input=\{'source': 'x'\}: give \{source: run or codec, share"),
        ({"source": "x", "share": 0}, "share=0; give a number above 0, up to 1"),
        ({"source": "x", "share": "all"}, "share='all'; give a number up to 1"),
        ({"source": "/gone", "share": 1.0}, "/gone"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CodecInput(given, LogMel(n_mels=8))


def test_other_feats_are_refused(stage_1: Path) -> None:
    with pytest.raises(UserError, match="dim is 8, the encoder's is 9; name a stage 1 for"):
        CodecInput({"source": stage_1, "share": 1.0}, LogMel(n_mels=9))


# -- the loss through the encoder ------------------------------------------------------------------


def speech_encoder(kind: str) -> SpeechEncoder:
    model = small_encoders.model_of(kind, "" if kind == "whisper" else "large")
    return SpeechEncoder(model.config.to_dict(), 1)


@pytest.mark.parametrize("kind", ["mel", "wavlm", "whisper"])
def test_gradients_pass_through_the_encoder_to_the_output(kind: str) -> None:
    encoder: Any = MelEncoder(8, num_layers=1, dim=8, ffn_dim=8)
    if kind != "mel":
        encoder = speech_encoder(kind)
    loss = EncoderLoss()
    loss.load(encoder.requires_grad_(False).eval())
    sig, rec_sig = torch.randn(2, 4000), torch.randn(2, 4000, requires_grad=True)
    lengths = torch.tensor([4000, 2500])
    distances = loss.distances(rec_sig, sig, lengths)
    distances.sum().backward()
    assert distances.shape == (2,) and rec_sig.grad is not None
    assert rec_sig.grad[0].any() and rec_sig.grad[1].any() and not rec_sig.grad[1, 2900:].any()
    assert all(p.grad is None for p in encoder.parameters())
    for item, length in enumerate(lengths.tolist()):  # the same alone and in a batch
        pair = (x.detach()[item : item + 1, :length] for x in (rec_sig, sig))
        alone = loss.distances(*pair, lengths[item : item + 1])
        torch.testing.assert_close(alone[0], distances[item].detach(), atol=1e-4, rtol=1e-3)


def test_whispers_spectra_with_gradients_are_its_own() -> None:
    encoder, sig = speech_encoder("whisper"), 0.1 * torch.randn(2, 6400)
    with torch.no_grad():
        plain = encoder._spectra(sig)
    torch.testing.assert_close(encoder._spectra(sig.requires_grad_()), plain, atol=1e-4, rtol=1e-4)


def test_the_encoder_loss_has_its_weight(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain("vocoder", tmp_path, data, extra_losses=LOSS, number_of_epochs=1)
    tiny.fit(brain, *sets)
    stats = brain.history[0]["train"]
    parts = 45.0 * stats["mel_loss"] + stats["adversarial_loss"] + 54.0 * stats["matching_loss"]
    assert stats["encoder_loss"] > 0
    assert stats["loss"] == pytest.approx(parts + 3.0 * stats["encoder_loss"], rel=1e-5)


def test_a_decoder_of_another_rate_has_no_losses_through_encoders(data, stage_1, tmp_path) -> None:
    sizes = "input_dim: 8, num_layers: 1, dim: 8, ffn_dim: 8, hop_length: 480, sample_rate: 24000"
    changes = {"modules": {"decoder": f"!new:focalcodec.vocos.Vocos {{{sizes}}}"}}
    with pytest.raises(UserError, match="encoder_loss: needs clips of 16000 Hz, the decoder"):
        tiny.make_brain("vocoder", tmp_path, data, extra_losses=LOSS, **changes)
    given = {"source": stage_1, "share": 1.0}
    with pytest.raises(UserError, match="another encoder than this run, .* clips of 24000 Hz"):
        CodecInput(given, LogMel(n_mels=8, floor=0.1), clip_rate=24000)
    assert CodecInput(given, LogMel(n_mels=8), clip_rate=24000).same_encoder
