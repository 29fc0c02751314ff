"""The joint training of the small encoder and stage 1: loss, inputs, targets, first weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import speechbrain as sb
import torch

from focalcodec.errors import UserError
from focalcodec.training.quantized_feats import quantized_feats
from focalcodec.training.run.trained import load_trained
from tests.recipes.demo import small
from tests.unit.training import tiny

OTHER_TEACHER = "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8, f_max: 4000.0}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    tiny.write_corpus(folder, **tiny.SECONDS)
    return folder


def test_noise_is_in_the_input_only_and_all_parts_learn(data, tmp_path) -> None:
    brain, *_ = small.make_brain("joint", tmp_path, data)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    noisy = replace(batch, sig=batch.sig + 0.1 * torch.randn_like(batch.sig))
    out = brain.compute_forward(replace(batch, mixture=noisy), sb.Stage.TRAIN)
    clean = brain.compute_forward(batch, sb.Stage.TRAIN)
    assert torch.equal(out.targets, clean.targets) and not torch.equal(out.feats, clean.feats)
    torch.testing.assert_close(out.targets, brain.encode(batch)[0][:, : out.targets.shape[1]])
    loss = brain.compute_objectives(out, batch, sb.Stage.TRAIN)
    loss.backward()
    for name in ("student", "compressor", "decompressor"):
        assert all(p.grad is not None for p in brain.modules[name].parameters()), name
    figures = brain.meters.averages()
    entropy = figures["sample_entropy"] - brain.hparams.gamma * figures["codebook_entropy"]
    expected = figures["feature_loss"] + 0.3 * figures["encoder_loss"] + 0.1 * entropy
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_it_begins_with_the_weights_of_its_source(data, tmp_path) -> None:
    small.train("joint", tmp_path / "first", data)
    more = {"quantizer_source": tmp_path / "first", "number_of_epochs": 1, "lr": 0.0}
    small.train("joint", tmp_path / "second", data, **more, weight_decay=0.0)
    first, second = (load_trained(tmp_path / name) for name in ("first", "second"))
    for name in ("student", "compressor", "decompressor"):
        theirs = first.part(name).state_dict()
        for key, value in second.part(name).state_dict().items():
            assert torch.equal(value, theirs[key]), (name, key)
    alone = {"quantizer_source": None, "distilled": tmp_path / "first", "downscale_factors": [1, 2]}
    small.train("joint", tmp_path / "half", data, **{**more, **alone, "upscale_factors": [2, 1]})
    half, theirs = (load_trained(tmp_path / name).part("student") for name in ("half", "first"))
    for value, other in zip(half.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, other)
    with pytest.raises(UserError, match="quantizer_source, distilled: give one of them"):
        small.train("joint", tmp_path / "third", data, **{**more, "distilled": tmp_path / "first"})
    with pytest.raises(UserError, match="quantizer_source=.*: trained on another encoder"):
        small.train("joint", tmp_path / "third", data, **{**more, "encoder": OTHER_TEACHER})


def test_its_quantised_feats_are_those_of_its_own_encoder(data, tmp_path) -> None:
    """Stage 2 can have a joint run as `codec_input`; the run's encoder is the teacher."""
    run = small.train("joint", tmp_path / "run", data)
    source = quantized_feats(run)
    trained = load_trained(run)
    sig = 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        feats, frames = trained.part("student").run(sig)
        lats, _ = trained.part("compressor")(feats, lengths=frames)
        codes = trained.part("quantizer").lats_to_codes(lats)
        qfeats, _ = trained.part("decompressor")(codes, lengths=frames)
    torch.testing.assert_close(source.run(sig)[0], qfeats)
    brain, *_ = small.make_brain(
        "vocoder", tmp_path / "vocoder", data, codec_input={"source": str(run), "share": 1.0}
    )
    batch = tiny.batch_of(tiny.clips(data, "train"))
    mixed, frames, _ = brain.decoder_input(batch, sb.Stage.VALID)
    torch.testing.assert_close(mixed, source.run(batch.sig, batch.lengths)[0])
