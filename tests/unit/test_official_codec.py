"""FocalCodec for programs of the official package: names, files, parts that are missing, refusals.

What its methods give is compared with the official package in `test_official_results.py`.
"""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from focalcodec import FocalCodec, UserError
from focalcodec.codec import REGISTRY
from focalcodec.hub.checkpoints import override
from focalcodec.knn import nearest_frames
from focalcodec.vocos import Vocos
from tests.unit.small_codecs import golden_codec, golden_tensors, logmel_codec

PARTS = ("encoder", "compressor", "quantizer", "decompressor", "decoder")


@pytest.fixture
def codec() -> FocalCodec:
    return copy.deepcopy(golden_codec("tiny_50hz"))


@pytest.fixture
def files(codec: FocalCodec, tmp_path: Path) -> Path:
    """A codec as `x.json` and `x.safetensors`."""
    codec.to_pretrained(tmp_path / "sub" / "x")
    return tmp_path / "sub" / "x.json"


def same(first: FocalCodec, second: FocalCodec) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


# -- made of names, of parts -----------------------------------------------------------------------


def test_names_and_parts_make_the_same_codec(codec: FocalCodec) -> None:
    parts = [getattr(codec, part) for part in PARTS]
    by_position = FocalCodec(*parts)
    by_role = FocalCodec(**dict(zip(PARTS, parts, strict=True)))
    mixed = FocalCodec(parts[0], **dict(zip(PARTS[1:], parts[1:], strict=True)))
    for made in (by_position, by_role, mixed):
        assert same(made, codec) and made.config == codec.config
        assert made.encoder_name == "WavLM" and made.encoder_config == codec.encoder.config
    by_name = FocalCodec(**codec.config)
    assert by_name.config == codec.config and by_name.training
    assert by_name.state_dict().keys() == codec.state_dict().keys()


def test_parts_that_are_not_five(codec: FocalCodec) -> None:
    with pytest.raises(UserError, match="only encoder, quantizer; give encoder, compressor, "):
        FocalCodec(codec.encoder, quantizer=codec.quantizer)
    with pytest.raises(UserError, match="encoder_name='Hubert': give "):
        FocalCodec(encoder_name="Hubert")
    with pytest.raises(TypeError, match="encoder_nam"):
        FocalCodec(encoder_nam="WavLM")


def test_a_class_of_a_client(codec: FocalCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """`REGISTRY` is open, as in the official package."""

    class Quiet(Vocos):
        pass

    config = codec.config | {"decoder_name": "Quiet"}
    with pytest.raises(UserError, match="decoder_name='Quiet': give HiFiGAN or Vocos or WaveNeXt"):
        FocalCodec(**config)
    monkeypatch.setitem(REGISTRY, "Quiet", Quiet)
    assert isinstance(FocalCodec(**config).decoder, Quiet)


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_json_beside_safetensors(codec: FocalCodec, files: Path, suffix: str) -> None:
    name = str(files.with_suffix(suffix))
    loaded = FocalCodec.from_pretrained(name)
    assert same(loaded, codec) and not loaded.training
    assert loaded.model_id == loaded.info()["model_id"] == name
    made = FocalCodec.from_config(name)
    assert made.training and made.model_id == name and not same(made, codec)
    files.with_suffix(".safetensors").unlink()
    FocalCodec.from_config(name)
    with pytest.raises(UserError, match="no x.safetensors or x.pt there"):
        FocalCodec.from_pretrained(name)


def test_json_beside_pt(codec: FocalCodec, files: Path) -> None:
    files.with_suffix(".safetensors").unlink()
    torch.save(codec.state_dict(), files.with_suffix(".pt"))
    assert same(FocalCodec.from_pretrained(files), codec)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(print), "list"])
