"""How predictable the tokens of codecs are: one table of codecs with other rates and codebooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.audio import write_audio
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.quantizers.ssq import ScalarSphericalQuantizer
from focalcodec.vocos import Vocos
from tests.recipes.demo import small

QUANTIZERS = {"bits": BinarySphericalQuantizer(16), "ssq": ScalarSphericalQuantizer(4, 4)}


def codec(quantizer: str, down: int) -> FocalCodec:
    torch.manual_seed(0)
    made = FocalCodec(
        LogMel(n_mels=8),
        FocalEncoder(8, 4, [8], [down]),
        QUANTIZERS[quantizer],
        FocalDecoder(4, 8, [8], [down]),
        Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    )
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.5)  # else all tokens are equal
    return made


def tones(seconds: int) -> torch.Tensor:
    """Another frequency and level every 40 ms."""
    hertz, level = torch.rand(2, 25 * seconds).repeat_interleave(640, dim=1)
    return level**4 * torch.sin((hertz * 3).cumsum(dim=0))


def test_one_table_of_several_codecs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, quantizer, down in (("50", "bits", 1), ("25", "bits", 2), ("ssq", "ssq", 1)):
        codec(quantizer, down).save_pretrained(tmp_path / name)
    for name, seconds in (("train", 4), ("valid", 1)):
        for index in range(8):
            (tmp_path / name / f"speaker{index}").mkdir(parents=True)
            sig = tones(seconds)
            write_audio(tmp_path / name / f"speaker{index}" / "a.wav", sig, 16000)
    script = small.module("token_perplexity")
    folders = [str(tmp_path / name) for name in ("train", "valid")]
    names = [str(tmp_path / "50"), f"half={tmp_path / '25'}", f"ssq={tmp_path / 'ssq'}"]
    names += [f"again={tmp_path / '50'}", f"one=merge:-1@{tmp_path / '50'}"]
    assert script.main([*folders, *names, "--steps=30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[1] for row in cells] == ["200", "100", "400", "200", "200"]
    assert [row[0] for row in cells[1:]] == ["half", "ssq", "again", "one"]
    first, half, ssq, again, one = (
        [float(cell.split(" ")[0]) for cell in row[2:5]] for row in cells
    )
    for (perplexity, bits, per_second), rate in ((first, 50), (half, 25), (ssq, 50)):
        assert perplexity == pytest.approx(2**bits, abs=0.6)
        assert per_second == pytest.approx(bits * rate, abs=0.3)
    assert cells[0][5] == "" and again == first
    assert cells[3][5] == "0.0 [0.0, 0.0]"
    assert float(cells[1][5].split(" ")[0]) == pytest.approx(half[2] - first[2], abs=0.3)
    assert min(first[1], half[1], ssq[1]) > 0.3
    assert one[2] < first[2], "runs of equal tokens are easier to predict"


def test_intervals_are_over_speakers() -> None:
    script = small.module("token_perplexity")
    scores = [script.Score(float(10 * (i % 8) + 1), 10, f"s{i % 8}") for i in range(16)]
    clips = [one._replace(speaker="") for one in scores]
    rows = [script.row(script.Measured("a", 50.0, 16, some)) for some in (scores, clips)]
    assert rows[0] != rows[1]
    assert all(row.startswith("| a | 200 | 12 [") for row in rows)


def test_wrong_names_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = small.module("token_perplexity")
    assert script.main([str(tmp_path / "gone"), str(tmp_path), "demo"]) == 2
    assert "not a folder of audio and not a manifest" in capsys.readouterr().err
    write_audio(tmp_path / "a.wav", torch.randn(3200) / 9, 16000)
    assert script.main([str(tmp_path), str(tmp_path), "original"]) == 2
    assert "original: not a FocalCodec" in capsys.readouterr().err
    assert script.main([str(tmp_path), str(tmp_path), "demo"]) == 2
    assert "tokens to train on; give more than 128" in capsys.readouterr().err
