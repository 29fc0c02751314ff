"""One hash of a codec has one name, wherever it is shown, and says of what it is."""

from __future__ import annotations

import hashlib
import json

import torch

from focalcodec.audio import write_audio
from focalcodec.cli.info import HASHED, describe
from focalcodec.cli.main import main
from focalcodec.coders import load_coder, parse_spec
from focalcodec.evaluation.card import HASHES
from tests.unit.small_codecs import GOLDEN

CODEC = str(GOLDEN["tiny_50hz"])


def test_the_hash_of_a_codec_is_the_same_everywhere(tmp_path, capsys):
    described = describe(CODEC)
    sha256 = described["weights_sha256"]
    assert described["weights_sha256_of"] == HASHED
    coder = load_coder(parse_spec(CODEC), torch.device("cpu"), 60.0)
    assert coder.describe()["weights_sha256"] == sha256  # what a card has
    assert HASHES["codec.weights_sha256"].startswith(HASHED)
    write_audio(tmp_path / "a.wav", torch.zeros(3200), 16000)
    main(["encode", f"{tmp_path}/a.wav", f"{tmp_path}/a.fct", "--model", CODEC, "--quiet"])
    token_file = describe(f"{tmp_path}/a.fct")
    assert token_file["weights_sha256"] == sha256[:16]
    assert token_file["weights_sha256_of"] == f"{HASHED}, first 16 digits"
    assert main(["export", CODEC, CODEC, f"{tmp_path}/codec"]) == 0
    assert f"weights_sha256 {sha256}" in capsys.readouterr().out
    assert main(["info", CODEC]) == 0
    shown = capsys.readouterr().out
    assert sha256 in shown and HASHED in shown
    weights = (GOLDEN["tiny_50hz"] / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() != sha256  # it is not of the file
    json.dumps(HASHES)
