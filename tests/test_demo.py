"""The codecs in the package: their sizes, their files, and the quality of their output."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.audio import audio_info, read_audio
from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.hub import DEMO, MODELS, shipped
from focalcodec.hub.fingerprint import weights_sha256
from tests.unit.small_codecs import GOLDEN

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
NAMES = ("config.json", "model.safetensors", "README.md")
LARGEST = 12_000_000
PROPERTIES = {
    "demo": (650.0, 50.0, None),
    "demo-25hz": (325.0, 25.0, None),
    "demo-stream": (650.0, 50.0, 80.0),
}
"""Bits and tokens a second, and latency in ms, of each codec that the package can have."""


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: opening a socket fails."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("reaches for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_setup_ships_their_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """package_data is relative to the package."""
    options: dict = {}
    monkeypatch.setattr("setuptools.setup", options.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    patterns = options["package_data"]["focalcodec"]
    sent = {path for pattern in patterns for path in MODELS.parent.glob(pattern)}
    files = {path for path in MODELS.rglob("*") if path.is_file()}
    assert files <= sent, f"not in package_data: {files - sent}"


@pytest.mark.parametrize("name", shipped())
def test_it_is_small_enough(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (MODELS / name).iterdir()}
    assert sorted(files) == sorted(NAMES)
    assert sum(files.values()) <= LARGEST
    codec = FocalCodec.from_pretrained(name)
    assert codec.name == name
    assert sum(parameter.numel() for parameter in codec.encoder.parameters()) <= 4_000_000
    assert codec.sample_rate_output == 16000
    assert (codec.bitrate, codec.token_rate, codec.latency) == PROPERTIES[name]


@pytest.mark.parametrize("name", shipped())
def test_it_is_the_same_on_every_load(nothing_else: None, name: str) -> None:
    first, second = (FocalCodec.from_pretrained(name) for _ in range(2))
    assert weights_sha256(first) == weights_sha256(second)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in first.parameters())
    sig = read_audio(CLIP, sample_rate=16000)[None]
    toks, _ = first.encode(sig, 16000)
    assert torch.equal(toks, second.encode(sig, 16000)[0])
    assert len(toks.unique()) > toks.numel() / 10, "it uses its codes"


@pytest.mark.parametrize("name", shipped())
def test_resynth_of_a_real_person(nothing_else: None, tmp_path: Path, name: str) -> None:
    """By the README's first command."""
    heard = tmp_path / "out.wav"
    options = [] if name == DEMO else ["--model", name]  # demo is taken without a network
    assert main(["resynth", str(CLIP), str(heard), *options]) == 0
    assert audio_info(heard).num_samples == audio_info(CLIP).num_samples
    sig, rec_sig = read_audio(CLIP, sample_rate=16000), read_audio(heard, 16000)
    loudness, rec_loudness = (10 * x.square().mean().log10() for x in (sig, rec_sig))
    # feats of Whisper, the teacher, depend little on the level
    assert abs(loudness - rec_loudness) < 8, "dB"
    envelopes = torch.stack([_envelope(sig), _envelope(rec_sig)])
    assert torch.corrcoef(envelopes)[0, 1] > 0.8, "loud where the person speaks"


@pytest.mark.parametrize("name", shipped())
def test_its_tokens_are_decoded_by_it(nothing_else: None, tmp_path: Path, name: str) -> None:
    tokens, heard = tmp_path / "a.fct", tmp_path / "a.wav"
    assert main(["encode", str(CLIP), str(tokens), "--model", name]) == 0
    assert main(["decode", str(tokens), str(heard)]) == 0
    assert audio_info(heard).num_samples == audio_info(CLIP).num_samples


