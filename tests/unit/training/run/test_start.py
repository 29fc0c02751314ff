"""Fine-tuning begins with a codec's weights, keeps frozen parts, and writes a whole codec."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.training.discriminators import Discriminators
from focalcodec.training.run.start import freeze, initialise
from focalcodec.training.run.trained import TrainedParts, gives_feats_of, load_trained
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from tests.unit.small_codecs import DATA, GOLDEN, golden_codec, golden_tensors
from tests.unit.training import tiny

ONE_EPOCH = {"number_of_epochs": 1}
LAST: dict[str, Any] = {"best_checkpoint": {}}


def parts(dims: tuple[int, ...] = (4, 4, 4)) -> dict[str, nn.Module]:
    """Parts of the size that `tiny` trains."""
    down = [1] * len(dims)
    return {
        "compressor": FocalEncoder(8, 4, dims, down, focal_window=7, focal_factor=2),
        "quantizer": BinarySphericalQuantizer(16),
        "decompressor": FocalDecoder(4, 8, dims, down, focal_window=7, focal_factor=2),
        "decoder": Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported codec."""
    torch.manual_seed(0)
    codec = FocalCodec(LogMel(n_mels=8), **parts())  # type: ignore[arg-type]
    for parameter in codec.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.2)
    folder = tmp_path_factory.mktemp("source") / "codec"
    codec.save_pretrained(folder)
    return folder


def fine_tune(stage: str, output: Path, data: Path, init_from: Path | str, **changes: Any) -> Path:
    """A fine-tuning run of one epoch, which is exported even if it is worse, by default."""
    changes = ONE_EPOCH | LAST | {"init_from": str(init_from)} | changes
    tiny.train(tiny.arguments(stage, output, data, **changes))
    return output


def tensors(folder: Path, part: str = "") -> dict[str, torch.Tensor]:
    found = load_file(folder / "model.safetensors")
    return {name: tensor for name, tensor in found.items() if name.startswith(part)}


# -- what a run begins with, and what it leaves ----------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_50hz", "tiny_50hz_v1", "tiny_12_5hz"])
def test_first_tokens_are_those_that_the_released_code_made(name: str) -> None:
    codec = golden_codec(name)
    modules: dict[str, Any] = {
        part: type(getattr(codec, part))(**getattr(codec, part).config)
        for part in ("compressor", "quantizer", "decompressor", "decoder")
    }
    source = load_trained(GOLDEN[name])
    initialise(modules, source, list(modules))
    expected = golden_tensors(name)
    with torch.no_grad():
        feats, frames = source.encoder.run(expected["sig"])
        lats, _ = modules["compressor"].eval()(feats, lengths=frames)
        assert torch.equal(modules["quantizer"].lats_to_toks(lats), expected["toks"])


def test_without_a_step_the_codec_is_the_source(source: Path, data: Path, tmp_path: Path) -> None:
    run = fine_tune("quantizer", tmp_path / "run", data, source, lr=0.0)
    before, after = tensors(source), tensors(run / "codec")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    results = json.loads((run / "results.json").read_text())
    assert results["test"].pop("epoch") == 1
    assert results["test before"] == results["test"], "and so are the figures"


@pytest.mark.parametrize("frozen", ["compressor", "decompressor"])
def test_only_what_is_not_frozen_changes(
    source: Path, data: Path, tmp_path: Path, frozen: str
) -> None:
    run = fine_tune("quantizer", tmp_path / "run", data, source, freeze=[frozen])
    codec = run / "codec"
    assert tiny.same(tensors(source, f"{frozen}."), tensors(codec, f"{frozen}."))
    (trained,) = {"compressor", "decompressor"} - {frozen}
    assert not tiny.same(tensors(source, f"{trained}."), tensors(codec, f"{trained}."))
    assert tiny.same(tensors(source, "decoder."), tensors(codec, "decoder."))
    if frozen == "compressor":
        sig = tiny.batch_of(tiny.clips(data, "dev")).sig
        before, after = FocalCodec.from_pretrained(source), FocalCodec.from_pretrained(codec)
        assert torch.equal(before.sig_to_toks(sig), after.sig_to_toks(sig)), "tokens keep meaning"


