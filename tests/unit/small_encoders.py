"""Tiny models of `transformers`, random weights, that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.packages import ensure_torchaudio
from focalcodec.vocos import Vocos

STRUCTURES = {
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
    "base": {"do_stable_layer_norm": False, "feat_extract_norm": "group"},
}
WAVEFORM = [(kind, norm) for kind in ("wavlm", "hubert", "wav2vec2") for norm in STRUCTURES]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "vocab_size": 8,
    **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")},
}
CASES = [*WAVEFORM, ("whisper", "")]


def transformers() -> Any:
    """The package, beside a torchaudio that may not fit torch."""
    ensure_torchaudio()
    import transformers

    return transformers


def model_of(kind: str, structure: str = "", **options: Any) -> Any:
    """A tiny model with random weights, norms and biases included."""
    sizes = WHISPER if kind == "whisper" else SMALL | STRUCTURES[structure]
    torch.manual_seed(0)
    config = transformers().AutoConfig.for_model(kind, **(sizes | options))
    model = transformers().AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model


def codec_of(encoder: SpeechEncoder) -> FocalCodec:
    """A codec of random weights around an encoder, in eval mode."""
    torch.manual_seed(0)
    return FocalCodec(
        encoder,
        FocalEncoder(encoder.dim, 6, [16, 8], [1, 1]),
        BinarySphericalQuantizer(64),
        FocalDecoder(6, encoder.dim, [8, 16], [1, 1]),
        Vocos(encoder.dim, num_layers=1, dim=8, ffn_dim=8),
    ).eval()
