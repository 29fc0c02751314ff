"""`focalcodec verify`: against recorded results of the official code, and made-up packages."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from focalcodec.cli.main import main
from focalcodec.hub.publish import model_card, publish
from tests.unit.small_codecs import GOLDEN, OFFLINE, golden_codec, golden_tensors

# gives what the released code gave for the signal of a golden case
RECORDED = """
import json
from pathlib import Path
import torch
from safetensors.torch import load_file

RECORDED = load_file({path!r})

class FocalCodec:
    @classmethod
    def from_pretrained(cls, config):
        parts = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
        keys = {{f"{{part}}_{{kind}}" for part in parts for kind in ("name", "config")}}
        assert set(json.loads(Path(config).read_text())) == keys
        assert Path(config).with_suffix(".safetensors").is_file()
        return cls()

    def eval(self):
        return self

def _recorded(source, result):
    def method(self, x):
        assert torch.allclose(x, RECORDED[source], atol=1e-6)
        return RECORDED[result]
    return method

for method in "sig_to_feats sig_to_lats sig_to_toks feats_to_lats lats_to_toks".split():
    setattr(FocalCodec, method, _recorded(*method.split("_to_")))
FocalCodec.toks_to_qfeats = _recorded("toks", "qfeats")
FocalCodec.toks_to_sig = _recorded("toks", "rec_sig")
"""

# this package by another name, with a fault
OURS = """
from focalcodec.codec import FocalCodec as Ours

class FocalCodec(Ours):
    {fault}
"""
_FEATS = "def sig_to_feats(self, x): return super().sig_to_feats(x)"
_TOKS = "def lats_to_toks(self, x, **_): toks = super().lats_to_toks(x); toks[0, 3] ^= 1;"
FAULTS = {
    "pass": [],
    f"{_TOKS} return toks": ["toks of lats", "toks of sig"],
    "def toks_to_sig(self, x): return super().toks_to_sig(x) * 1.001": ["rec_sig of toks"],
    f"{_FEATS}[:, 1:]": ["feats of sig"],
    f"{_FEATS} * float('nan')": ["feats of sig"],
}


def checkout(folder: Path, code: str) -> str:
    """A folder as that of the official repository."""
    (folder / "focalcodec").mkdir(parents=True)
    (folder / "focalcodec" / "__init__.py").touch()
    (folder / "focalcodec" / "codec.py").write_text(code, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("name", OFFLINE)
def test_against_recorded_results(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As exported, with keys for transformers, which the official package would refuse."""
    publish(golden_codec(name), tmp_path / "codec", model_card(golden_codec(name), "codec"))
    sig = golden_tensors(name)["sig"][0]
    soundfile.write(tmp_path / "golden.wav", sig.numpy(), 16000, subtype="FLOAT")
    path = GOLDEN[name] / "expected.safetensors"
    official = checkout(tmp_path / "official", RECORDED.format(path=str(path)))
    words = ["verify", "--against", official, "--audio", str(tmp_path / "golden.wav"), "--"]
    for model in (tmp_path / "codec", GOLDEN[name]):
        assert main([*words, str(model)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "7 of 7 equal"
        assert all("golden.wav" in line and " equal " in line for line in lines[2:-1])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official = checkout(tmp_path, OURS.format(fault=fault))
    code = main(["verify", str(GOLDEN["tiny_50hz"]), "--against", official])
    out = capsys.readouterr().out
    differing = [line for line in out.splitlines() if "DIFFERS" in line]
    assert code == (1 if FAULTS[fault] else 0)
    assert len(differing) >= len(FAULTS[fault])
    for what in FAULTS[fault]:
        assert any(what in line for line in differing), out
    if "toks of lats" in FAULTS[fault]:
        assert "1 of 599 tokens; there a value of the lats is within" in out
    assert bool(differing) == bool(FAULTS[fault])


def test_a_stream_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = (
        "def forward(self, sig, *state, **k):\n"
        "        toks, codes, rec_sig, *state = super().forward(sig, *state, **k)\n"
        "        return toks, codes, rec_sig + 0.01, *state"
    )
    official = checkout(tmp_path, OURS.format(fault=fault))
    sig = golden_tensors("tiny_50hz_causal")["sig"][0]
    soundfile.write(tmp_path / "a.wav", sig.numpy(), 16000, subtype="FLOAT")
    model = str(GOLDEN["tiny_50hz_causal"])
    words = ["verify", model, "--against", official, "--audio", str(tmp_path / "a.wav")]
    assert main(words) == 1
    out = capsys.readouterr().out
    (differing,) = [line for line in out.splitlines() if "DIFFERS" in line]
    assert "rec_sig of toks, stream" in differing
    assert "8 of 9 equal" in out
    assert main([*words, "--tolerance", "0.1"]) == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"no focalcodec/codec\.py in it"),
        ("import package_that_is_not_there", "can't be imported (No module named"),
        ("class FocalCodec: pass", "the official package can't load it (AttributeError"),
    ],
)
def test_nothing_to_compare(
    code: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = str(tmp_path) if code is None else checkout(tmp_path, code)
    assert main(["verify", str(GOLDEN["tiny_50hz"]), "--against", official]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.replace("\\", "") in line
