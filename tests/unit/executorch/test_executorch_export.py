"""Programs of codecs for ExecuTorch: equal to the codec, refused where they are not."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import focalcodec.executorch.export
from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.encoders.logmel import magnitudes
from focalcodec.errors import UserError
from focalcodec.executorch import export_executorch
from focalcodec.executorch.graphs import RealMagnitudes, overlap_add
from focalcodec.executorch.programs import Programs
from focalcodec.files import file_sha256
from focalcodec.wavlm import WavLM
from tests.unit.closeness import assert_close_to_scale
from tests.unit.small_bundles import causal_codec, check_export_command, offline_codec
from tests.unit.small_encoders import codec_of

XNNPACK = "executorch.backends.xnnpack.partition.xnnpack_partitioner"
needs_executorch = pytest.mark.skipif(
    util.find_spec("executorch") is None, reason="executorch: not installed"
)


@needs_executorch
def test_programs_of_any_length_on_xnnpack(tmp_path: Path) -> None:
    """The export itself compares 10 s and 4 s; here are others, and what the JSON says."""
    from executorch.runtime import Runtime

    codec = offline_codec()
    agreement = export_executorch(codec, tmp_path)
    assert agreement.holds and agreement.toks == 350
    about = json.loads((tmp_path / "executorch.json").read_text())
    assert about["weights_sha256"] == codec.weights_sha256
    assert about["most_tokens"] == 250 and list(about["graphs"]) == [
        *("encoder", "decompressor", "decoder")
    ]
    for graph in about["graphs"].values():
        path = tmp_path / graph["file"]
        assert (graph["bytes"], graph["sha256"]) == (path.stat().st_size, file_sha256(path))
        assert b"XnnpackBackend" in path.read_bytes()
    program = Runtime.get().load_program(tmp_path / "decoder.pte")
    decoder = program.load_method("forward")
    for frames in (2, 37, 500):
        feats = torch.randn(1, frames, 80)
        assert_close_to_scale(decoder.execute([feats])[0], codec.feats_to_sig(feats))
    assert about["graphs"]["decoder"]["inputs"] == [["feats", [1, "frames", 80]]]


@needs_executorch
def test_steps_of_a_stream(tmp_path: Path, monkeypatch) -> None:
    """On the portable kernels, which are compiled in a fraction of the time."""
    monkeypatch.setattr(focalcodec.executorch.export, "partitioners", list)
    agreement = export_executorch(causal_codec(), tmp_path)
    assert agreement.holds and agreement.toks == 600 and 0 < agreement.state_error
    step = json.loads((tmp_path / "executorch.json").read_text())["graphs"]["decoder_step"]
    assert step["inputs"] == [["toks", [1, 4]], ["chunks", [1]]]
    assert step["outputs"] == [["rec_sig", [1, 1280]]] and step["rings"]


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("n_fft, hop", [(512, 160), (64, 16), (50, 30)])
def test_real_magnitudes(n_fft: int, hop: int, past: bool) -> None:
    sig, window = torch.randn(2, n_fft + 5 * hop + 3), torch.hann_window(n_fft)
    found = RealMagnitudes(window)(sig, window, n_fft, hop, past)
    assert_close_to_scale(found, magnitudes(sig, window, n_fft, hop, past))


@pytest.mark.parametrize("width, hop", [(1024, 320), (64, 16), (50, 48)])
def test_overlap_add(width: int, hop: int) -> None:
    frames, total = torch.randn(2, width, 7), 6 * hop + width
    expected = F.fold(frames, (1, total), (1, width), stride=(1, hop))
    found = overlap_add(frames, [1, total], [1, width], [1, 1], [0, 0], [1, hop])
    assert_close_to_scale(found, expected)


def test_command(tmp_path: Path, monkeypatch, capsys) -> None:
    export = focalcodec.executorch.export
    monkeypatch.setattr(export, "need", lambda *_: None)
    monkeypatch.setattr(export, "Programs", lambda _, about: _Described(about))
    monkeypatch.setattr(export, "_lowered", lambda *_: b"x")
    words = check_export_command(tmp_path, "executorch", "programs", export, monkeypatch, capsys)
    assert main([*words, "--overwrite", "--dtype", "int8"]) == 2
    assert "--dtype int8: not with --format executorch" in capsys.readouterr().err


class _Described:
    """Programs that are not run."""

    def __init__(self, about: dict) -> None:
        self.about = about


def test_without_the_package_or_with_another_torch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, XNNPACK, None)
    with pytest.raises(
        UserError, match=r"executorch.*: not installed; run pip install 'focalcodec"
    ):
        export_executorch(offline_codec(), tmp_path)

    def fail(module: str, install: str) -> None:
        raise ImportError("libtorch.so: undefined symbol")

    monkeypatch.setattr(focalcodec.executorch.export, "need", fail)
    with pytest.raises(UserError, match=r"with torch 2.*\(libtorch.so: undefined symbol\)"):
        export_executorch(offline_codec(), tmp_path)


def test_codecs_that_cannot_be_exported(tmp_path: Path) -> None:
    packed = FocalCodec.from_config(offline_codec().config)
    packed.packed_sha256 = "0" * 64
    with pytest.raises(UserError, match="can't be exported to ExecuTorch: its weights are packed"):
        export_executorch(packed, tmp_path)
    codec = codec_of(WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2))
    with pytest.raises(UserError, match="ExecuTorch: its runtime has no aten::sym_stride"):
        export_executorch(codec, tmp_path)


@needs_executorch
def test_a_damaged_program(tmp_path: Path) -> None:
    (tmp_path / "decoder.pte").write_bytes(b"nothing" * 99)
    programs = Programs(tmp_path, {"graphs": {"decoder": {"file": "decoder.pte"}}})
    feats = torch.zeros(1, 2, 80).numpy()
    with pytest.raises(UserError, match="decoder.pte: ExecuTorch can't run it"):
        programs.run("decoder", {"feats": feats, "lengths": torch.tensor([2]).numpy()})
