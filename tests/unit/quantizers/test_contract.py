"""What all quantizers have in common: tokens, codes, padding, gradients, configuration, files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.quantizer_base import QuantizerBase
from focalcodec.parts import build_part
from focalcodec.quantizers.fsq import FiniteScalarQuantizer
from focalcodec.quantizers.lfq import LookupFreeQuantizer
from focalcodec.quantizers.ssq import ScalarSphericalQuantizer
from focalcodec.quantizers.vq import SimVQ, VectorQuantizer
from focalcodec.vocos import Vocos


def vq() -> VectorQuantizer:
    """Vectors after k-means of random lats."""
    quantizer = VectorQuantizer(16, 4, dead_below=1).train()
    torch.manual_seed(0)
    quantizer.run(torch.randn(4, 50, 4))
    return quantizer


MAKE: dict[str, Callable[[], QuantizerBase]] = {
    "bsq": lambda: BinarySphericalQuantizer(16),
    "lfq": lambda: LookupFreeQuantizer(16),
    "fsq": lambda: FiniteScalarQuantizer([4, 4, 3, 2]),
    "ssq": lambda: ScalarSphericalQuantizer(4, 3),
    "vq": vq,
    "simvq": lambda: SimVQ(16, 4),
}
every = pytest.mark.parametrize("name", MAKE)


@every
def test_tokens_of_lats_have_their_codes(name: str) -> None:
    quantizer = MAKE[name]().eval()
    lats = torch.randn(3, 40, 4)
    toks, codes = quantizer(lats)
    assert toks.dtype == torch.int64 and toks.shape == (3, 40) and codes.shape == lats.shape
    assert 0 <= toks.min() and toks.max() < quantizer.codebook_size
    assert torch.equal(quantizer.lats_to_toks(lats), toks)
    assert torch.equal(quantizer.codes_to_toks(codes), toks)
    torch.testing.assert_close(quantizer.toks_to_codes(toks), codes)
    torch.testing.assert_close(quantizer.codebook[toks], codes)
    assert len(toks.unique()) > quantizer.codebook_size / 4
    with pytest.raises(UserError, match=rf"\[0, {quantizer.codebook_size}\)"):
        quantizer.toks_to_codes(torch.tensor([quantizer.codebook_size]))
    with pytest.raises(UserError, match="width 5"):
        quantizer.codes_to_toks(torch.randn(1, 2, 5))


@every
@pytest.mark.parametrize("train", [True, False])
def test_padding_changes_nothing(name: str, train: bool) -> None:
    quantizer = MAKE[name]().train(train)
    lats = torch.randn(2, 30, 4)
    garbage = lats.clone()
    garbage[1, 12:] = float("nan")
    lengths = torch.tensor([30, 12])
    before = copy.deepcopy(quantizer)
    torch.manual_seed(2)
    toks, codes = quantizer.run(garbage, lengths)
    assert (toks[1, 12:] == 0).all() and (codes[1, 12:] == 0).all()
    # the same valid frames, without padding, also for vectors that move
    torch.manual_seed(2)
    alone_toks, alone_codes = before.run(torch.cat([lats[0], lats[1, :12]])[None])
    assert torch.equal(torch.cat([toks[0], toks[1, :12]]), alone_toks[0])
    torch.testing.assert_close(torch.cat([codes[0], codes[1, :12]]), alone_codes[0])


@every
def test_gradients_pass_straight_through(name: str) -> None:
    quantizer = MAKE[name]().train()
    lats = torch.randn(2, 8, 4, requires_grad=True)
    toks, codes = quantizer.run(lats, torch.tensor([8, 5]))
    torch.testing.assert_close(codes[0], quantizer.toks_to_codes(toks)[0])
    losses = getattr(quantizer, "frame_losses", lambda *_: {})(lats, toks)
    assert all(loss.shape == (2, 8) and (loss >= 0).all() for loss in losses.values())
    weight = torch.randn_like(codes)
    (grad,) = torch.autograd.grad((codes * weight).sum(), lats)
    (wanted,) = torch.autograd.grad((quantizer.project(lats) * weight).sum(), lats)
    torch.testing.assert_close(grad[0], wanted[0])
    assert (grad[1, 5:] == 0).all()


@every
def test_a_codec_with_it_is_stored_and_batches_agree(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    quantizer = MAKE[name]().eval()
    again = build_part(
        "quantizer", type(quantizer).__name__, json.loads(json.dumps(quantizer.config))
    )
    assert again.config == quantizer.config
    unit_norm = name in ("bsq", "ssq")
    codec = FocalCodec(
        LogMel(n_mels=8),
        FocalEncoder(8, 4, [8], [1], focal_window=3, focal_factor=1, unit_norm=unit_norm),
        quantizer,
        FocalDecoder(4, 8, [8], [1], focal_window=3, focal_factor=1),
        Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    ).eval()
    sig = torch.randn(2, 8000)
    toks, frames = codec.encode(sig, 16000, lengths=torch.tensor([8000, 5000]))
    alone, _ = codec.encode(sig[1:, :5000], 16000)
    assert torch.equal(toks[1, : frames[1]], alone[0])
    codec.save_pretrained(tmp_path)
    loaded = FocalCodec.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(sig, 16000)[0], codec.encode(sig, 16000)[0])
    assert torch.equal(loaded.decode(toks, frames), codec.decode(toks, frames))
    assert loaded.codebook_size == quantizer.codebook_size


def test_bad_sizes_are_refused() -> None:
    for make in (
        lambda: FiniteScalarQuantizer([4, 1]),
        lambda: FiniteScalarQuantizer([]),
        lambda: ScalarSphericalQuantizer(4, 1),
        lambda: SimVQ(1, 4),
    ):
        with pytest.raises(UserError, match="give"):
            make()


def test_lfq_does_not_scale_the_lats() -> None:
    quantizer = LookupFreeQuantizer(4)
    lats: Tensor = torch.tensor([[[0.5, -3.0]]])
    toks, codes = quantizer(lats)
    assert codes.tolist() == [[[1.0, -1.0]]]
    losses = quantizer.frame_losses(lats, toks)
    assert losses["commitment_loss"].item() == pytest.approx(0.25 * (0.25 + 4) / 2)
    assert LookupFreeQuantizer(4, commitment_weight=0.0).frame_losses(lats, toks) == {}


@pytest.mark.parametrize("levels", [[4] * 5, [8, 5, 5, 5], [2, 3]])
def test_fsq_has_zero_and_every_level(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    zero = torch.zeros(1, len(levels))
    assert quantizer.lats_to_codes(zero).tolist() == zero.tolist()
    torch.testing.assert_close(quantizer.project(zero), zero, atol=1e-6, rtol=0)
    line = torch.linspace(-9, 9, 4001)[:, None].expand(-1, len(levels))
    codes = quantizer.lats_to_codes(line)
    assert [len(codes[:, index].unique()) for index in range(len(levels))] == levels
    assert torch.equal(
        quantizer.codes_to_toks(quantizer.codebook), torch.arange(len(quantizer.codebook))
    )


def test_vq_restarts_dead_vectors_and_its_first_batch_is_clustered() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 2, dead_below=2).train()
    centres = torch.tensor([[5.0, 5], [-5, 5], [5, -5], [-5, -5]])
    lats = centres[torch.arange(200) % 4] + 0.1 * torch.randn(200, 2)
    quantizer.run(lats[None])
    for _ in range(20):
        toks, _ = quantizer.run(lats[None])
    assert len(toks.unique()) == 4
    fixed = quantizer.eval().vectors.clone()
    quantizer.run(lats[None] + 3)
    assert torch.equal(quantizer.vectors, fixed)
