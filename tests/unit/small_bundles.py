"""Bundles of ONNX graphs that several tests share."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.cli.main import main
from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.onnx import export_onnx
from focalcodec.onnx.check import Agreement
from focalcodec.onnx_runtime import OnnxCodec
from focalcodec.vocos import Vocos

_FOLDER = tempfile.TemporaryDirectory()  # removed when the process ends


@cache
def bundle(name: str) -> Path:
    """Folder of a bundle; not to be changed."""
    folder = Path(_FOLDER.name, name)
    export_onnx(_CODECS[name](), folder)
    return folder


@cache
def onnx_codec(name: str) -> OnnxCodec:
    """Codec of a bundle on onnxruntime."""
    return OnnxCodec.from_pretrained(bundle(name), threads=1)


@cache
def offline_codec() -> FocalCodec:
    """Codec at 25 Hz with few layers, whose graphs are made in seconds; not to be changed."""
    torch.manual_seed(0)
    codec = FocalCodec(
        LogMel(),
        FocalEncoder(80, 9, [16], [2], focal_window=3, focal_level=1),
        BinarySphericalQuantizer(512),
        FocalDecoder(9, 80, [16], [2], focal_window=3, focal_level=1),
        Vocos(80, num_layers=1, dim=16, ffn_dim=24),
    )
    for parameter in codec.parameters():
        parameter.data = parameter.data.half().float()
    return codec.eval()


@cache
def causal_codec() -> FocalCodec:
    """Causal codec with few layers; not to be changed."""
    torch.manual_seed(0)
    focal = {"focal_window": 3, "focal_level": 1, "causal": True, "window_size": 16}
    codec = FocalCodec(
        MelEncoder(16, num_layers=1, dim=16, ffn_dim=16, kernel_size=3, n_mels=40, causal=True),
        FocalEncoder(16, 9, [16], [1], **focal),
        BinarySphericalQuantizer(512),
        FocalDecoder(9, 16, [16], [1], last_window_size=16, **focal),
        Vocos(16, 1, 16, 16, n_fft=320, causal=True),
    )
    for parameter in codec.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.4, std=0.3)
    codec.eval()
    with torch.no_grad():  # without the mean of latents their tokens differ
        codec.compressor.unit_norm = False
        lats = codec.sig_to_lats(torch.randn(1, 16000) * torch.linspace(0, 0.3, 16000))
        codec.compressor.out_proj.bias -= lats.mean(dim=(0, 1))
        codec.compressor.unit_norm = True
    return codec


_CODECS = {"offline": offline_codec, "causal": causal_codec}


def check_export_command(
    folder: Path,
    form: str,
    graphs: str,
    export: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> list[str]:
    """Graphs that differ are not written; those that agree are, once. The words of the command.

    `export` is the module of a format whose graphs are neither made nor run; errors name `graphs`.
    """
    agreement = Agreement(100, 99, 1300, 1299, 0, 1e-6, 1e-6)
    monkeypatch.setattr(export, "compare", lambda *_: agreement)
    offline_codec().save_pretrained(folder / "codec")
    words = ["export", str(folder / "codec"), str(folder / "out"), "--format", form]
    assert main(words) == 2 and not (folder / "out").exists()
    assert f"{graphs} differ from the codec: 99 of 100 tokens equal" in capsys.readouterr().err
    agreement = Agreement(100, 99, 1300, 1299, 1, 1e-6, 1e-6)
    assert main(words) == 0
    assert "out: 0.0 MB, compared with" in capsys.readouterr().out
    assert main(words) == 2
    assert f"has {form}.json already; give --overwrite" in capsys.readouterr().err
    return words
