"""The wrapper of audiocodecs: modes encode, decode and reconstruct."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.official.models import CONFIGS, inputs, make_codec, uniform
from benchmarks.official.packages import Package
from tests.clients.sequences import outcome, params

MODEL = "50hz_4k_causal"


class Wrapper:
    """A codec without the parts that a mode does not need."""

    def __init__(self, package: Package, mode: str) -> None:
        self.model = make_codec(package, CONFIGS[MODEL])
        assert self.model.sample_rate_input == 16000
        assert self.model.codebook.shape[0] == 4096
        self.rate = self.model.sample_rate_output
        if mode == "encode":
            self.model.decoder = None
        elif mode == "decode":
            self.model.encoder = None
            self.model.compressor = None

    def embeddings(self) -> Tensor:
        """The codebook, (1, 4096, L)."""
        return self.model.codebook[None]


def wrapped(package: Package, mode: str) -> Any:
    """What each method of the wrapper gives in a mode."""
    with torch.no_grad():
        wrapper = Wrapper(package, mode)
        sig, toks = uniform("wrapped", (2, 480)), inputs(MODEL)["toks"]
        results: dict[str, Any] = {"rate": wrapper.rate} if mode != "decode" else {}
        results["embeddings"] = wrapper.embeddings()[:, ::512]
        if mode != "decode":
            toks = wrapper.model.sig_to_toks(sig)
            results["toks"] = toks[..., None]
            results["feats"] = wrapper.model.sig_to_feats(sig)
            results["qfeats"] = wrapper.model.sig_to_qfeats(sig)
        if mode != "encode":
            results["sig"] = wrapper.model.toks_to_sig(toks)
            results["decoded qfeats"] = wrapper.model.toks_to_qfeats(toks)
            results["decoded feats"] = wrapper.model.feats_to_sig(inputs(MODEL)["feats"])
        return results


SEQUENCES = {
    f"audiocodecs {mode}": partial(wrapped, mode=mode)
    for mode in ("encode", "decode", "reconstruct")
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
