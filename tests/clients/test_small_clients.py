"""Smaller programs: README, tokens of a folder, a codec without encoder, other rates, exports."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official.models import CONFIGS, fill, inputs, make_codec, uniform
from benchmarks.official.packages import Package
from tests.clients.sequences import outcome, params


def readme(package: Package) -> Any:
    """Encode, look at codes, decode; then conversion."""
    codec = make_codec(package, CONFIGS["50hz"])
    codec.eval().requires_grad_(False)
    sig = uniform("readme", (1, 700))
    toks = codec.sig_to_toks(sig)
    codes = codec.toks_to_codes(toks)
    feats = codec.sig_to_feats(uniform("voice", (1, 900)))[0]
    converted = codec.toks_to_sig(toks, matching_set=feats)
    return codec.sample_rate, toks, codes, codec.toks_to_sig(toks), converted


def saved(package: Package) -> Any:
    """Save a configuration with its checkpoint, and load it by its name without .json."""
    codec = make_codec(package, CONFIGS["25hz"])
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sub" / "codec")
        codec.to_pretrained(path)
        config = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        loaded = package.codec.FocalCodec.from_pretrained(path).eval()
    with torch.no_grad():
        return config, loaded(inputs("25hz")["sig"])


def without_encoder(package: Package) -> Any:
    """A generator of speech that keeps the decoding parts only."""
    codec = make_codec(package, CONFIGS["12_5hz"])
    if hasattr(codec, "encoder"):
        del codec.encoder
        del codec.compressor
    with torch.no_grad():
        return codec.toks_to_sig(inputs("12_5hz")["toks"])


def half_rate(package: Package) -> Any:
    """A codec of half the token rate, from the configurations of another."""
    base = make_codec(package, CONFIGS["50hz_2k_causal"])
    compressor, decompressor = dict(base.compressor_config), dict(base.decompressor_config)
    compressor["downscale_factors"], compressor["output_dim"] = [2, 1, 1], 10
    decompressor["upscale_factors"], decompressor["input_dim"] = [1, 1, 2], 10
    codec = package.codec.FocalCodec(
        encoder_name=base.encoder_name,
        encoder_config=base.encoder_config,
        compressor_name=base.compressor_name,
        compressor_config=compressor,
        quantizer_name=base.quantizer_name,
        quantizer_config={"codebook_size": 2**10},
        decompressor_name=base.decompressor_name,
        decompressor_config=decompressor,
        decoder_name=base.decoder_name,
        decoder_config=base.decoder_config,
    )
    with torch.no_grad():
        return fill(codec)(uniform("half", (2, 640)))


def fourth_layer(package: Package) -> Any:
    """One more layer at the end of the compressor."""
    codec = make_codec(package, CONFIGS["50hz_2k_causal"])
    layer = package.focalnet.FocalDownScale(
        input_dim=8, output_dim=8, downscale_factor=2, causal=True, window_size=12
    )
    codec.compressor.layers.append(fill(layer))
    with torch.no_grad():
        return codec.sig_to_toks(uniform("fourth", (2, 640)))


class Features(nn.Module):
    """The encoder with one output, as programs wrap it before an export."""

    def __init__(self, codec: Any) -> None:
        super().__init__()
        self.encoder = codec.encoder

    def forward(self, sig: Tensor) -> Tensor:
        out = self.encoder(sig)
        return out[0] if isinstance(out, (tuple, list)) else out


def traced(package: Package) -> Any:
    """The encoder traced at a second, run at other lengths."""
    wrapper = Features(make_codec(package, CONFIGS["50hz"])).eval()
    with torch.no_grad():
        trace = torch.jit.trace(wrapper, torch.zeros(1, 800), check_trace=False)
        return [trace(uniform("traced", (1, samples))) for samples in (800, 480, 1500)]


def stepwise(package: Package) -> Any:
    """Tuning of the decompressor alone, step by step through the methods of the codec."""
    codec = make_codec(package, CONFIGS["50hz_2k_causal"])
    codec.requires_grad_(False)
    codec.decompressor.requires_grad_(True).train()
    target = make_codec(package, CONFIGS["50hz_2k_causal"]).eval()
    optimizer = torch.optim.AdamW(codec.decompressor.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        feats = codec.sig_to_feats(uniform("tuning", (2, 320)))
        lats = codec.feats_to_lats(feats)
        qfeats = codec.codes_to_qfeats(codec.lats_to_codes(lats))
        loss = nn.functional.mse_loss(qfeats, target.sig_to_feats(uniform("tuning", (2, 320))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def copied(package: Package) -> Any:
    """A copy of the whole codec in half precision, and its parts by name."""
    codec = copy.deepcopy(make_codec(package, CONFIGS["50hz"])).to(torch.bfloat16)
    parts = {name: type(module).__name__ for name, module in codec.named_children()}
    return parts, str(next(codec.decoder.parameters()).dtype), codec.info()["num_total_params"]


SEQUENCES = {
    "readme": readme,
    "saved and loaded": saved,
    "without encoder": without_encoder,
    "half rate": half_rate,
    "fourth layer": fourth_layer,
    "traced encoder": traced,
    "tuning step by step": stepwise,
    "copied": copied,
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
