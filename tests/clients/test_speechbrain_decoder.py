"""SpeechBrain's LibriTTS/focalcodec/train_decoder.py, and its twin of the causal codec.

Features of whole padded clips, random segments of them, a generator and a discriminator.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official.models import CONFIGS, fill, part_class, uniform
from benchmarks.official.packages import Package
from tests.clients.sequences import outcome, padded_batch, params, train

FRAMES = 10  # of a segment


def decoder(package: Package, model: str) -> Any:
    """Losses of the training, and the audio of a validation."""
    config = CONFIGS[model]
    hop = config["decoder_config"]["hop_length"]
    sig, lens = padded_batch(640)
    encoder_config = config["encoder_config"] | {"causal": False}
    encoder = fill(part_class(package, config, "encoder")(**encoder_config))
    with torch.no_grad():
        assert encoder.sample_rate == 16000
        feats, *_ = encoder(sig, length=lens)
    audio = uniform("audio", (3, feats.shape[1] * hop))
    valid = (lens * feats.shape[1]).ceil().clamp(min=FRAMES, max=feats.shape[1]).long()
    starts = (torch.tensor([0.9, 0.2, 0.5]) * (valid - FRAMES + 1)).long()
    rows = [slice(start, start + FRAMES) for start in starts.tolist()]
    segments = torch.stack([feats[i, row] for i, row in enumerate(rows)])
    target = torch.stack([audio[i, row.start * hop : row.stop * hop] for i, row in enumerate(rows)])

    def make() -> nn.ModuleDict:
        generator = part_class(package, config, "decoder")(**config["decoder_config"])
        return nn.ModuleDict({"generator": generator, "discriminator": nn.Conv1d(1, 2, 9, 4)})

    def loss_of(modules: nn.ModuleDict) -> Tensor:
        rec_sig, *_ = modules["generator"](segments)
        judge = modules["discriminator"]
        fake, real = judge(rec_sig[:, None]), judge(target[:, None])
        features = (fake - real.detach()).abs().mean()
        return features - fake.mean() + 45 * (rec_sig - target).abs().mean()

    result = train(make, loss_of)
    generator = fill(make())["generator"]
    with torch.no_grad():
        return result, generator(feats)[0]


SEQUENCES = {
    "SpeechBrain decoder": partial(decoder, model="50hz"),
    "SpeechBrain stream decoder": partial(decoder, model="50hz_4k_causal"),
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
