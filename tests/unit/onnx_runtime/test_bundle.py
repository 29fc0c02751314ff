"""Bad bundles: one clear error each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from focalcodec.errors import UserError
from focalcodec.onnx_runtime import OnnxCodec
from tests.unit.small_bundles import bundle, onnx_codec


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle("offline"), tmp_path / "bundle"))


def change(folder: Path, **values: object) -> None:
    path = folder / "onnx.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_truncated(copied: Path) -> None:
    path = copied / "encoder.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"encoder\.onnx: \d+ bytes, not \d+; copy the whole"):
        OnnxCodec.from_pretrained(copied)


def test_changed(copied: Path) -> None:
    path = copied / "decoder.onnx"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"decoder\.onnx: its SHA-256 is not that of onnx\.json"):
        OnnxCodec.from_pretrained(copied)


def test_missing(copied: Path) -> None:
    (copied / "decompressor.onnx").unlink()
    with pytest.raises(UserError, match=r"decompressor\.onnx: no such file; copy"):
        OnnxCodec.from_pretrained(copied)
    with pytest.raises(UserError, match=r"no folder with onnx\.json; make one with focalcodec exp"):
        OnnxCodec.from_pretrained(copied / "none")


@pytest.mark.parametrize(
    "values, problem",
    [
        ({"format": "other"}, "not of a codec, its format is not 'focalcodec-onnx'"),
        ({"format_version": 2}, "version 2 of the format, but only 1 can be read"),
        ({"codebook_size": "8192"}, "codebook_size is missing or wrong"),
        ({"graphs": {}}, "graphs is missing or wrong"),
        ({"graphs": {"encoder": {"file": "../x"}}}, "graphs is missing or wrong"),
    ],
)
def test_foreign_descriptions(values: dict[str, object], problem: str, copied: Path) -> None:
    change(copied, **values)
    with pytest.raises(UserError, match=problem):
        OnnxCodec.from_pretrained(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_descriptions_that_are_not_json(text: str, copied: Path) -> None:
    (copied / "onnx.json").write_text(text)
    with pytest.raises(UserError, match=r"onnx\.json: not "):
        OnnxCodec.from_pretrained(copied)


def test_unsupported_opset(copied: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = copied / "encoder.onnx"
    model = onnx.load(path)
    model.opset_import[0].version = 999
    model.ir_version = 99
    onnx.save(model, path)
    about = json.loads((copied / "onnx.json").read_text())
    from focalcodec.files import file_sha256

    about["opset"] = 999
    about["graphs"]["encoder"] |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (copied / "onnx.json").write_text(json.dumps(about))
    codec = OnnxCodec.from_pretrained(copied)
    with pytest.raises(UserError, match=r"encoder\.onnx: onnxruntime \S+ can't load opset 999"):
        codec.sig_to_toks(np.zeros((1, 1600), np.float32))


@pytest.mark.parametrize(
    "call, problem",
    [
        (lambda c: c.sig_to_toks(np.zeros(10, np.float32)), r"sig: shape \(10,\)"),
        (lambda c: c.sig_to_toks(np.zeros((1, 10), np.int16)), "int16; give floats"),
        (lambda c: c.sig_to_toks(np.full((1, 400), np.nan)), "sig: NaN or infinite"),
        (lambda c: c.sig_to_toks(np.zeros((1, 400)), lengths=[401]), r"each must be in 1\.\.400"),
        (lambda c: c.sig_to_toks(np.zeros((1, 400)), lengths=[0.5]), "lengths: float64"),
        (lambda c: c.sig_to_toks(np.zeros((1, 400)), [3]), "length: int64"),
        (lambda c: c.toks_to_sig(np.full((1, 3), 512)), r"token 512: .* in \[0, 512\)"),
        (lambda c: c.toks_to_sig(np.full((1, 3), -1)), r"token -1: "),
        (lambda c: c.toks_to_sig(np.zeros((1, 3))), "toks: shape .* give integers"),
        (lambda c: c.feats_to_sig(np.zeros((1, 3, 7), np.float32)), "7 values a frame"),
        (lambda c: c.convert(np.zeros((1, 400)), np.ones((3, 80))), r"k=4: give 1\.\.3"),
        (lambda c: c.convert(np.zeros((1, 400)), np.ones((9, 8))), "8 values a frame, expected 80"),
        (lambda c: c.bundle.run("encoder_step", {}), "has no encoder_step, only encoder, "),
    ],
)
def test_bad_input(call, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        call(onnx_codec("offline"))