def test_vocoder_alone(
    source: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run = fine_tune("vocoder", tmp_path / "run", data, source)
    said = "has no discriminator; this run's begins with random weights"
    assert capfd.readouterr().out.count(said) == 1
    codec = run / "codec"
    for part in ("compressor", "decompressor"):
        assert tiny.same(tensors(source, f"{part}."), tensors(codec, f"{part}."))
    assert not tiny.same(tensors(source, "decoder."), tensors(codec, "decoder."))


def test_frozen_parts_of_a_part(source: Path, data: Path, tmp_path: Path) -> None:
    frozen = "decompressor.layers.0"
    run = fine_tune("quantizer", tmp_path / "run", data, source, freeze=[frozen])
    before, after = tensors(source, "decompressor."), tensors(run / "codec", "decompressor.")
    assert tiny.same(before, after, f"{frozen}.")
    assert not tiny.same(before, after, "decompressor.layers.1.")


def test_resumed_run_continues_from_its_checkpoint(
    source: Path, data: Path, tmp_path: Path
) -> None:
    whole = fine_tune("quantizer", tmp_path / "whole", data, source, number_of_epochs=2)
    for epochs in (1, 2):
        fine_tune("quantizer", tmp_path / "parts", data, source, number_of_epochs=epochs)
    assert tiny.same(tensors(whole / "codec"), tensors(tmp_path / "parts" / "codec"))
    figures = [
        json.loads((run / "results.json").read_text()) for run in (whole, tmp_path / "parts")
    ]
    assert figures[0] == figures[1], "the figures before too"


def test_a_fine_tuned_run_is_a_source_of_the_other_stage(
    source: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    first = fine_tune("quantizer", tmp_path / "first", data, "codec")
    monkeypatch.chdir(tmp_path)
    second = fine_tune("vocoder", tmp_path / "second", data, "first")
    codec = second / "codec"
    for part in ("compressor", "decompressor"):
        assert tiny.same(tensors(first / "codec", f"{part}."), tensors(codec, f"{part}."))
    assert not tiny.same(tensors(source, "decoder."), tensors(codec, "decoder."))
    third = load_trained(second)
    assert third.is_whole and "discriminator" in third.parts


def test_from_a_run_of_one_stage(data: Path, tmp_path: Path) -> None:
    tiny.train(tiny.arguments("quantizer", tmp_path / "first", data, **ONE_EPOCH))
    run = fine_tune("quantizer", tmp_path / "second", data, tmp_path / "first")
    assert not (run / "codec").exists(), "there is no decoder to make a codec with"
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("first", "second")]
    del results[0]["test"]["epoch"]
    assert results[1]["test before"] == results[0]["test"]
    with pytest.raises(UserError, match="first: trained no decoder; is it from the other stage"):
        fine_tune("vocoder", tmp_path / "third", data, tmp_path / "first")


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "codec: not a folder, nor the name of a hub repository"),
        ("empty", "neither an exported codec .no config.json. nor a run's folder"),
        ("nan", r"codec.*: compressor\.out_proj\.weight has NaN or infinite values"),
    ],
)
def test_no_source(source: Path, tmp_path: Path, made: str | None, reason: str) -> None:
    folder = tmp_path / "codec"
    if made == "empty":
        folder.mkdir()
    elif made == "nan":
        shutil.copytree(source, folder)
        broken = tensors(source)
        broken["compressor.out_proj.weight"][0, 0] = torch.nan
        save_file(broken, folder / "model.safetensors")
    with pytest.raises(UserError, match=reason) as error:
        load_trained(folder)
    assert "\n" not in str(error.value)


def test_the_architecture_is_that_of_the_source(data: Path, tmp_path: Path) -> None:
    """No size is given by hand: fewer levels, another token rate and another decoder."""
    torch.manual_seed(0)
    made: dict[str, Any] = {
        "compressor": FocalEncoder(6, 3, [5, 4], [2, 1], focal_window=5),
        "quantizer": BinarySphericalQuantizer(8),
        "decompressor": FocalDecoder(3, 6, [4, 7], [1, 2], focal_window=5),
        "decoder": WaveNeXt(6, 1, 8, 8, hop_length=320, sample_rate=16000),
    }
    FocalCodec(LogMel(n_mels=6), **made).save_pretrained(tmp_path / "codec")
    for stage, changed in (("quantizer", ["compressor", "decompressor"]), ("vocoder", ["decoder"])):
        out = tmp_path / stage
        # Without the sizes that `tiny` gives on the command line.
        sizes = ("--feature_dim", "--hidden_dims", "--reversed_hidden_dims", "--code_dim")
        options = ONE_EPOCH | LAST | {"init_from": str(tmp_path / "codec")}
        words = tiny.arguments(stage, out, data, **options)
        words = [word for word in words if not word.startswith((*sizes, "--modules"))]
        tiny.train(words)
        before, after = (tensors(folder) for folder in (tmp_path / "codec", out / "codec"))
        assert before.keys() == after.keys()
        for name in changed:
            assert not tiny.same(tensors(tmp_path / "codec", name), tensors(out / "codec", name))
        yaml = (out / "hyperparams.yaml").read_text()
        assert "architecture of init_from" in yaml
        tree = tiny.read_yaml(out / "hyperparams.yaml")
        assert stage == "vocoder" or tree["hidden_dims"] == [5, 4]
        assert stage == "quantizer" or "!new:focalcodec.wavenext.WaveNeXt" in yaml
        tiny.train(words)  # the same command resumes it


