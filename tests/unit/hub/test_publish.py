"""An exported folder: three loaders, the model card, and the upload, to a hub that is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import CommitInfo, ModelCard, RepoUrl
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, dynamic_module_utils

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.hub.publish import About, model_card, publish
from focalcodec.modeling_focalcodec import FocalCodecModel
from focalcodec.vocos import Vocos
from tests.unit.small_codecs import GOLDEN, golden_codec, logmel_codec

CAUSAL = "tiny_50hz_causal"


@pytest.fixture(autouse=True)
def modules_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code of a folder here."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    codec = golden_codec(CAUSAL)
    publish(codec, tmp_path / "my_codec", model_card(codec, "my_codec"))
    return tmp_path / "my_codec"


# -- loaders ---------------------------------------------------------------------------------------


def test_automodel_gives_what_the_codec_gives(folder: Path) -> None:
    codec, sig = FocalCodec.from_pretrained(folder), torch.randn(2, 1, 8000) / 9
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert (config.encoder_name, config.sampling_rate) == ("WavLM", 16000)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert not model.training
    toks, _, rec_sig = codec(sig[:, 0])
    output = model(sig)
    assert torch.equal(output.audio_codes, toks[:, None])
    assert torch.equal(output.audio_values, rec_sig[:, None])
    assert torch.equal(model.encode(sig[:, 0]).audio_codes, toks[:, None])
    assert torch.equal(model.decode(toks[:, None]).audio_values[:, 0], codec.decode(toks))


@pytest.mark.parametrize("hop", [320, 480])
def test_automodel_in_padded_batches(hop: int, tmp_path: Path) -> None:
    """Also where the output has another rate than the input, as in the causal models."""
    plain = logmel_codec()
    decoder = Vocos(80, num_layers=1, dim=16, ffn_dim=24, hop_length=hop)
    parts = plain.encoder, plain.compressor, plain.quantizer, plain.decompressor
    codec = FocalCodec(*parts, decoder).eval()
    publish(codec, tmp_path / "codec", model_card(codec, "codec"))
    model = AutoModel.from_pretrained(tmp_path / "codec", trust_remote_code=True)
    sig, mask = torch.randn(2, 1, 8000) / 9, torch.ones(2, 8000)
    mask[1, 5000:] = 0
    output, alone = model(sig, padding_mask=mask), model.encode(sig[1:, :, :5000])
    tokens = int(output.audio_codes_mask[1].sum())
    assert tokens == alone.audio_codes.shape[2] < output.audio_codes.shape[2]
    assert torch.equal(output.audio_codes[1:, :, :tokens], alone.audio_codes)
    assert output.audio_values.shape == model(sig).audio_values.shape == (2, 1, 25 * hop)
    assert not output.audio_values[1, :, 5000 * hop // 320 :].any()


def test_automodel_options_and_copies(folder: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.bfloat16, device_map="cpu"
    )
    assert model.dtype == torch.bfloat16
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    sig = torch.randn(1, 8000, requires_grad=True)
    model(sig).audio_values.square().sum().backward()
    assert bool(sig.grad.any())
    model.save_pretrained(tmp_path / "copy")
    again = AutoModel.from_pretrained(tmp_path / "copy", trust_remote_code=True)
    assert weights_sha256(again.codec) == weights_sha256(golden_codec(CAUSAL))
    assert (tmp_path / "copy" / "README.md").read_text() == (folder / "README.md").read_text()
    untrained = AutoModel.from_config(model.config, trust_remote_code=True)
    assert weights_sha256(untrained.codec) != weights_sha256(again.codec)


def test_without_the_code_of_the_folder(folder: Path) -> None:
    """The class of the package loads any checkpoint, the authors' too."""
    for source in (folder, GOLDEN["tiny_50hz_v1"]):
        model = FocalCodecModel.from_pretrained(source)
        assert torch.isfinite(model(torch.randn(1, 8000) / 9).audio_values).all()
    with pytest.raises(UserError, match="not a folder, nor the name"):
        FocalCodecModel.from_pretrained("gone")


def test_the_official_package_can_load_it(folder: Path) -> None:
    """It makes a codec of all keys of x.json, with the weights in x.safetensors."""
    official = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert sorted(official) == sorted(golden_codec(CAUSAL).config)
    assert (folder / "model.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")).items() >= (
        official.items()
    )
    for source in (folder, folder / "model.json", folder / "model", folder / "config.json"):
        if source != folder / "config.json":
            loaded = FocalCodec.from_pretrained(source)
            assert weights_sha256(loaded) == weights_sha256(golden_codec(CAUSAL))


def test_a_processor_pads_the_batch(folder: Path) -> None:
    processor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    clips = [
        np.random.default_rng(0).standard_normal(n).astype(np.float32) / 9 for n in (8000, 5000)
    ]
    with pytest.raises(ValueError, match="16000"):
        processor(clips, sampling_rate=8000)
    batch = processor(clips, sampling_rate=16000, padding=True, return_tensors="pt")
    output = model(**batch)
    alone = model.encode(clips[1][None]).audio_codes
    assert torch.equal(output.audio_codes[1:, :, : alone.shape[2]], alone)
    for call, x in ((model, torch.zeros(1, 2, 8000)), (model.decode, torch.zeros(8))):
        with pytest.raises(UserError, match=r": shape .*give .batch, 1, length"):
            call(x)


