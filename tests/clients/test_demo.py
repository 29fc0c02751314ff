"""The official demo.py: offline, conversion, streaming, streaming conversion, and --jit."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.official.models import CONFIGS, make_codec, uniform
from benchmarks.official.packages import Package
from tests.clients.sequences import outcome, params


def demo(
    package: Package, model: str, convert: bool = False, streaming: bool = False, jit: bool = False
) -> Any:
    """What the program does with these options."""
    with torch.no_grad():
        codec = make_codec(package, CONFIGS[model])
        codec.eval().to(torch.device("cpu"))
        assert codec.causal or not streaming
        voice = reference_frames(package) if convert else None
        if jit:
            codec = codec.jit()
        state: list[Any] = []
        for _ in range(2):  # warm-up
            _, _, _, *state = codec(torch.randn(1, codec.chunk_size), *state, return_state=True)
        sig = uniform("demo", (1, 390))
        rates = codec.sample_rate_input, codec.sample_rate_output
        if streaming:
            return rates, stream(codec, sig, voice)
        return rates, codec.toks_to_sig(codec.sig_to_toks(sig), matching_set=voice)


def reference_frames(package: Package) -> Tensor:
    """Features of two recordings of the wanted speaker, from the offline codec."""
    offline = make_codec(package, CONFIGS["50hz"])
    return torch.cat([offline.sig_to_feats(uniform(n, (1, 800)))[0] for n in ("a", "b")])


def stream(codec: Any, sig: Tensor, voice: Tensor | None) -> Tensor:
    """Chunk by chunk, the last one with zeros; four states are passed on."""
    encoder: Any = []
    compressor: Any = []
    decompressor: Any = []
    decoder: Any = []
    output = []
    for chunk in sig.split(codec.chunk_size, dim=-1):
        chunk = torch.nn.functional.pad(chunk, (0, codec.chunk_size - chunk.shape[1]))
        toks, encoder, compressor = codec.sig_to_toks(chunk, encoder, compressor, return_state=True)
        rec_sig, decompressor, decoder = codec.toks_to_sig(
            toks, decompressor, decoder, matching_set=voice, return_state=True
        )
        output.append(rec_sig[0])
    return torch.cat(output)


SEQUENCES = {
    "demo offline": partial(demo, model="50hz"),
    "demo offline, causal": partial(demo, model="50hz_4k_causal"),
    "demo conversion": partial(demo, model="50hz", convert=True),
    "demo streaming": partial(demo, model="50hz_4k_causal", streaming=True),
    "demo streaming conversion": partial(
        demo, model="50hz_4k_causal", streaming=True, convert=True
    ),
    "demo offline --jit": partial(demo, model="50hz", jit=True),
    "demo streaming --jit": partial(demo, model="50hz_4k_causal", streaming=True, jit=True),
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
