"""SpeechBrain's LibriTTS/focalcodec/train_quantizer.py, and its twin of the causal codec.

A frozen encoder with relative lengths, the compressor, SpeechBrain's quantizer, the decompressor.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official.models import CONFIGS, fill, part_class
from benchmarks.official.packages import Package
from tests.clients.sequences import masked_mse, outcome, padded_batch, params, train


def quantizer(package: Package, model: str, padded: bool = True) -> Any:
    """Losses of the training, and the audio of a validation."""
    from speechbrain.lobes.models.bsq import BinarySphericalQuantizer

    config = CONFIGS[model] | {"decompressor_config": dict(CONFIGS[model]["decompressor_config"])}
    config["decompressor_config"]["lookahead_size"] = 0  # no refiner in this stage
    sig, lens = padded_batch()
    if not padded:
        sig, lens = sig[:1], lens[:1]
    encoder = fill(part_class(package, config, "encoder")(**config["encoder_config"]))
    decoder = fill(part_class(package, config, "decoder")(**config["decoder_config"]))

    def make() -> nn.ModuleDict:
        bits = config["compressor_config"]["output_dim"]
        return nn.ModuleDict(
            {
                "compressor": part_class(package, config, "compressor")(
                    **config["compressor_config"]
                ),
                "quantizer": BinarySphericalQuantizer(
                    code_dim=bits, entropy_loss_weight=0.1, diversity_gamma=1.0
                ),
                "decompressor": part_class(package, config, "decompressor")(
                    **config["decompressor_config"]
                ),
            }
        )

    def forward(modules: nn.ModuleDict) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            encoder.eval()
            feats, *_ = encoder(sig, length=lens)
        lats, *_ = modules["compressor"](feats)
        codes, _, aux_loss = modules["quantizer"](lats)
        rec_feats, *_ = modules["decompressor"](codes)
        return rec_feats, feats, aux_loss

    def loss_of(modules: nn.ModuleDict) -> Tensor:
        rec_feats, feats, aux_loss = forward(modules)
        return masked_mse(rec_feats, feats, lens) + aux_loss

    result = train(make, loss_of)
    with torch.no_grad():
        rec_feats, feats, _ = forward(fill(make()))
        audio = [decoder(x)[0] for x in (rec_feats, feats)]
    return result, audio


SEQUENCES = {
    "SpeechBrain quantizer": partial(quantizer, model="50hz"),
    "SpeechBrain quantizer, one clip": partial(quantizer, model="50hz", padded=False),
    "SpeechBrain stream quantizer": partial(quantizer, model="50hz_4k_causal"),
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