def test_pt_of_something_else(files: Path, content: Any) -> None:
    """No code of a `.pt` file runs."""
    files.with_suffix(".safetensors").unlink()
    path = files.with_suffix(".pt")
    if content == "list":
        torch.save([torch.ones(1)], path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt: (truncated, or not tensors|not tensors by)"):
        FocalCodec.from_pretrained(files)


def test_pt_that_does_not_fit(codec: FocalCodec, files: Path) -> None:
    files.with_suffix(".safetensors").unlink()
    torch.save(codec.state_dict() | {"more": torch.ones(1)}, files.with_suffix(".pt"))
    with pytest.raises(UserError, match=r"x.pt: does not fit x.json beside it \(1 tensors are unk"):
        FocalCodec.from_pretrained(files)


def test_a_folder_with_a_codec_comes_before_a_json_file(codec: FocalCodec, files: Path) -> None:
    other = logmel_codec()
    files.with_suffix("").mkdir()
    assert same(FocalCodec.from_pretrained(files.with_suffix("")), codec)
    other.save_pretrained(files.with_suffix(""))
    assert same(FocalCodec.from_pretrained(files.with_suffix("")), other)


def test_a_json_file_of_a_repository(
    codec: FocalCodec, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repo = tmp_path / "hub" / "models--someone--codecs"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    files.rename(snapshot / "x.json")
    torch.save(codec.state_dict(), snapshot / "x.pt")
    options = {"cache_dir": str(tmp_path / "hub"), "local_files_only": True}
    loaded = FocalCodec.from_pretrained("someone/codecs/x.json", **options)
    assert same(loaded, codec) and loaded.model_id == "someone/codecs/x.json"
    save_file(codec.state_dict(), snapshot / "x.safetensors")
    assert same(FocalCodec.from_pretrained("someone/codecs/x.json", **options), codec)
    with pytest.raises(UserError, match="no y.json there"):
        FocalCodec.from_config("someone/codecs/y.json", **options)
    with pytest.raises(UserError, match="abacus: .*abacus.*; leave it out"):
        FocalCodec.from_config("someone/codecs/x.json", abacus=1, **options)


def test_to_config_writes_what_was_given(codec: FocalCodec, tmp_path: Path) -> None:
    """Keys that were left out stay out; one file, or two."""
    config = codec.config
    del config["decoder_config"]["layerscale_init"]
    del config["quantizer_name"]
    made = FocalCodec(**config)
    made.to_config(str(tmp_path / "new" / "a"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]
    written = json.loads((tmp_path / "new" / "a.json").read_text())
    assert written == config | {"quantizer_name": "BinarySphericalQuantizer"}
    made.to_config(str(tmp_path / "new" / "a.json"), pretrained=True)
    assert same(FocalCodec.from_pretrained(tmp_path / "new" / "a"), made)


def test_to_config_after_a_part_was_replaced(codec: FocalCodec, tmp_path: Path) -> None:
    arguments = codec.decoder.config | {"layerscale_init": 0.5}
    codec.decoder = Vocos(**arguments)
    codec.to_pretrained(tmp_path / "x")
    loaded = FocalCodec.from_pretrained(tmp_path / "x")
    assert same(loaded, codec) and loaded.decoder.config == codec.decoder.config
    codec.encoder = None  # type: ignore[assignment]
    codec.to_config(tmp_path / "y")
    with pytest.raises(UserError, match="encoder: was removed"):
        codec.to_pretrained(tmp_path / "z")
    assert not (tmp_path / "z.json").exists()


@pytest.mark.parametrize("name", ["no.json", "no/such.json", "no/such/folder/x.json"])
def test_no_such_json_file(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no such file"):
        FocalCodec.from_pretrained(name)


def test_overrides(codec: FocalCodec, files: Path) -> None:
    changes = {"encoder_config.num_layers": 0, "decoder_config.layerscale_init": 0.5}
    made = FocalCodec.from_config(files, overrides=changes)
    assert made.encoder.config["num_layers"] == 0
    assert made.decoder_config["layerscale_init"] == 0.5
    assert codec.config["encoder_config"]["num_layers"] != 0
    assert FocalCodec.from_config(codec.config, overrides=changes).config == made.config
    assert override({}, {"encoder_config.dim": 3}) == {"encoder_config": {"dim": 3}}
    assert override({"encoder_config": None}, {"encoder_config": {}}) == {"encoder_config": {}}


@pytest.mark.parametrize("path", ["encoder.dim", "dim", "", "encoder_name.dim", 3])
def test_overrides_that_are_not_in_a_configuration(files: Path, path: Any) -> None:
    with pytest.raises(UserError, match="x.json: overrides: no .*give a path such as"):
        FocalCodec.from_config(files, overrides={path: 1})


def test_a_dict_has_no_weights(codec: FocalCodec) -> None:
    with pytest.raises(UserError, match="config: a dict has no weights"):
        FocalCodec.from_config(codec.config, pretrained=True)


# -- parts that are missing ------------------------------------------------------------------------


def test_decode_without_encoder_and_compressor(codec: FocalCodec) -> None:
    toks = golden_tensors("tiny_50hz")["toks"]
    expected = codec.decode(toks), codec.info(), codec.token_rate, codec.bitrate
    codec.encoder = codec.compressor = None  # type: ignore[assignment]
    assert torch.equal(codec.decode(toks), expected[0])
    assert (codec.token_rate, codec.bitrate) == expected[2:]
    info = codec.info()
    assert info.pop("num_total_params") < expected[1].pop("num_total_params")
    assert info == expected[1]
    assert torch.equal(codec.codebook, golden_codec("tiny_50hz").codebook)
    del codec.encoder
    for call in (
        lambda: codec.encode(torch.zeros(1, 4000), 16000),
        lambda: codec.sig_to_toks(torch.zeros(1, 4000)),
        lambda: codec.decode(toks, num_samples=9),
        lambda: codec.config,
    ):
        with pytest.raises(UserError, match="encoder: was removed from this codec; load"):
            call()


def test_encode_without_the_rest(codec: FocalCodec) -> None:
    sig, toks = golden_tensors("tiny_50hz")["sig"], golden_tensors("tiny_50hz")["toks"]
    codec.decompressor = codec.decoder = None  # type: ignore[assignment]
    assert torch.equal(codec.encode(sig, 16000)[0], toks)
    with pytest.raises(UserError, match="decompressor: was removed"):
        codec.decode(toks)


# -- methods ---------------------------------------------------------------------------------------


def test_lengths_and_official_arguments_do_not_mix(codec: FocalCodec) -> None:
    sig, lengths = torch.zeros(2, 4000), torch.tensor([4000, 900])
    with pytest.raises(UserError, match="lengths: not together with states or length"):
        codec.sig_to_toks(sig, length=torch.ones(2), lengths=lengths)
    with pytest.raises(UserError, match="lengths: not together with states or length"):
        codec.sig_to_toks(sig, [None], lengths=lengths)


@torch.no_grad()
def test_new_methods_with_lengths(codec: FocalCodec) -> None:
    """A clip gives the same alone and in a padded batch, in the methods that are official only."""
    sig = golden_tensors("tiny_50hz")["sig"]
    sig = torch.cat([sig, sig.flip(1)])
    lengths = torch.tensor([sig.shape[1], 2100])
    frames = codec.encoder.output_lengths(lengths)
    feats = codec.sig_to_feats(sig, lengths=lengths)
    for method, x, given, rows in (
        ("sig_to_lats", sig, lengths, frames),
        ("sig_to_codes", sig, lengths, frames),
        ("feats_to_toks", feats, frames, frames),
        ("feats_to_codes", feats, frames, frames),
        ("feats_to_qfeats", feats, frames, frames),
        ("codes_to_sig", codec.sig_to_codes(sig, lengths=lengths), frames, frames * 320),
    ):
        both = getattr(codec, method)(x, lengths=given)
        alone = getattr(codec, method)(x[1:, : int(given[1])])
        end = int(rows[1])
        torch.testing.assert_close(both[1:, :end], alone[:, :end], atol=1e-5, rtol=1e-5)
        assert not both[1, end:].any()


def test_knn_is_the_exact_search(codec: FocalCodec) -> None:
    frames, voice = torch.randn(2, 7, 16), torch.randn(30, 16)
    found = codec.knn(frames, voice, topk=3, num_splits=9)
    assert found.shape == (2, 7, 3, 16)
    assert torch.equal(found.flatten(0, 1), voice[nearest_frames(frames.flatten(0, 1), voice, 3)])
    assert codec.knn(frames[0], voice[:2]).shape == (7, 2, 16)


@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_a_scripted_encoder_takes_any_number_of_rows(rows: int) -> None:
    """The trace behind it has two rows."""
    encoder = golden_codec("tiny_50hz_causal").encoder
    script, states, expected_states = torch.jit.script(encoder), [], []
    for samples in (1280, 2560):
        sig = torch.randn(rows, samples)
        feats, *states = script(sig, *states)
        expected, *expected_states = encoder(sig, *expected_states)
        torch.testing.assert_close(feats, expected)


def test_jit_leaves_what_can_not_be_scripted(codec: FocalCodec) -> None:
    class Odd(nn.Module):
        factor = 1

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return [args, kwargs]

    codec.decompressor = Odd()  # type: ignore[assignment]
    with pytest.warns(UserWarning, match=r"decompressor \(Odd\) is not scripted: "):
        scripted = codec.jit()
    assert isinstance(scripted.decompressor, Odd)
    assert not isinstance(codec.encoder, torch.jit.ScriptModule)


def test_jit_of_classes(codec: FocalCodec) -> None:
    scripted = codec.jit(classes=[nn.Linear])
    assert not any(type(module) is nn.Linear for module in scripted.modules())
    assert any(type(module) is nn.Linear for module in codec.modules())
    assert isinstance(scripted.encoder, type(codec.encoder))


def test_onnx_says_where_it_is(codec: FocalCodec) -> None:
    with pytest.raises(UserError, match="onnx: call focalcodec.onnx.export_onnx"):
        codec.onnx("codec.onnx")
