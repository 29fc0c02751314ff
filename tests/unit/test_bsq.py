"""Binary spherical quantizer: golden cases, bits, straight-through gradient, entropy loss."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.errors import UserError

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden"
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "bsq_entropy.py"))
plain_entropy_loss = BENCHMARK["plain_entropy_loss"]
value_and_gradient = BENCHMARK["value_and_gradient"]


@pytest.mark.parametrize(
    "case, size", [("tiny_50hz", 8192), ("tiny_12_5hz", 8192), ("tiny_50hz_causal", 4096)]
)
def test_golden(case: str, size: int) -> None:
    expected = load_file(GOLDEN / case / "expected.safetensors")
    quantizer = BinarySphericalQuantizer(size).eval()
    toks, codes = quantizer(expected["lats"])
    assert torch.equal(toks, expected["toks"])
    torch.testing.assert_close(codes, expected["codes"])
    torch.testing.assert_close(quantizer.toks_to_codes(toks), expected["codes"])


@pytest.mark.parametrize("bits", [1, 2, 5, 13, 16])
def test_tokens_and_codes_are_one_to_one(bits: int) -> None:
    quantizer = BinarySphericalQuantizer(2**bits)
    assert quantizer.dim == bits and quantizer.config == {"codebook_size": 2**bits}
    codebook = quantizer.codebook
    assert codebook.shape == (2**bits, bits)
    torch.testing.assert_close(codebook.norm(dim=-1), torch.ones(2**bits))
    assert torch.equal(quantizer.codes_to_toks(codebook), torch.arange(2**bits))
    assert torch.equal(quantizer.lats_to_toks(3 * codebook), torch.arange(2**bits))
    small = torch.arange(min(2**bits, 100), dtype=torch.uint8)
    assert torch.equal(quantizer.toks_to_codes(small), codebook[: len(small)])
    assert quantizer.toks_to_codes(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, bits)


def test_zero_is_a_zero_bit_and_the_first_bit_is_the_most_significant() -> None:
    quantizer = BinarySphericalQuantizer(8)
    assert quantizer.lats_to_toks(torch.tensor([0.0, -0.0, 1e-30])).item() == 1
    assert quantizer.lats_to_toks(torch.tensor([2.0, -1.0, 0.0])).item() == 4


@pytest.mark.parametrize("size", [0, 1, -8])
def test_a_codebook_has_two_codes_or_more(size: int) -> None:
    with pytest.raises(UserError, match=f"codebook_size={size}"):
        BinarySphericalQuantizer(size)


def test_a_size_between_powers_of_two_is_as_in_the_official_class() -> None:
    quantizer = BinarySphericalQuantizer(6)
    assert quantizer.dim == 2 and quantizer.codebook_size == 6
    assert torch.equal(quantizer.codebook[4:], quantizer.codebook[:2])
    toks = quantizer.lats_to_toks(torch.randn(50, 2))
    assert toks.max() == 3
    joint = quantizer.entropy_terms(torch.randn(50, 2)).joint
    assert joint.shape == (6,) and joint.sum().item() == pytest.approx(1.0)


def test_types_are_those_of_the_official_class() -> None:
    quantizer = BinarySphericalQuantizer(8)
    lats, toks = torch.randn(2, 3), torch.tensor([1, 7])
    # Codes have the type of the module, whatever that of the lats.
    assert quantizer.lats_to_codes(lats.half()).dtype == torch.float32
    assert quantizer(lats.double())[1].dtype == torch.float32
    half = BinarySphericalQuantizer(8).half()
    assert half.lats_to_codes(lats).dtype == half.toks_to_codes(toks).dtype == torch.float16
    assert half.codebook.dtype == torch.float16 and not half.state_dict()
    # The core keeps the type of the lats, for training in mixed precision.
    assert quantizer.run(lats[None].bfloat16())[1].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "toks, words",
    [
        (torch.tensor([0, 9000]), ["9000", r"\[0, 8192\)"]),
        (torch.tensor([0, -1, 9000]), ["-1", r"\[0, 8192\)"]),
        (torch.tensor([1.0]), ["float32", "integers"]),
        (torch.tensor([True]), ["bool", "integers"]),
    ],
)
def test_wrong_tokens_are_refused(toks: Tensor, words: list[str]) -> None:
    with pytest.raises(UserError, match=".*".join(words)):
        BinarySphericalQuantizer(8192).toks_to_codes(toks)


def test_codes_of_another_width_are_refused() -> None:
    with pytest.raises(UserError, match="width 12"):
        BinarySphericalQuantizer(8192).codes_to_toks(torch.randn(1, 3, 12))


def test_the_official_call_has_no_gradient() -> None:
    lats = torch.randn(2, 3, 4, requires_grad=True)
    toks, codes = BinarySphericalQuantizer(16).train()(lats)
    assert not codes.requires_grad and toks.shape == (2, 3)


def test_straight_through_gradient() -> None:
    torch.manual_seed(0)
    quantizer = BinarySphericalQuantizer(16).train()
    lats = torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4)
    _, codes = quantizer.run(lats)
    torch.testing.assert_close(codes, quantizer.eval()(lats)[1])
    (grad,) = torch.autograd.grad((codes * weight).sum(), lats)
    unit = lats / lats.norm(dim=-1, keepdim=True)
    (expected,) = torch.autograd.grad((unit * weight).sum(), lats)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("train", [True, False])
def test_padding_is_zero(train: bool) -> None:
    quantizer = BinarySphericalQuantizer(16).train(train)
    lats = torch.randn(2, 5, 4)
    garbage = lats.clone()
    garbage[1, 2:] = float("nan")
    garbage.requires_grad_()
    lengths = torch.tensor([5, 2])
    toks, codes = quantizer(garbage, lengths=lengths)
    assert (toks[1, 2:] == 0).all() and (codes[1, 2:] == 0).all()
    alone_toks, alone_codes = quantizer.run(lats[1:, :2])
    assert torch.equal(toks[1:, :2], alone_toks)
    torch.testing.assert_close(codes[1:, :2], alone_codes)
    if train:
        codes.square().sum().backward()
        assert (garbage.grad[1, 2:] == 0).all() and garbage.grad.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(1, 11),
    tokens=st.integers(1, 40),
    inv_temperature=st.sampled_from([0.1, 1.0, 5.0, 10.0, 30.0, 100.0, 400.0]),
    gamma=st.sampled_from([0.0, 1.0, 2.5]),
    seed=st.integers(0, 1000),
)
def test_entropy_is_the_plain_definition(
    bits: int, tokens: int, inv_temperature: float, gamma: float, seed: int
) -> None:
    """In float64, to see the clamp of the logs at any scale without rounding errors."""
    torch.manual_seed(seed)
    lats = torch.randn(tokens, bits, dtype=torch.float64)
    options = {"inv_temperature": inv_temperature, "gamma": gamma}
    quantizer = BinarySphericalQuantizer(2**bits)
    value, grad, _ = value_and_gradient(lambda x: quantizer.entropy_loss(x, **options), lats)
    plain, plain_grad, _ = value_and_gradient(lambda x: plain_entropy_loss(x, **options), lats)
    assert abs(value - plain) < 1e-10
    scale = lats.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(grad * scale, plain_grad * scale, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("tokens", [3, 50, 500, 2000])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("bits", [4, 8, 13])
def test_entropy_in_float32(bits: int, tokens: int, scale: float) -> None:
    """Against the plain definition in float64: in float32 its own gradient is off by 1e-6."""
    torch.manual_seed(tokens)
    lats = scale * torch.randn(tokens, bits)
    lats = lats[: 500 if bits < 13 else 2000]
    quantizer = BinarySphericalQuantizer(2**bits)
    value, grad, _ = value_and_gradient(quantizer.entropy_loss, lats)
    plain, plain_grad, _ = value_and_gradient(plain_entropy_loss, lats.double())
    assert abs(value - plain) < 1e-5
    # A gradient is as large as 1 / scale, and so is its rounding error.
    torch.testing.assert_close(scale * grad.double(), scale * plain_grad, atol=2e-6, rtol=1e-5)


def test_entropy_mask() -> None:
    torch.manual_seed(0)
    quantizer = BinarySphericalQuantizer(256)
    lats = torch.randn(3, 20, 8, dtype=torch.float64)
    mask = torch.rand(3, 20) < 0.5
    expected, expected_grad, _ = value_and_gradient(lambda x: plain_entropy_loss(x, mask), lats)
    for garbage in (0.0, float("nan"), float("inf")):
        dirty = lats.masked_fill(~mask[..., None], garbage)
        value, grad, _ = value_and_gradient(lambda x: quantizer.entropy_loss(x, mask), dirty)
        assert abs(value - expected) < 1e-10
        torch.testing.assert_close(grad, expected_grad, atol=1e-10, rtol=1e-10)
        assert (grad[~mask] == 0).all()


def test_entropy_without_valid_frames_or_length() -> None:
    quantizer = BinarySphericalQuantizer(256)
    lats = torch.randn(2, 4, 8)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    value, grad, _ = value_and_gradient(lambda x: quantizer.entropy_loss(x, nothing), lats)
    assert value == 0 and (grad == 0).all()
    value, grad, _ = value_and_gradient(quantizer.entropy_loss, torch.zeros(2, 4, 8))
    assert math.isfinite(value) and grad.isfinite().all()
    # Eight undecided bits: all 256 codes have the same probability, in each frame and on average.
    terms = quantizer.entropy_terms(torch.zeros(1, 8))
    assert terms.sample.item() == pytest.approx(8 * math.log(2))
    assert terms.codebook.item() == pytest.approx(8 * math.log(2))


def test_entropy_under_autocast() -> None:
    torch.manual_seed(0)
    quantizer = BinarySphericalQuantizer(8192)
    lats = torch.randn(50, 13).bfloat16()
    expected = quantizer.entropy_loss(lats.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = quantizer.entropy_loss(lats)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_entropy_of_the_global_batch() -> None:
    """Two processes add their sums: the entropy is that of both halves together."""
    torch.manual_seed(0)
    quantizer = BinarySphericalQuantizer(256)
    halves = [torch.randn(30, 8, dtype=torch.float64), torch.randn(10, 8, dtype=torch.float64)]
    sent: list[Tensor] = []

    def remember(sums: Tensor) -> Tensor:
        sent.append(sums)
        return sums

    quantizer.entropy_loss(halves[1], all_reduce=remember)
    loss = quantizer.entropy_loss(halves[0], all_reduce=lambda sums: sums + sent[0])
    torch.testing.assert_close(loss, quantizer.entropy_loss(torch.cat(halves)))


def test_benchmark_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bsq_entropy.py", "--tokens", "64", "--bits", "6", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    BENCHMARK["main"]()
    printed = capsys.readouterr().out
    assert "ratio" in printed and "difference" in printed


def test_tokens_times_codes_is_never_formed() -> None:
    """16 bits and 2000 tokens: the plain definition would take 0.5 GB for one matrix."""
    quantizer = BinarySphericalQuantizer(2**16)
    sizes: list[int] = []
    lats = torch.randn(2000, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: (sizes.append(x.untyped_storage().nbytes()), x)[1], lambda x: x
    ):
        quantizer.entropy_loss(lats).backward()
    assert max(sizes) <= 4 * 2000 * 2 * 2**8
