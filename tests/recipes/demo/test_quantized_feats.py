"""The decoder tuned on quantised feats, and stage 1 with a mel loss through the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from torch import nn

from focalcodec import FocalCodec
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.training.quantized_feats import quantized_feats
from focalcodec.training.run.export import export
from focalcodec.training.run.start import check_replacement
from focalcodec.training.run.trained import TrainedParts, describe_encoder, load_trained
from tests.recipes.demo import small
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each stage, and of a decoder tuned on the quantizer's feats."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in ("quantizer", "vocoder"):
        small.train(stage, folder / stage, data)
    sources = {"quantized": folder / "quantizer", "init_from": folder / "vocoder"}
    small.train("tuned", folder / "tuned", data, **sources, feature_cache=folder / "cache")
    return {name: folder / name for name in ("quantizer", "vocoder", "tuned")}


# -- quantised feats as an encoder -----------------------------------------------------------------


def test_output_equals_the_input_of_the_codecs_decoder(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    codec = export(runs["quantizer"], runs["vocoder"], tmp_path / "codec")
    sig, lengths = torch.randn(2, 4000), torch.tensor([4000, 3210])
    with torch.no_grad():
        expected = codec.sig_to_qfeats(sig, lengths=lengths)
    for source in (runs["quantizer"], tmp_path / "codec"):
        qfeats, frames = quantized_feats(source).run(sig, lengths)
        torch.testing.assert_close(qfeats, expected)
        assert frames.tolist() == codec.encoder.output_lengths(lengths).tolist()


def test_a_tuned_decoder_makes_a_codec_with_its_quantizer(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    codec = export(runs["quantizer"], runs["tuned"], tmp_path / "codec")
    assert isinstance(codec.encoder, LogMel)
    again = FocalCodec.from_pretrained(tmp_path / "codec")
    tuned = load_trained(runs["tuned"], parts=["decoder"]).part("decoder").state_dict()
    plain = load_trained(runs["vocoder"], parts=["decoder"]).part("decoder").state_dict()
    for name, weight in again.decoder.state_dict().items():
        torch.testing.assert_close(weight, tuned[name])
    assert any(not tuned[name].equal(plain[name]) for name in tuned)


def test_the_source_may_be_tuned_further(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    small.train("vocoder", tmp_path / "more", data, init_from=runs["tuned"])
    more, tuned = (load_trained(run, parts=[]) for run in (tmp_path / "more", runs["tuned"]))
    assert more.trained_on == tuned.trained_on


# -- which encoder may replace another --------------------------------------------------------


def trained_on(encoder: nn.Module) -> TrainedParts:
    return TrainedParts("old", {}, lambda: encoder)


def encoder_of(**marks: Any) -> nn.Module:
    made = LogMel(n_mels=8)
    for name, value in marks.items():
        setattr(made, name, value)
    return made


def test_a_distilled_encoder_replaces_its_teacher() -> None:
    teacher = LogMel(n_mels=4)
    student = encoder_of(teacher=describe_encoder(teacher))
    check_replacement(trained_on(teacher), student)
    check_replacement(trained_on(teacher), encoder_of(clean=student))
    check_replacement(trained_on(student), encoder_of(clean=student))


@pytest.mark.parametrize("marks", [{}, {"teacher": describe_encoder(LogMel(n_mels=5))}])
def test_other_encoders_do_not_replace_it(marks: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="init_from=old: trained on another encoder"):
        check_replacement(trained_on(LogMel(n_mels=4)), encoder_of(**marks))


# -- the mel loss through the decompressor ---------------------------------------------------------


def mel_brain(runs: dict[str, Path], data: Path, folder: Path) -> Any:
    knobs = {"decoder_source": runs["vocoder"], "mel_weight": 1.0, "mel_crop_frames": 10}
    brain, *_ = small.make_brain("mel", folder, data, **knobs)
    brain.modules.train()
    return brain


def losses(brain: Any, batch: Any) -> tuple[float, torch.Tensor]:
    brain.modules.zero_grad()
    outputs = brain.compute_forward(batch, sb.Stage.TRAIN)
    loss = brain.compute_objectives(outputs, batch, sb.Stage.TRAIN)
    loss.backward()
    grads = [p.grad.flatten() for p in brain.modules.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(grads)


def test_mel_loss_reaches_the_compressor_and_leaves_the_decoder(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    batch = tiny.batch_of(tiny.clips(data, "train"))
    brain = mel_brain(runs, data, tmp_path)
    loss, grads = losses(brain, batch)
    mel = brain.meters.averages()["mel_loss"]
    brain.hparams.mel_weight = 0.0
    without, other = losses(brain, batch)
    assert loss == pytest.approx(without + mel, rel=1e-5)
    assert not torch.allclose(grads, other)
    assert all(parameter.grad is None for parameter in brain.decoder.parameters())


def test_mel_loss_does_not_depend_on_padding(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    brain = mel_brain(runs, data, tmp_path)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    longer = torch.nn.functional.pad(batch.sig, (0, 5000), value=0.5)
    padded = type(batch)(**{**vars(batch), "sig": longer})
    assert losses(brain, batch)[0] == pytest.approx(losses(brain, padded)[0], rel=1e-4)


def test_mel_loss_without_a_decoder_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mel_weight=0\.5: needs a decoder; name"):
        small.train("mel", tmp_path / "run", data, decoder_source=None)


def test_refuses_crops_longer_than_the_shortest_clip(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    knobs = {"mel_crop_frames": 26, "decoder_source": runs["vocoder"]}
    with pytest.raises(UserError, match=r"mel_crop_frames=26: .* have 25; raise min_seconds"):
        small.train("mel", tmp_path / "run", data, **knobs)


def test_mel_loss_works_with_cached_feats(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    knobs = {
        "decoder_source": runs["vocoder"],
        "feature_cache": tmp_path / "cache",
        "number_of_epochs": 2,
    }
    small.train("mel", tmp_path / "run", data, **knobs)
    assert "train mel_loss" in (tmp_path / "run" / "train_log.txt").read_text().splitlines()[1]
