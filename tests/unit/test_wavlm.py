"""WavLM: golden cases, padding, arguments."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from focalcodec.errors import UserError
from focalcodec.nn.wavlm_attention import chunk_mask, relative_buckets
from focalcodec.wavlm import WavLM

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TINY = {
    "hidden_dims": [8] * 7,
    "num_layers": 2,
    "dim": 16,
    "ffn_dim": 24,
    "num_heads": 2,
    "conv_pos": 6,
    "conv_pos_groups": 2,
}
VARIANTS = {
    "large": {},
    "base": {"layer_norm_first": False, "extractor_norm": "group"},
    "causal": {"causal": True, "window_size": 8, "lookahead_size": 1, "max_cached_steps": 16},
}


def tiny(variant: str) -> WavLM:
    torch.manual_seed(0)
    encoder = WavLM(**TINY, **VARIANTS[variant])
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


# -- published models ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_50hz", "tiny_12_5hz", "tiny_50hz_causal"])
def test_golden_features(name):
    config = json.loads((GOLDEN / name / "config.json").read_text())["encoder_config"]
    encoder = WavLM(**config).eval()
    assert encoder.config == config
    state = load_file(GOLDEN / name / "model.safetensors")
    prefix = "encoder."
    encoder.load_state_dict(
        {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    )
    expected = load_file(GOLDEN / name / "expected.safetensors")
    with torch.no_grad():
        feats, lengths = encoder.run(expected["sig"])
    assert lengths.tolist() == [expected["feats"].shape[1]]
    torch.testing.assert_close(feats, expected["feats"], atol=1e-4, rtol=0)


def test_defaults_are_the_first_six_layers_of_large():
    with torch.device("meta"):
        encoder = WavLM()
    assert (encoder.sample_rate, encoder.hop, encoder.dim) == (16000, 320, 1024)
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert shapes["encoder.positional_embedding.conv.weight"] == (1024, 64, 128)
    assert shapes["encoder.layers.5.attention.qkv_proj.weight"] == (3072, 1024)
    assert "encoder.layers.6.attention.qkv_proj.weight" not in shapes
    assert not any(name.startswith("encoder.norm") for name in shapes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_encoder_from_its_config_is_the_same(variant):
    encoder = tiny(variant)
    config = json.loads(json.dumps(encoder.config))
    assert set(VARIANTS[variant]) <= set(config)
    again = WavLM(**config)
    again.load_state_dict(encoder.state_dict())
    assert again.config == config


# -- lengths and padding ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["large", "causal"])
@pytest.mark.parametrize("samples", [1, 9, 10, 300, 399, 400, 401, 719, 720, 5000])
def test_output_lengths(variant, samples):
    encoder = tiny(variant).eval()
    feats, lengths = encoder.run(torch.randn(1, samples))
    causal = variant == "causal"
    expected = math.ceil(samples / 320) if causal else max(samples - 400, 0) // 320 + 1
    assert feats.shape == (1, expected, 16)
    assert lengths.tolist() == [expected]
    assert encoder.output_lengths(torch.tensor([samples])).tolist() == [expected]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_clip_alone_equals_clip_in_batch(variant, train):
    encoder = tiny(variant).train(train)

    @settings(max_examples=15, deadline=None)
    @given(
        samples=st.lists(st.integers(1, 6000), min_size=1, max_size=4),
        extra=st.integers(0, 2500),
        garbage=st.sampled_from(["noise", math.nan, math.inf]),
    )
    def check(samples, extra, garbage):
        generator = torch.Generator().manual_seed(sum(samples))
        clips = [torch.randn(n, generator=generator) for n in samples]
        batch = torch.randn(len(clips), max(samples) + extra, generator=generator)
        if garbage != "noise":
            batch.fill_(garbage)
        for row, clip in zip(batch, clips, strict=True):
            row[: len(clip)] = clip
        with torch.no_grad():
            feats, lengths = encoder(batch, lengths=torch.tensor(samples))
            for row, length, clip in zip(feats, lengths.tolist(), clips, strict=True):
                alone = encoder.run(clip[None])[0][0]
                assert alone.shape[0] == length
                torch.testing.assert_close(row[:length], alone, atol=1e-4, rtol=1e-4)
                assert not row[length:].any()

    check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_ignore_padding(variant):
    encoder = tiny(variant)
    sig = torch.randn(2, 3000)
    sig[1, 1500:] = math.nan
    feats, _ = encoder(sig, lengths=torch.tensor([3000, 1500]))
    feats.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_bias_changes_with_its_table():
    encoder = tiny("large").eval()
    sig = torch.randn(1, 3000)
    with torch.no_grad():
        before = encoder.run(sig)[0]
        encoder.encoder.relative_embedding.weight.add_(
            torch.randn_like(encoder.encoder.relative_embedding.weight)
        )
        after = encoder.run(sig)[0]
    assert not torch.allclose(before, after)


def test_causal_frames_do_not_depend_on_later_chunks():
    encoder = tiny("causal").eval()
    sig = torch.randn(1, 320 * 12)
    changed = sig.clone()
    # chunks have 2 frames, and 320 i is the last sample of frame i: frame 9 does not change
    changed[:, 320 * 9 + 1 :] += 1.0
    with torch.no_grad():
        before, after = encoder.run(sig)[0], encoder.run(changed)[0]
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


def test_chunk_mask_counts_back_from_the_end_of_the_chunk():
    frame = torch.arange(10)
    mask = chunk_mask(frame[:, None], frame, chunk_size=4, window_size=5)
    assert mask[0].nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert mask[5].nonzero().flatten().tolist() == [3, 4, 5, 6, 7]
    assert mask[9].nonzero().flatten().tolist() == [7, 8, 9]


def test_buckets_grow_logarithmically_to_the_last():
    buckets = relative_buckets(1001, num_buckets=320, max_distance=800).tolist()
    past, future = buckets[1000::-1], buckets[1000:]
    assert past[:80] == list(range(80))
    assert past[80:] == sorted(past[80:]) and set(past[800:]) == {159}
    assert future[1:] == [bucket + 160 for bucket in past[1:]]


# -- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"extractor_norm": "batch"}, "extractor_norm"),
        ({"strides": [5, 2]}, "strides"),
        ({"num_heads": 5}, "num_heads"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(UserError, match=name):
        WavLM(**(TINY | arguments))


@pytest.mark.parametrize(
    ("sig", "lengths", "name"),
    [
        (torch.zeros(1000), None, "sig"),
        (torch.zeros(1, 0), None, "sig"),
        (torch.zeros(1, 1000, dtype=torch.int16), None, "sig"),
        (torch.zeros(1, 1000), torch.tensor([1.0]), "lengths"),
        (torch.zeros(1, 1000), torch.tensor([10, 10]), "lengths"),
    ],
)
def test_bad_input(sig, lengths, name):
    with pytest.raises(UserError, match=name):
        tiny("large").run(sig, lengths)


@pytest.mark.parametrize("variant", VARIANTS)
def test_exports_with_any_length(variant):
    encoder = tiny(variant).eval()
    shapes = {"input": {1: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(encoder, (torch.randn(1, 8000),), dynamic_shapes=shapes)
    sig = torch.randn(1, 5001)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(sig)[0], encoder.run(sig)[0], atol=1e-5, rtol=0)