def _envelope(sig: torch.Tensor) -> torch.Tensor:
    """Level of each 20 ms, in dB above a quiet floor."""
    power = sig[: len(sig) // 320 * 320].view(-1, 320).square().mean(dim=1)
    return 10 * (power + 1e-5).log10()


# -- figures of the docs ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def publish() -> dict[str, Any]:
    """The names of docs/demo/publish.py."""
    return runpy.run_path(str(ROOT / "docs/demo/publish.py"))


def test_the_tables_have_the_figures_of_the_cards(publish: dict[str, Any]) -> None:
    marked = 0
    for page in publish["pages"]():
        text = page.read_text(encoding="utf-8")
        assert publish["filled"](text, page.name) == text, f"{page}: run docs/demo/publish.py"
        marked += text.count("<!-- figures of ")
    assert marked >= 4


@pytest.mark.parametrize("name", shipped())
def test_cards_and_page_are_of_the_weights_in_the_package(name: str) -> None:
    weights_hash = FocalCodec.from_pretrained(name).weights_sha256
    cards = sorted(ROOT.glob(f"docs/demo/cards/*/{name}/card.json"))
    assert cards, f"{name}: no result card; run make demo-artifacts"
    for card in cards:
        measured = json.loads(card.read_text(encoding="utf-8"))["codec"]["weights_sha256"]
        assert measured == weights_hash, f"{card}: of other weights; run make demo-artifacts"
    page = (ROOT / "docs/demo/listen.html").read_text(encoding="utf-8")
    assert weights_hash in page, "listen.html: of other weights; run make demo-artifacts"
    file_hash = hashlib.sha256((MODELS / name / "model.safetensors").read_bytes()).hexdigest()
    stated = re.findall(r"`([0-9a-f]{64})`", (MODELS / name / "README.md").read_text("utf-8"))
    assert set(stated) <= {file_hash, weights_hash}, f"{name}: its card states another hash"


def test_a_table_is_filled_from_the_cards(publish: dict[str, Any]) -> None:
    table = """text
<!-- figures of test-real: demo - | kbps dwer_whisper_tiny_en - -->

| | demo | other |
|---|---|---|
| rate | | a |
| words wrong | 3 | b |
| kept | 1 | c |

| not marked | 5 |
"""
    card = json.loads((ROOT / "docs/demo/cards/test-real/demo/card.json").read_text())
    dwer = card["figures"]["dwer_whisper_tiny_en"]
    shown = "{value:.1f} [{low:.1f}, {high:.1f}]".format(**dwer)
    expected = table.replace("| rate | |", "| rate | 0.65 |")
    expected = expected.replace("| words wrong | 3 |", f"| words wrong | {shown} |")
    assert publish["filled"](table, "page") == expected
    with pytest.raises(UserError, match="page: line 2: the table after it needs 2 rows of 2"):
        publish["filled"](table.replace(" - -->", " -->"), "page")


def test_a_codec_is_put_into_the_package(publish: dict[str, Any], tmp_path: Path) -> None:
    """A new one gets its card; a replaced one keeps it, with the new hash."""
    copy, codec, target = publish["copy_codec"], tmp_path / "codec", tmp_path / "demo-25hz"
    shutil.copytree(GOLDEN["tiny_12_5hz"], codec)
    with pytest.raises(UserError, match=r"codec: no README.md there; give .* focalcodec export"):
        copy(codec, target)
    card = f"SHA-256 of `model.safetensors`:\n`{64 * '0'}`.\n"
    (codec / "README.md").write_text(card)
    copy(codec, target)
    assert sorted(path.name for path in target.iterdir()) == sorted(NAMES)
    sha256 = hashlib.sha256((codec / "model.safetensors").read_bytes()).hexdigest()
    assert (target / "README.md").read_text() == card.replace(64 * "0", sha256)
    (codec / "README.md").unlink()
    shutil.copy(GOLDEN["tiny_50hz"] / "model.safetensors", codec)
    copy(codec, target)
    weights = (target / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in (target / "README.md").read_text()
    with (codec / "model.safetensors").open("ab") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="12000001 bytes, at most 12000000 .*--dtype float16"):
        copy(codec, target)
    assert (target / "model.safetensors").read_bytes() == weights


def test_result_cards_of_two_codecs_do_not_meet(
    publish: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """The evaluation calls each of them `codec`; without a card a column stays."""
    real = ROOT / "docs/demo/cards/test-real"
    monkeypatch.setitem(publish["copy_evaluation"].__globals__, "CARDS", tmp_path / "cards")
    for name in ("demo", "demo-stream"):
        for codec in ("codec", "vocoder", "opus-6"):
            shutil.copytree(real / "demo", tmp_path / name / "test-real" / codec)
        publish["copy_evaluation"](tmp_path / name, name)
    made = sorted(path.parent.name for path in tmp_path.glob("cards/test-real/*/card.json"))
    assert made == ["demo", "demo-decoder", "demo-stream", "demo-stream-decoder", "opus-6"]
    table = "<!-- figures of test-real: demo-stream other | kbps -->\n| | | |\n|-|-|-|\n| a | | 7 |"
    assert publish["filled"](table, "page").endswith("| a | 0.65 | 7 |")
    assert "page: line 1: no result card test-real/other; its column" in capsys.readouterr().out
    with pytest.raises(UserError, match="no SET/CODEC/card.json"):
        publish["copy_evaluation"](real, "demo-25hz")
