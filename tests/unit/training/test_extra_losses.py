"""A further term of the loss counts in training, validation, figures and the best checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.quantizer_base import QuantizerBase
from tests.unit.training import tiny

ME = "!name:tests.unit.training.test_extra_losses"


def size_loss(out: Any) -> Tensor:
    """Of stage 1 (B, N), of stage 2 (B,)."""
    if hasattr(out, "qfeats"):
        return out.qfeats.float().square().mean(dim=-1)
    return out.rec_sig.square().mean(dim=1)


class Codebook(QuantizerBase):
    """A vector quantizer with weights, a commitment loss, and no entropies."""

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__()
        self.config = {"dim": dim, "codebook_size": codebook_size}
        self.dim, self.codebook_size = dim, codebook_size
        self.codes = torch.nn.Parameter(torch.randn(codebook_size, dim))

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        return self.toks_to_codes(self.codes_to_toks(lats))

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        return torch.cdist(codes, self.codes[None]).argmin(dim=-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        return self.codes[self.checked(toks)]

    def frame_losses(self, lats: Tensor, toks: Tensor) -> dict[str, Tensor]:
        return {"commitment_loss": (lats - self.codes[toks]).square().mean(dim=-1)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def make(stage: str, folder: Path, data: Path, **changes: Any) -> Any:
    return tiny.make_brain(stage, folder, data, **changes)[0]


def validated(brain: Any, data: Path) -> dict[str, float]:
    brain.modules.eval()
    brain.on_stage_start(sb.Stage.VALID, 1)
    for row in tiny.clips(data, "dev"):
        brain.evaluate_batch(tiny.batch_of([row]), sb.Stage.VALID)
    return brain.stage_stats(sb.Stage.VALID)


def terms(weight: float) -> dict[str, Any]:
    return {"size_loss": {"weight": weight, "loss": f"{ME}.size_loss "}}


def test_of_stage_1(data: Path, tmp_path: Path) -> None:
    plain = validated(make("quantizer", tmp_path / "a", data), data)
    brain = make("quantizer", tmp_path / "b", data, extra_losses=terms(0.5))
    stats = validated(brain, data)
    assert stats["loss"] == pytest.approx(plain["loss"] + 0.5 * stats["size_loss"], rel=1e-5)
    assert {**stats, "loss": 0.0} == {**plain, "size_loss": stats["size_loss"], "loss": 0.0}
    column = brain.monitor.figures.column("size_loss")
    assert column.better == "lower" and "size_loss" in brain.monitor.figures.shown


def test_of_stage_2(data: Path, tmp_path: Path) -> None:
    plain = validated(make("vocoder", tmp_path / "a", data), data)
    brain = make("vocoder", tmp_path / "b", data, extra_losses=terms(90.0))
    stats = validated(brain, data)
    assert stats["mel_loss"] == plain["loss"]  # 90 beside mel_weight, which is 45
    assert stats["loss"] == pytest.approx(plain["loss"] + 2.0 * stats["size_loss"], rel=1e-5)
    assert brain.monitor.figures.title("loss", "valid") == "mel distance and further terms ↓"
    with pytest.raises(UserError, match="extra_losses: their weights are beside mel_weight"):
        make("vocoder", tmp_path / "c", data, extra_losses=terms(1.0), mel_weight=0.0)


def test_in_a_brain_of_ones_own(data: Path, tmp_path: Path) -> None:
    """Also where it is added after the recipe's own loss."""
    base = tiny.brain_class("quantizer")

    class Mine(base):  # type: ignore[misc, valid-type]
        def compute_objectives(self, out: Any, batch: Any, stage: Any) -> Tensor:
            loss = super().compute_objectives(out, batch, stage)
            return loss + 0.5 * self.frame_mean("size_loss", size_loss(out), out.frames)

    plain = validated(make("quantizer", tmp_path / "a", data), data)
    changed, train_set, valid_set = tiny.make_brain(
        "quantizer", tmp_path / "b", data, brain_class=Mine, number_of_epochs=1
    )
    stats = validated(changed, data)
    assert stats["loss"] == pytest.approx(plain["loss"] + 0.5 * stats["size_loss"], rel=1e-5)
    tiny.fit(changed, train_set, valid_set)
    train = changed.history[0]["train"]
    entropies = train["sample_entropy"] - changed.hparams.gamma * train["codebook_entropy"]
    whole = train["feature_loss"] + changed.hparams.entropy_weight * entropies
    assert train["loss"] == pytest.approx(whole + 0.5 * train["size_loss"], rel=0.05)
    assert train["loss"] > whole


def test_of_a_quantizer_with_weights(data: Path, tmp_path: Path) -> None:
    """It is trained, stored, and its own terms count."""
    quantizer = f"{ME.replace('name', 'new')}.Codebook {{dim: 4, codebook_size: 10}}"
    modules = {"quantizer": quantizer}
    with pytest.raises(UserError, match="entropy_weight=0.03: Codebook has no entropy_terms"):
        make("quantizer", tmp_path / "a", data, modules=modules)
    brain, train_set, valid_set = tiny.make_brain(
        "quantizer", tmp_path / "b", data, modules=modules, entropy_weight=0.0, number_of_epochs=1
    )
    before = tiny.weights(brain)
    tiny.fit(brain, train_set, valid_set)
    assert not torch.equal(before["quantizer.codes"], brain.modules.quantizer.codes)
    valid = brain.history[0]["valid"]
    assert valid["loss"] == pytest.approx(valid["feature_loss"] + valid["commitment_loss"])
    assert 0 < valid["code_usage"] <= 100 and "codebook_entropy" not in valid
    assert list((tmp_path / "b" / "save").glob("CKPT*/quantizer.ckpt"))


def test_a_wrong_shape_is_named(data: Path, tmp_path: Path) -> None:
    brain = make("quantizer", tmp_path / "a", data, feature_loss="!name:torch.sub ")
    with pytest.raises(UserError, match=r"feature_loss: \(1, 35, 8\); give a number per frame"):
        validated(brain, data)
    wrong = {"size_loss": {"weight": 1, "loss": "!name:torch.numel "}}
    brain = make("quantizer", tmp_path / "b", data, extra_losses=wrong)
    brain.terms = {"size_loss": brain.terms["size_loss"].__class__(1.0, lambda out: out.qfeats)}
    with pytest.raises(UserError, match=r"size_loss: \(1, 35, 8\); give a number per frame"):
        validated(brain, data)
