"""SpeechBrain's LibriTTS/focalcodec-stream: train_posemb.py, train_encoder.py, train_joint.py.

A causal student learns from hooks on the full-context teacher, or from its output.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official.models import CONFIGS, fill, part_class
from benchmarks.official.packages import Package
from tests.clients.sequences import (
    masked_mse,
    outcome,
    padded_batch,
    params,
    same_frames,
    train,
)

CONFIG = CONFIGS["50hz_4k_causal"]


class Watch:
    """Inputs and outputs of submodules at the last call."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        modules = dict(model.named_modules())
        for name in names:
            modules[name].register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            self.inputs[name], self.outputs[name] = inputs, output

        return hook


def encoder(package: Package, **changes: Any) -> Any:
    """An encoder with the weights of its names, frozen by its caller where needed."""
    arguments = CONFIG["encoder_config"] | changes
    return fill(part_class(package, CONFIG, "encoder")(**arguments))


def posemb(package: Package) -> Any:
    """The causal positional embedding learns the output of the teacher's."""
    (sig, lens), name = padded_batch(), "encoder.positional_embedding"
    teacher = encoder(package, causal=False)
    watch = Watch(teacher, [name])
    with torch.no_grad():
        teacher(sig, length=lens)
    inputs, target = watch.inputs[name], watch.outputs[name][0]

    def make() -> nn.ModuleDict:
        student = package.wavlm.ConvPositionalEmbedding(dim=8, kernel_size=8, groups=2, causal=True)
        return nn.ModuleDict({"student": student})

    def loss_of(modules: nn.ModuleDict) -> Tensor:
        output, *_ = modules["student"](*inputs)
        return masked_mse(same_frames(output, target.shape[1]), target, lens)

    assert teacher.encoder.positional_embedding.state_dict().keys() == {"conv.weight", "conv.bias"}
    return train(make, loss_of)


def distil(package: Package) -> Any:
    """The causal encoder learns the layers of the teacher; two parts of it are frozen."""
    sig, lens = padded_batch()
    names = ["encoder.layers.0", "encoder.layers.1"]
    weights = torch.tensor([0.5, 1.0])
    teacher = encoder(package, causal=False)
    watch = Watch(teacher, names)
    with torch.no_grad():
        teacher(sig, length=lens)
    target = torch.stack([watch.outputs[name][0] for name in names], dim=-1)

    def make() -> nn.ModuleDict:
        student = encoder(package, causal=True, max_cached_steps=0)
        student.encoder.positional_embedding.requires_grad_(False)
        student.encoder.relative_embedding.requires_grad_(False)
        return nn.ModuleDict({"student": student})

    def loss_of(modules: nn.ModuleDict) -> Tensor:
        seen = Watch(modules["student"], names)
        modules["student"](sig, length=lens)
        layers = [same_frames(seen.outputs[name][0], target.shape[1]) for name in names]
        return ((torch.stack(layers, dim=-1) - target) ** 2 * weights).mean()

    return train(make, loss_of, lr=5e-5)


def joint(package: Package) -> Any:
    """The causal encoder, the compressor and the decompressor learn the feats of the teacher."""
    from speechbrain.lobes.models.bsq import BinarySphericalQuantizer

    sig, lens = padded_batch()
    with torch.no_grad():
        target, *_ = encoder(package, causal=False)(sig, length=lens)

    def make() -> nn.ModuleDict:
        student = encoder(package, causal=True, max_cached_steps=0)
        student.encoder.positional_embedding.requires_grad_(False)
        student.encoder.relative_embedding.requires_grad_(False)
        parts = {
            part: part_class(package, CONFIG, part)(**CONFIG[f"{part}_config"])
            for part in ("compressor", "decompressor")
        }
        return nn.ModuleDict({"encoder": student, "bsq": BinarySphericalQuantizer(12), **parts})

    def loss_of(modules: nn.ModuleDict) -> Tensor:
        feats, *_ = modules["encoder"](sig, length=lens)
        lats, *_ = modules["compressor"](feats)
        codes, _, aux_loss = modules["bsq"](lats)
        qfeats, *_ = modules["decompressor"](codes)
        return masked_mse(same_frames(qfeats, target.shape[1]), target, lens) + aux_loss

    return train(make, loss_of, lr=5e-5)


SEQUENCES = {
    "SpeechBrain stream posemb": posemb,
    "SpeechBrain stream encoder": distil,
    "SpeechBrain stream joint": joint,
}


@pytest.mark.parametrize(("name", "run"), params(SEQUENCES))
def test_gives_what_it_gives_with_the_official_package(name: str, run: Any) -> None:
    result = outcome(name, run)
    assert result.ok, result.text
