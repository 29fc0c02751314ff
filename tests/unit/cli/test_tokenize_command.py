"""`focalcodec tokenize`: exit codes and options."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from focalcodec.cli.corpora import parse_special
from focalcodec.cli.main import main
from focalcodec.data.corpus import embedded_corpus
from focalcodec.errors import UserError
from focalcodec.tokenize import TokenStore
from tests.unit.small_codecs import GOLDEN

MODEL = ["--model", str(GOLDEN["tiny_50hz"])]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    shutil.copytree(embedded_corpus("LibriSpeech") / "dev-mini" / "11", tmp_path / "speech")
    return tmp_path / "speech"


def test_exit_codes(speech, tmp_path, capsys):
    words = ["tokenize", str(speech), str(tmp_path / "out"), *MODEL]
    assert main(words) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert ": 3 clips, " in last and " s of audio, " in last and " kbit/s, real-time" in last
    first = TokenStore(tmp_path / "out")[0]
    assert main([*words, "--offset", "5"]) == 2
    assert "made with vocabulary=" in capsys.readouterr().err
    (speech / "x.wav").touch()
    assert main([*words, "--offset", "5", "--special", "eos=2", "--overwrite"]) == 1
    assert "; 1 failed, see " in capsys.readouterr().err
    store = TokenStore(tmp_path / "out")
    assert store.stream[-1] == 2
    assert torch.equal(store[0], first)
    assert torch.equal(torch.from_numpy(store.stream[: len(first)].astype("int64")), first + 5)


def test_finished_share_exits_with_zero(speech, tmp_path, capsys):
    (speech / "x.wav").touch()
    words = ["tokenize", str(speech), str(tmp_path / "out"), *MODEL, "--part_clips", "1", "--shard"]
    assert main([*words, "0/2"]) == 0
    assert "this share is done" in capsys.readouterr().err
    assert main([*words, "1/2"]) == 1


@pytest.mark.parametrize(
    "options", [["--shard", "2/2"], ["--special", "a=1,b"], ["--split", "x"], ["--offset", "-1"]]
)
def test_bad_options_create_no_files(speech, tmp_path, capsys, options):
    assert main(["tokenize", str(speech), str(tmp_path / "out"), *MODEL, *options]) == 2
    assert capsys.readouterr().err.startswith("focalcodec: error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["bos=1,eos", "bos=x", "=1", "bos=-1", "bos=1,bos=2"])
def test_bad_special_tokens_are_errors(text):
    with pytest.raises(UserError, match="--special"):
        parse_special(text)
