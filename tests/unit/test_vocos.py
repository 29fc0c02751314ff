"""Vocos: golden cases, its inverse STFT against torch's, padding, published size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from focalcodec.errors import UserError
from focalcodec.vocos import ISTFT, Vocos

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TINY = {"input_dim": 6, "num_layers": 2, "dim": 8, "ffn_dim": 12}


@pytest.mark.parametrize("case", ["tiny_50hz", "tiny_12_5hz"])
@torch.no_grad()
def test_golden(case: str) -> None:
    folder = GOLDEN / case
    config = json.loads((folder / "config.json").read_text())["decoder_config"]
    state = load_file(folder / "model.safetensors")
    expected = load_file(folder / "expected.safetensors")
    decoder = Vocos(**config).eval()
    decoder.load_state_dict({k[8:]: x for k, x in state.items() if k.startswith("decoder.")})
    rec_sig, lengths = decoder.run(expected["qfeats"])
    torch.testing.assert_close(rec_sig, expected["rec_sig"], atol=1e-5, rtol=0)
    assert lengths.tolist() == [rec_sig.shape[1]] and lengths.dtype == torch.int64


def test_published_size() -> None:
    with torch.device("meta"):
        decoder = Vocos()
    assert sum(p.numel() for p in decoder.parameters()) == 16_843_266
    assert (decoder.hop, decoder.sample_rate) == (320, 16000)


@pytest.mark.parametrize("n_fft, hop", [(1024, 320), (64, 16), (64, 32), (60, 20), (64, 40)])
@torch.no_grad()
def test_inverse_stft(n_fft: int, hop: int) -> None:
    """Analysis with torch, then synthesis, restores the signal."""
    torch.manual_seed(0)
    istft = ISTFT(n_fft, hop, n_fft).double()
    sig = torch.randn(2, 12 * hop, dtype=torch.float64)
    trim = (n_fft - hop) // 2
    window = torch.hann_window(n_fft, dtype=torch.float64)
    spectrum = torch.stft(
        torch.nn.functional.pad(sig, (trim, trim)),
        n_fft,
        hop,
        window=window,
        center=False,
        return_complex=True,
    ).mT
    mask = torch.ones(2, spectrum.shape[1], dtype=torch.bool)
    parts = torch.cat([spectrum.real, spectrum.imag], dim=-1)
    for rec_sig in (istft(spectrum), istft(parts), istft(parts, mask)):
        torch.testing.assert_close(rec_sig, sig, atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    hop=st.sampled_from([8, 20, 21, 32, 40]),
    causal=st.booleans(),
    garbage=st.sampled_from([float("nan"), float("inf"), 1e4]),
    train=st.booleans(),
)
def test_alone_equals_padded(
    lengths: list[int], hop: int, causal: bool, garbage: float, train: bool
) -> None:
    torch.manual_seed(0)
    decoder = Vocos(**TINY, n_fft=64, hop_length=hop, causal=causal).train(train)
    items = [torch.randn(length, 6) for length in lengths]
    batch = torch.full((len(items), max(lengths) + 2, 6), garbage)
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    rec_sig, samples = decoder(batch, lengths=torch.tensor(lengths))
    assert samples.tolist() == [length * hop for length in lengths]
    for i, item in enumerate(items):
        alone, _ = decoder.run(item[None])
        torch.testing.assert_close(rec_sig[i, : samples[i]], alone[0], atol=1e-5, rtol=1e-5)
        assert (rec_sig[i, samples[i] :] == 0).all()


def test_gradients_ignore_padding() -> None:
    decoder = Vocos(**TINY, n_fft=64, hop_length=20)
    feats = torch.randn(2, 7, 6)
    feats[1, 3:] = float("nan")
    feats.requires_grad_()
    rec_sig, _ = decoder(feats, lengths=torch.tensor([7, 3]))
    rec_sig.sin().sum().backward()
    assert (feats.grad[1, 3:] == 0).all() and feats.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


def test_autocast_keeps_the_head_in_float32() -> None:
    torch.manual_seed(0)
    decoder = Vocos(**TINY).eval()
    feats = torch.randn(1, 10, 6)
    expected, _ = decoder(feats)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rec_sig, _ = decoder(feats)
    assert rec_sig.dtype == torch.float32
    assert (rec_sig - expected).norm() < 0.1 * expected.norm()


def test_config() -> None:
    decoder = Vocos(**TINY, n_fft=64, hop_length=20, sample_rate=8000)
    assert json.loads(json.dumps(decoder.config)) == decoder.config
    Vocos(**decoder.config).load_state_dict(decoder.state_dict())
    assert not any("basis" in key or "window" in key for key in decoder.state_dict())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"n_fft": 64, "hop_length": 63}, "hop_length from 1 to 62"),
        ({"n_fft": 64, "hop_length": 65, "causal": True}, "hop_length from 1 to 64"),
        ({"n_fft": 63, "hop_length": 20}, "n_fft=63"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Vocos(**TINY, **options)


def test_other_arguments_are_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="Vocos: padding_mode, style ignored"):
        decoder = Vocos(**TINY, padding_mode="same", style=1)
    assert decoder.config.keys() == Vocos(**TINY).config.keys()
    assert Vocos(input_channels=5, padding="same").input_dim == 5
