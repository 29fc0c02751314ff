"""Two runs become one folder for `FocalCodec.from_pretrained`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from ruamel.yaml.tag import Tag
from safetensors.torch import load_file

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.training.run.export import export, load_decoder
from focalcodec.training.run.trained import load_run
from tests.unit.small_codecs import GOLDEN
from tests.unit.training import tiny

KNOBS = {"number_of_epochs": 1, "sample_interval_epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each stage."""
    folder = tmp_path_factory.mktemp("runs")
    tiny.train(tiny.arguments("vocoder", folder / "vocoder", data, **KNOBS))
    heard = {"decoder_source": str(folder / "vocoder"), "sample_clips": 1, **KNOBS}
    tiny.train(tiny.arguments("quantizer12", folder / "quantizer12", data, **heard), pictures=True)
    return {"quantizer": folder / "quantizer12", "vocoder": folder / "vocoder"}


@pytest.fixture
def copies(runs: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Runs that a test may damage."""
    return {name: Path(shutil.copytree(run, tmp_path / name)) for name, run in runs.items()}


def test_codec_gives_what_the_runs_modules_give(data, runs, tmp_path, capsys) -> None:
    assert (
        main(["export", str(runs["quantizer"]), str(runs["vocoder"]), str(tmp_path / "codec")]) == 0
    )
    assert "12.5 Hz, 0.05 kbit/s" in capsys.readouterr().out
    codec = FocalCodec.from_pretrained(tmp_path / "codec")
    hparams = load_run(runs["quantizer"])
    decoder = load_run(runs["vocoder"])["modules"]["decoder"].eval()
    (checkpoint,) = runs["quantizer"].glob("save/CKPT*")
    stored = load_file(checkpoint / "compressor.ckpt")
    assert all(torch.equal(stored[n], t) for n, t in codec.compressor.state_dict().items())
    batch = tiny.batch_of(tiny.clips(data, "dev"))
    modules = hparams["modules"]
    with torch.no_grad():
        feats, frames = hparams["encoder"]()(batch.sig, lengths=batch.lengths)
        lats, lat_frames = modules["compressor"].eval()(feats, lengths=frames)
        toks, codes = modules["quantizer"](lats, lengths=lat_frames)
        qfeats, _ = modules["decompressor"].eval()(codes, lengths=lat_frames)
        sig, *_ = decoder(qfeats)
    assert torch.equal(codec.sig_to_toks(batch.sig, lengths=batch.lengths), toks)
    assert len(toks.unique()) > 1
    whole = torch.full((2,), qfeats.shape[1])
    assert torch.allclose(codec.feats_to_sig(qfeats, lengths=whole), sig, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "codec").iterdir()) == [
        "README.md",
        "config.json",
        "model.json",
        "model.safetensors",
        "modeling_focalcodec.py",
        "preprocessor_config.json",
    ]


def test_runs_on_different_encoders_are_refused(copies, tmp_path) -> None:
    description = copies["vocoder"] / "encoder.json"
    other = json.loads(description.read_text())
    other["config"]["f_max"] = 4000.0
    description.write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"vocoder: trained on another encoder \(config"):
        export(copies["quantizer"], copies["vocoder"], tmp_path / "codec")
    with pytest.raises(UserError, match="trained on another encoder"):
        load_decoder(copies["vocoder"], load_run(copies["quantizer"])["encoder"]())
    assert not (tmp_path / "codec").exists()


def test_a_codec_is_replaced_only_with_overwrite(tmp_path, capsys) -> None:
    words = ["export", "demo", "demo", str(tmp_path / "codec")]
    assert main(words) == 0
    stored = (tmp_path / "codec" / "model.safetensors").stat()
    capsys.readouterr()
    assert main([*words, "--dtype", "float16"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "codec: has config.json already; give --overwrite to replace it" in line
    assert (tmp_path / "codec" / "model.safetensors").stat() == stored
    assert main([*words, "--dtype", "float16", "--overwrite"]) == 0
    (tmp_path / "codec" / "hyperparams.yaml").touch()
    assert main([*words, "--overwrite"]) == 2
    assert "the folder of a run; name a new folder" in capsys.readouterr().err


def test_wrong_stage_is_refused(runs, tmp_path) -> None:
    with pytest.raises(UserError, match="trained no compressor; is it from the other stage"):
        export(runs["vocoder"], runs["quantizer"], tmp_path / "codec")
    with pytest.raises(UserError, match="trained no decoder; is it from the other stage"):
        export(runs["quantizer"], runs["quantizer"], tmp_path / "codec")


def test_run_without_a_checkpoint_is_refused(copies, tmp_path) -> None:
    shutil.rmtree(copies["vocoder"] / "save")
    with pytest.raises(UserError, match=r"vocoder: no finished epoch in save/"):
        export(copies["quantizer"], copies["vocoder"], tmp_path / "codec")
    assert not (copies["vocoder"] / "save").exists()


def test_damaged_checkpoint_is_refused(copies, tmp_path) -> None:
    (weights,) = copies["vocoder"].glob("save/*/decoder.ckpt")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="none of its 1 checkpoints is complete"):
        export(copies["quantizer"], copies["vocoder"], tmp_path / "codec")


def test_folder_that_is_neither_run_nor_codec_is_refused(runs, tmp_path) -> None:
    with pytest.raises(UserError, match="gone: not a folder, nor the name of a hub"):
        export(runs["quantizer"], tmp_path / "gone", tmp_path / "codec")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"no config\.json. nor a run's folder .no hyperparams"):
        export(tmp_path / "other", runs["vocoder"], tmp_path / "codec")


def test_run_that_is_not_of_a_codec_is_refused(copies) -> None:
    yaml = copies["vocoder"] / "hyperparams.yaml"
    yaml.write_text(yaml.read_text().replace("modules:", "other:"))
    with pytest.raises(UserError, match=r"hyperparams\.yaml: no 'modules'; not a run that trains"):
        load_run(copies["vocoder"])


def test_incomplete_copy_is_refused(copies, tmp_path) -> None:
    (copies["quantizer"] / "encoder.json").unlink()
    with pytest.raises(UserError, match=r"no encoder\.json; was this run's folder copied in full"):
        export(copies["quantizer"], copies["vocoder"], tmp_path / "codec")


def test_decoder_of_a_run_or_of_a_codec(runs, tmp_path) -> None:
    export(runs["quantizer"], runs["vocoder"], tmp_path / "codec")
    encoder = load_run(runs["quantizer"])["encoder"]()
    of_run, of_codec = (load_decoder(p, encoder) for p in (runs["vocoder"], tmp_path / "codec"))
    for name, tensor in of_run.state_dict().items():
        assert torch.equal(tensor, of_codec.state_dict()[name])


def test_validation_clips_are_decoded(runs) -> None:
    names = {path.name for path in (runs["quantizer"] / "samples").iterdir()}
    assert {"1-2-0000_codec.wav", "1-2-0000_codec.png"} <= names
    assert (runs["quantizer"] / "curves.png").is_file()


def test_sources_may_be_codecs(runs, tmp_path) -> None:
    export(runs["quantizer"], runs["vocoder"], tmp_path / "codec")
    whole = load_file(tmp_path / "codec" / "model.safetensors")
    for first, second in [
        (runs["quantizer"], tmp_path / "codec"),
        (tmp_path / "codec", runs["vocoder"]),
        (tmp_path / "codec", tmp_path / "codec"),
    ]:
        export(first, second, tmp_path / "again")
        again = load_file(tmp_path / "again" / "model.safetensors")
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_export_in_float16(runs, tmp_path, capsys) -> None:
    sources, half = [str(runs["quantizer"]), str(runs["vocoder"])], tmp_path / "half"
    assert main(["export", *sources, str(half), "--dtype", "float16"]) == 0
    stored = load_file(half / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    written = export(*sources, tmp_path / "again", dtype="float16").state_dict()
    assert all(torch.equal(written[name], stored[name].float()) for name in written)
    whole = export(*sources, tmp_path / "whole").state_dict()
    assert all(torch.allclose(written[n], whole[n], rtol=1e-3, atol=1e-6) for n in whole)
    # its encoder is still that of the runs
    export(half, runs["vocoder"], tmp_path / "mixed")


def test_a_codec_made_for_another_encoder_is_refused(runs, tmp_path) -> None:
    with pytest.raises(UserError, match=r"tiny_50hz: trained on another encoder \(name WavLM"):
        export(runs["quantizer"], GOLDEN["tiny_50hz"], tmp_path / "codec")


def test_rounded_weights_are_the_same_encoder(tmp_path) -> None:
    """A hub's model and one made of it may differ by the rounding of a conversion."""
    codec = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    for factor, fits in ((1 + 1e-6, True), (1.5, False)):
        other = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
        with torch.no_grad():
            for parameter in other.encoder.parameters():
                parameter *= factor
        other.save_pretrained(tmp_path / "other")
        if fits:
            load_decoder(tmp_path / "other", codec.encoder)
        else:
            with pytest.raises(UserError, match=r"trained on another encoder \(sha256"):
                load_decoder(tmp_path / "other", codec.encoder)


def test_a_run_is_read_without_its_recipes_code(copies, tmp_path) -> None:
    for run in copies.values():
        tree = tiny.read_yaml(run / "hyperparams.yaml")
        assert str(tree["prepare"].tag.value).startswith("!name:librispeech_prepare.")
        tree["prepare"].yaml_set_ctag(Tag(suffix="!name:not_there.prepare"))
        tree["brain"].yaml_set_ctag(Tag(suffix="!name:not_there.Brain"))
        with open(run / "hyperparams.yaml", "w") as file:
            YAML().dump(tree, file)
    export(copies["quantizer"], copies["vocoder"], tmp_path / "codec")
    assert FocalCodec.from_pretrained(tmp_path / "codec").token_rate == 12.5
