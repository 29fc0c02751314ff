"""Graphs of codecs: equal to the codec, refused where they are not, and what is stored of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import focalcodec.onnx.export
from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.cli.main import main
from focalcodec.encoders.logmel import LogMel
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from focalcodec.files import file_sha256
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.masking import valid_mask
from focalcodec.onnx import export_onnx
from focalcodec.onnx.check import SPEECH, Agreement, compare_streams
from focalcodec.onnx.weights import quantized
from focalcodec.quantizers.ssq import ScalarSphericalQuantizer
from focalcodec.vocos import Vocos
from tests.unit.closeness import assert_close_to_scale
from tests.unit.small_bundles import (
    bundle,
    causal_codec,
    check_export_command,
    offline_codec,
    onnx_codec,
)
from tests.unit.small_encoders import codec_of


def test_other_batches_and_lengths_than_the_example() -> None:
    codec, found = offline_codec(), onnx_codec("offline")
    for batch, samples in ((1, 5000), (3, 20017), (1, 300)):
        sig = torch.randn(batch, samples) / 9
        lengths = torch.randint(1, samples + 1, (batch,))
        lengths[0] = samples
        toks, ends = codec.encode(sig, 16000, lengths)
        made, made_ends = found.encode(sig.numpy(), lengths=lengths.numpy())
        assert ends.tolist() == made_ends.tolist()
        assert (torch.from_numpy(made) == toks).float().mean() > 0.99
        feats = codec.sig_to_feats(sig, lengths=lengths)
        assert_close_to_scale(
            torch.from_numpy(found.sig_to_feats(sig.numpy(), lengths=lengths.numpy())), feats, 1e-3
        )
        rec_sig = codec.decode(toks, ends)
        made_sig = torch.from_numpy(found.toks_to_sig(toks.numpy(), lengths=ends.numpy()))
        assert_close_to_scale(made_sig, rec_sig)
        valid = valid_mask(ends * codec.hop_length, rec_sig.shape[1])
        assert not made_sig[~valid].any()


def test_a_quantizer_that_is_not_binary(tmp_path: Path) -> None:
    """Digits of four levels on a sphere."""
    codec = FocalCodec(
        LogMel(n_mels=8),
        FocalEncoder(8, 4, [8], [1]),
        ScalarSphericalQuantizer(4, 4),
        FocalDecoder(4, 8, [8], [1]),
        Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    )
    agreement = export_onnx(codec.eval(), tmp_path)
    assert agreement.holds and agreement.toks == agreement.equal_toks == 700


def test_onnx_json_describes_and_protects_the_files() -> None:
    folder, codec = bundle("offline"), offline_codec()
    text = (folder / "onnx.json").read_text()
    about = json.loads(text)
    assert len(text) < 2**14
    assert about["weights_sha256"] == codec.weights_sha256 and about["hop_length"] == 640
    for name, graph in about["graphs"].items():
        path = folder / graph["file"]
        assert (graph["bytes"], graph["sha256"]) == (path.stat().st_size, file_sha256(path))
        model = onnx.load(path)
        values = [*model.graph.input, *model.graph.output]
        shapes = [
            [value.name, [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]]
            for value in values
        ]
        assert shapes == [*graph["inputs"], *graph["outputs"]], name
        assert model.opset_import[0].version == about["opset"]
    # nothing of the machine that made them
    assert not any(b"site-packages" in path.read_bytes() for path in folder.glob("*.onnx"))


def test_weights_are_stored_in_float16_and_the_basis_is_not_stored() -> None:
    """The weights of this codec are float16 numbers."""
    largest = [
        max(onnx.load(path).graph.initializer, key=lambda tensor: math.prod(tensor.dims))
        for path in sorted(bundle("offline").glob("*.onnx"))
    ]
    sizes = [math.prod(tensor.dims) for tensor in largest]
    assert [tensor.data_type for tensor in largest[:2]] == [onnx.TensorProto.FLOAT16] * 2
    assert sizes[0] == 16 * 1026  # the map of the decoder to a spectrum; the basis has 1026 * 1024


def test_command(tmp_path: Path, monkeypatch, capsys) -> None:
    export = focalcodec.onnx.export
    monkeypatch.setattr(export, "_write_graph", lambda *a: a[2].write_bytes(b"x"))
    words = check_export_command(tmp_path, "onnx", "graphs", export, monkeypatch, capsys)
    assert main([*words, "--overwrite"]) == 0


def test_the_given_codec_is_not_changed(tmp_path: Path, monkeypatch) -> None:
    """In float16 the graphs have rounded weights; the codec that was given keeps its own."""
    codec = FocalCodec.from_config(causal_codec().config).train()
    codec.load_state_dict(causal_codec().state_dict())
    before = {name: weight.clone() for name, weight in codec.state_dict().items()}
    compared: list[FocalCodec] = []

    def compare(rounded: FocalCodec, *_: object) -> Agreement:
        compared.append(rounded)
        return Agreement(100, 100, 1300, 1300, 0, 1e-6, 1e-6)

    monkeypatch.setattr(focalcodec.onnx.export, "_write_graph", lambda *a: a[2].write_bytes(b"x"))
    for name in ("compare", "compare_streams"):
        monkeypatch.setattr(focalcodec.onnx.export, name, compare)
    export_onnx(codec, tmp_path, "float16")
    assert codec.training
    assert all(torch.equal(codec.state_dict()[name], weight) for name, weight in before.items())
    rounded = compared[0].state_dict()
    name = max(before, key=lambda name: before[name].numel())
    assert not torch.equal(rounded[name], before[name])
    assert torch.equal(rounded[name], before[name].half().float())


@pytest.mark.parametrize("graph", ["encoder_step", "decoder_step"])
def test_steps_that_start_a_stream_in_another_way(graph: str, tmp_path: Path, monkeypatch) -> None:
    """Only the first chunk differs: it is taken as one in the middle of a stream of zeros."""
    made = bundle("causal")

    def write(codec: FocalCodec, given: object, path: Path, int8: bool) -> None:
        model = onnx.load(made / path.name)
        if path.stem == graph:
            for node in model.graph.node:
                node.input[:] = ["later" if name == "chunks" else name for name in node.input]
            one = onnx.numpy_helper.from_array(np.array([1]), "one")
            model.graph.initializer.append(one)
            model.graph.node.insert(0, onnx.helper.make_node("Max", ["chunks", "one"], ["later"]))
        onnx.save(model, path)

    monkeypatch.setattr(focalcodec.onnx.export, "_write_graph", write)
    with pytest.raises(UserError, match="the steps of a stream differ from the codec: "):
        export_onnx(causal_codec(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_steps_agree() -> None:
    """Twelve seconds in chunks, with an incomplete one at the end."""
    sig = read_audio(SPEECH, 16000)[:-100]
    agreement = compare_streams(causal_codec(), onnx_codec("causal"), sig)
    assert agreement.holds and agreement.toks == 600 and 0 < agreement.state_error
    both = agreement + Agreement(100, 99, 900, 899, 1, 1e-6, float("nan"))
    assert (both.toks, both.bits, both.feats_error) == (700, 600 * 9 + 900, 1e-6)
    assert not both.holds


@pytest.mark.parametrize(
    "agreement, holds",
    [
        (Agreement(100, 100, 1300, 1300, 0, 1e-6, 1e-6), True),
        (Agreement(100, 99, 1300, 1299, 1, 1e-6, 1e-6), True),
        (Agreement(100, 99, 1300, 1298, 1, 1e-6, 1e-6), False),
        (Agreement(100, 100, 1300, 1300, 0, 1e-6, 1.1e-4), False),
        (Agreement(100, 100, 1300, 1300, 0, 1e-6, float("nan")), False),
        (Agreement(100, 100, 1300, 1300, 0, 1e-6, 1e-6, 1.1e-3), False),
    ],
)
def test_what_agrees(agreement: Agreement, holds: bool) -> None:
    assert agreement.holds is holds


def test_codecs_that_cannot_be_exported(tmp_path: Path) -> None:
    packed = FocalCodec.from_config(offline_codec().config)
    packed.packed_sha256 = "0" * 64
    with pytest.raises(UserError, match="can't be exported to ONNX: its weights are packed"):
        export_onnx(packed, tmp_path)
    sizes = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2}
    whisper = SpeechEncoder({"model_type": "whisper", "encoder_ffn_dim": 8, **sizes}, layer=1)
    with pytest.raises(UserError, match="ONNX: the calls of a transformers encoder depend"):
        export_onnx(codec_of(whisper), tmp_path)
    config = offline_codec().config
    for part in ("compressor_config", "decompressor_config"):
        config[part] = {**config[part], "voice_tokens": 2}
    with pytest.raises(UserError, match="ONNX: its utterances have a vector"):
        export_onnx(FocalCodec.from_config(config), tmp_path)


@pytest.mark.parametrize(
    "words, problem",
    [
        (["a", "b", "c", "--format", "onnx"], "c: one name too many; give CODEC FOLDER"),
        (["a", "b"], "FOLDER: missing; give QUANTIZER DECODER FOLDER"),
        (["no/such", "b", "--format", "onnx"], "no/such"),
    ],
)
def test_wrong_names(words: list[str], problem: str, capsys) -> None:
    assert main(["export", *words]) == 2
    assert problem in capsys.readouterr().err


def test_int8_products(tmp_path: Path, monkeypatch) -> None:
    """All products with weights but two, in 7 bits; most bits are those of float32."""
    found = onnx_codec("causal")
    path = bundle("causal") / "encoder.onnx"
    given = onnx.load(path)
    made = quantized(given)
    kinds = [[node.op_type for node in model.graph.node] for model in (given, made)]
    weights = {tensor.name for tensor in given.graph.initializer}
    products = [node for node in given.graph.node if node.op_type == "MatMul"]
    with_weights = sum(node.input[1] in weights for node in products)
    assert kinds[1].count("MatMulInteger") == with_weights - 2 > 3
    stored = [
        onnx.numpy_helper.to_array(x)
        for x in made.graph.initializer
        if x.data_type == onnx.TensorProto.INT8
    ]
    assert {abs(x.astype(int)).max() for x in stored if x.ndim == 2} == {64}
    onnx.save(made, tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
    sig = np.random.default_rng(0).normal(size=(1, 16000)).astype(np.float32) / 9
    toks = session.run(["toks"], {"sig": sig, "lengths": np.array([16000])})[0]
    quantizer = causal_codec().quantizer
    codes = [quantizer.toks_to_codes(torch.from_numpy(x)) for x in (toks, found.sig_to_toks(sig))]
    assert 0.9 < (codes[0] == codes[1]).float().mean() < 1.0


def test_int8_below_the_limit_is_not_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(focalcodec.onnx.export, "_write_graph", lambda *a: a[2].write_bytes(b"x"))
    agreement = Agreement(100, 80, 1000, 984, 0, 1.0, 1.0)
    monkeypatch.setattr(focalcodec.onnx.export, "compare", lambda *_: agreement)
    with pytest.raises(UserError, match="984 of 1000 bits"):
        export_onnx(offline_codec(), tmp_path / "out", "int8")
    agreement = Agreement(100, 80, 1000, 985, 0, 1.0, 1.0)
    assert export_onnx(offline_codec(), tmp_path / "out", "int8") is agreement
    assert json.loads((tmp_path / "out/onnx.json").read_text())["precision"] == "int8"