# -- the model card --------------------------------------------------------------------------------


def test_the_card_is_one_of_the_hub(tmp_path: Path) -> None:
    codec = golden_codec(CAUSAL)
    about = About("Speech of *A*.", "| dWER |", "cc-by-4.0", ("en", "fr"))
    (tmp_path / "README.md").write_text(model_card(codec, "mine", about), encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.language == ["en", "fr"]
    assert card.data.library_name == "focalcodec"
    for text in ("# mine", "Speech of *A*.", "| dWER |", weights_sha256(codec), "yes, 80 ms"):
        assert text in card.text
    plain = ModelCard(model_card(codec, "mine"))
    assert plain.data.license is None
    assert "Not stated" in plain.text
    assert plain.text.count("Not known") == 2


def evaluation(folder: Path, sha256: str) -> Path:
    """Output of an evaluation of one codec on one set."""
    figure = {"value": 12.34, "low": 10.0, "high": 15.0, "count": 3}
    card = {
        "format": 1,
        "set": {"name": "test-own", "count": 3, "seconds": 9.0, "kind": "real"},
        "codec": {"name": "mine", "weights_sha256": sha256, "kbps": 0.6, "settings": {}},
        "columns": [{"key": "dwer", "title": "dWER", "unit": "%", "better": "lower"}],
        "figures": {"dwer": figure},
        "splits": {},
        "usage": None,
        "speed": None,
        "missing": {},
    }
    path = folder / "test-own" / "mine" / "card.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_export_writes_the_figures_of_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = str(GOLDEN["tiny_50hz"]), str(tmp_path / "out")
    results = evaluation(tmp_path / "eval", weights_sha256(golden_codec("tiny_50hz")))
    words = ["export", source, source, out, "--license", "mit", "--language", "en"]
    assert main([*words, "--results", str(results), "--training_data", "Own speech, CC0."]) == 0
    card = ModelCard.load(Path(out, "README.md"))
    assert (card.data.license, card.data.language) == ("mit", ["en"])
    for text in ("12.3 [10.0, 15.0]", "test-own: 3 clips", "Own speech, CC0.", "`tiny_50hz`"):
        assert text in card.text
    assert str(tmp_path) not in card.text
    assert "Not known" not in card.text
    other = evaluation(tmp_path / "other", "0" * 64)
    capsys.readouterr()
    assert main([*words, "--overwrite", "--results", str(other)]) == 2
    assert "no result card of these weights" in capsys.readouterr().err
    assert "12.3 [10.0, 15.0]" in Path(out, "README.md").read_text()


# -- upload ----------------------------------------------------------------------------------------


class FakeHub:
    """The calls of `HfApi` that an upload makes, and what it got."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}

    def __call__(self, token: str | None = None) -> FakeHub:
        self.calls.append(("token", {"token": token}))
        return self

    def create_repo(self, repo_id: str, **options: Any) -> RepoUrl:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        if self.problem is not None:
            raise self.problem
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, folder_path: Path, **options: Any) -> CommitInfo:
        self.calls.append(("upload_folder", options))
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        url = f"https://huggingface.co/{options['repo_id']}/commit/1"
        return CommitInfo(url, options["commit_message"], "", "1")


def test_push_to_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = FocalCodec.from_pretrained(folder)
    own = (folder / "README.md").read_text() + "\nAnd a line of mine.\n"
    (folder / "README.md").write_text(own)
    for pushed in (codec, AutoModel.from_pretrained(folder, trust_remote_code=True)):
        hub = FakeHub()
        monkeypatch.setattr(huggingface_hub, "HfApi", hub)
        address = pushed.push_to_hub("me/mine", private=True, token="secret", revision="next")
        assert address == "https://huggingface.co/me/mine/commit/1"
        assert hub.calls[0] == ("token", {"token": "secret"})
        assert hub.calls[1][1] == {"repo_id": "me/mine", "private": True, "exist_ok": True}
        assert hub.calls[2][1]["revision"] == "next"
        assert sorted(hub.files) == sorted(path.name for path in folder.iterdir())
        assert hub.files["README.md"].decode() == own  # the card beside the weights
        for name, content in hub.files.items():
            (tmp_path / "down" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "down" / name).write_bytes(content)
        assert weights_sha256(FocalCodec.from_pretrained(tmp_path / "down")) == (
            weights_sha256(codec)
        )
    # of other weights, that card would be wrong
    with torch.no_grad():
        codec.compressor.out_proj.bias += 1.0
    codec.push_to_hub("me/mine")
    assert "And a line of mine" not in hub.files["README.md"].decode()
    assert weights_sha256(codec) in hub.files["README.md"].decode()


def test_a_hub_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub(OSError("401 Unauthorized\nmore")))
    with pytest.raises(UserError, match=r"^me/mine: not uploaded .401 Unauthorized.; check name"):
        golden_codec(CAUSAL).push_to_hub("me/mine")