def test_a_decoder_of_longer_frames_is_refused(data: Path, tmp_path: Path) -> None:
    made = parts() | {"decoder": WaveNeXt(8, num_layers=1, dim=8, ffn_dim=8, sample_rate=16000)}
    FocalCodec(LogMel(n_mels=8), **made).save_pretrained(tmp_path / "codec")  # type: ignore[arg-type]
    options = ONE_EPOCH | {"init_from": str(tmp_path / "codec")}
    words = tiny.arguments("vocoder", tmp_path / "run", data, **options)
    words = [word for word in words if not word.startswith("--modules")]
    with pytest.raises(
        UserError, match="decoder: 480 samples a frame at 16000 Hz, the encoder 320 .* equally long"
    ):
        tiny.train(words)


def test_the_weights_before_can_be_the_best(
    source: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = {"best_checkpoint": {"min_key": "loss"}, "number_of_epochs": 2, "lr": 50.0}
    run = fine_tune("quantizer", tmp_path / "run", data, source, **options)
    before, after = tensors(source), tensors(run / "codec")
    assert all(torch.equal(before[name], after[name]) for name in before), "not the worse epochs"
    said = capfd.readouterr()
    assert "worse than before" in said.err + said.out
    assert "tested: the weights before fine-tuning" in said.err + said.out
    assert "codec: the whole codec, with the weights before fine-tuning" in said.out
    results = json.loads((run / "results.json").read_text())
    assert results["test"].pop("epoch") == 0 and results["test"] == results["test before"]


def test_options_against_the_sources_architecture_are_named(
    source: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"compressor\.hidden_dims is \[4, 4, 4\], here ") as error:
        fine_tune("quantizer", tmp_path / "run", data, source, hidden_dims=[6, 5, 4])
    assert "leave out the options that change it" in str(error.value)


def test_other_kinds_of_parts_are_refused() -> None:
    theirs = TrainedParts("old", {"decoder": WaveNeXt(8, num_layers=1, dim=8, ffn_dim=8)}, LogMel)
    with pytest.raises(UserError, match="its decoder is WaveNeXt, this YAML's is Vocos"):
        initialise(parts(), theirs, ["decoder"])
    theirs = TrainedParts("old", {"adapter": nn.Linear(2, 3)}, LogMel)
    with pytest.raises(UserError, match=r"adapter\.\S+ is \(3,\), here \(4,\)"):
        initialise({"adapter": nn.Linear(2, 4)}, theirs, ["adapter"])


def test_other_discriminators_begin_with_random_weights(
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = TrainedParts("old", {"discriminator": Discriminators(32)}, LogMel)
    ours = Discriminators(32, periods=[2], num_scales=0)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    initialise({"discriminator": ours}, theirs, ["discriminator"])
    assert "its discriminator is built otherwise; this run's begins with random" in caplog.text
    assert tiny.same(before, ours.state_dict())


def test_nothing_is_copied_where_one_part_is_refused() -> None:
    ours = parts()
    before = {name: tensor.clone() for name, tensor in ours["compressor"].state_dict().items()}
    theirs = parts() | {"decompressor": parts((5, 5, 5))["decompressor"]}
    with pytest.raises(UserError, match="decompressor.hidden_dims is"):
        initialise(ours, TrainedParts("old", theirs, LogMel), list(ours))
    assert tiny.same(before, ours["compressor"].state_dict())


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["decompresor"], "no module 'decompresor'; did you mean 'decompressor'"),
        (["decompressor.layer.0"], "did you mean 'decompressor.layers.0'"),
        (["compressor", "decompressor", "decoder"], "nothing is left to train; leave one out"),
        ("compressor", r"freeze=compressor: not a list; write \[compressor\]"),
    ],
)
def test_freeze_refuses(names: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        freeze(parts(), names)


def distilled(encoder: LogMel, teacher: dict[str, Any]) -> LogMel:
    encoder.teacher = teacher
    return encoder


def test_encoders_of_early_runs_are_recognised() -> None:
    """Early runs stored another hash; a student's teacher may be described by either rule."""
    early = json.loads((DATA / "stored_early" / "encoder.json").read_text(encoding="utf-8"))
    encoder, other = golden_codec("tiny_50hz").encoder, golden_codec("tiny_12_5hz").encoder
    now = describe_encoder(encoder)
    assert early["sha256"] != now["sha256"]
    student = LogMel(n_mels=4)
    for trained_on in (early, now):
        source = TrainedParts("old", {}, lambda: encoder, trained_on)
        assert source.encoder is encoder
        assert gives_feats_of(encoder, source) and not gives_feats_of(other, source)
        for teacher in (early, now):
            student.teacher = teacher
            assert gives_feats_of(student, source)
        sibling = TrainedParts("sibling", {}, lambda: distilled(LogMel(n_mels=8), now))
        assert gives_feats_of(student, sibling), "another student of the same teacher"
        student.teacher = describe_encoder(other)
        assert not gives_feats_of(student, source) and not gives_feats_of(student, sibling)
    with pytest.raises(UserError, match="trained on another encoder"):
        _ = TrainedParts("old", {}, lambda: other, early).encoder
