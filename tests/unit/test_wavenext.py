"""WaveNeXt: golden case, causality, padding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from focalcodec.wavenext import WaveNeXt

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "tiny_50hz_causal"
TINY = {"input_dim": 6, "num_layers": 2, "dim": 8, "ffn_dim": 12, "hop_length": 10}


@torch.no_grad()
def test_golden() -> None:
    config = json.loads((GOLDEN / "config.json").read_text())["decoder_config"]
    state = load_file(GOLDEN / "model.safetensors")
    expected = load_file(GOLDEN / "expected.safetensors")
    decoder = WaveNeXt(**config).eval()
    decoder.load_state_dict({k[8:]: x for k, x in state.items() if k.startswith("decoder.")})
    rec_sig, lengths = decoder.run(expected["qfeats"])
    torch.testing.assert_close(rec_sig, expected["rec_sig"], atol=1e-5, rtol=0)
    assert lengths.tolist() == [24320]


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    causal=st.booleans(),
    train=st.booleans(),
)
def test_alone_equals_padded(lengths: list[int], causal: bool, train: bool) -> None:
    torch.manual_seed(0)
    decoder = WaveNeXt(**TINY, causal=causal).train(train)
    items = [torch.randn(length, 6) for length in lengths]
    batch = torch.full((len(items), max(lengths) + 2, 6), float("nan"))
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    rec_sig, samples = decoder(batch, lengths=torch.tensor(lengths))
    for i, item in enumerate(items):
        alone, alone_samples = decoder.run(item[None])
        assert alone_samples.tolist() == [samples[i]] == [alone.shape[1]]
        torch.testing.assert_close(rec_sig[i, : samples[i]], alone[0], atol=1e-5, rtol=1e-5)
        assert (rec_sig[i, samples[i] :] == 0).all()


def test_causal_output_does_not_depend_on_the_future() -> None:
    decoder = WaveNeXt(**TINY, causal=True)
    feats = torch.randn(1, 12, 6)
    changed = feats.clone()
    changed[:, 7:] = 0.0
    before, after = decoder(feats)[0], decoder(changed)[0]
    torch.testing.assert_close(before[:, :70], after[:, :70])
    assert not torch.allclose(before[:, 70:], after[:, 70:])


def test_output_stays_in_range() -> None:
    rec_sig, _ = WaveNeXt(**TINY)(1e6 * torch.randn(1, 5, 6))
    assert rec_sig.abs().max() <= 1


@pytest.mark.parametrize("rate", [24000, 12000])
def test_config(rate: int) -> None:
    decoder = WaveNeXt(**TINY, sample_rate=rate)
    assert json.loads(json.dumps(decoder.config)) == decoder.config
    again = WaveNeXt(**decoder.config)
    again.load_state_dict(decoder.state_dict())
    assert (again.hop, again.sample_rate, again.config) == (10, rate, decoder.config)
    # the official class has no such argument
    assert ("sample_rate" in decoder.config) == (rate != 24000)


def test_is_causal_only_if_the_configuration_says_so() -> None:
    assert not WaveNeXt(**TINY).causal and not WaveNeXt(**TINY).config["causal"]
