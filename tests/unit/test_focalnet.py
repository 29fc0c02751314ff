"""Compressor and decompressor: golden cases, published shapes, padding, options."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.focalnet import DownScale, FocalDecoder, FocalEncoder

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = ["tiny_50hz", "tiny_12_5hz", "tiny_50hz_causal"]
FACTORS = st.lists(st.integers(1, 3), min_size=2, max_size=2)


def golden_part(case: str, name: str, cls: type[nn.Module]) -> tuple[nn.Module, dict[str, Tensor]]:
    folder = GOLDEN / case
    config = json.loads((folder / "config.json").read_text())
    state = load_file(folder / "model.safetensors")
    part = cls(**config[f"{name}_config"]).eval()
    part.load_state_dict(
        {key[len(name) + 1 :]: x for key, x in state.items() if key.startswith(f"{name}.")}
    )
    return part, load_file(folder / "expected.safetensors")


def padded_batch(items: list[Tensor], garbage: float) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(item) for item in items])
    batch = torch.full((len(items), int(lengths.max()) + 2, items[0].shape[-1]), garbage)
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    return batch, lengths


def assert_same_alone(part: nn.Module, lengths: list[int], dim: int, garbage: float) -> None:
    """Each item alone, without `lengths`, against all of them in one batch full of garbage."""
    torch.manual_seed(sum(lengths))
    items = [torch.randn(length, dim) for length in lengths]
    batch, valid = padded_batch(items, garbage)
    out, out_lengths = part(batch, lengths=valid)
    assert torch.equal(out_lengths, part.output_lengths(valid))
    for i, item in enumerate(items):
        alone, alone_lengths = part.run(item[None])
        assert alone_lengths.dtype == torch.int64 and alone_lengths.tolist() == [alone.shape[1]]
        assert out_lengths[i] == alone.shape[1]
        torch.testing.assert_close(out[i, : out_lengths[i]], alone[0], atol=1e-5, rtol=1e-5)
        assert (out[i, out_lengths[i] :] == 0).all()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_golden(case: str) -> None:
    compressor, expected = golden_part(case, "compressor", FocalEncoder)
    lats, lengths = compressor.run(expected["feats"])
    torch.testing.assert_close(lats, expected["lats"], atol=1e-5, rtol=0)
    assert lengths.tolist() == [lats.shape[1]]
    decompressor, expected = golden_part(case, "decompressor", FocalDecoder)
    qfeats, lengths = decompressor.run(expected["codes"])
    torch.testing.assert_close(qfeats, expected["qfeats"], atol=1e-5, rtol=0)
    assert lengths.tolist() == [qfeats.shape[1]]


@pytest.mark.parametrize(
    "down, up, parameters",
    [
        ((1, 1, 1), (1, 1, 1), 18_286_870 + 18_287_881),
        ((2, 1, 1), (1, 1, 2), 18_286_870 + 18_287_881 + 2 * 1024 * 1024),
        ((2, 2, 1), (1, 2, 2), 18_286_870 + 18_287_881 + 3 * 1024 * 1024),
    ],
)
def test_published_sizes(down: tuple[int, ...], up: tuple[int, ...], parameters: int) -> None:
    options = {"focal_window": 7, "focal_factor": 2}
    with torch.device("meta"):
        parts = [
            FocalEncoder(1024, 13, (1024, 512, 256), down, **options),
            FocalDecoder(13, 1024, (256, 512, 1024), up, **options),
        ]
    assert sum(p.numel() for part in parts for p in part.parameters()) == parameters


@settings(max_examples=25, deadline=None)
@given(
    factors=FACTORS,
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    garbage=st.sampled_from([float("nan"), float("inf"), 1e4]),
    causal=st.booleans(),
    train=st.booleans(),
)
def test_alone_equals_padded(
    factors: list[int], lengths: list[int], garbage: float, causal: bool, train: bool
) -> None:
    torch.manual_seed(0)
    encoder = FocalEncoder(6, 4, [8, 6], factors, causal=causal, window_size=5).train(train)
    assert encoder.factor == factors[0] * factors[1]
    assert_same_alone(encoder, lengths, 6, garbage)
    decoder = FocalDecoder(4, 6, [6, 8], factors, causal=causal, window_size=5).train(train)
    assert decoder.factor == factors[0] * factors[1]
    assert_same_alone(decoder, lengths, 4, garbage)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_ignore_padding(causal: bool) -> None:
    parts = [
        FocalEncoder(6, 4, [8, 6], [2, 3], causal=causal, window_size=5),
        FocalDecoder(6, 4, [8, 6], [2, 3], causal=causal, window_size=5),
    ]
    for part in parts:
        batch, lengths = padded_batch([torch.randn(9, 6), torch.randn(4, 6)], float("nan"))
        batch.requires_grad_()
        out, _ = part(batch, lengths=lengths)
        out.sin().sum().backward()
        assert (batch.grad[0, 9:] == 0).all() and (batch.grad[1, 4:] == 0).all()
        assert batch.grad[0, :9].isfinite().all() and (batch.grad[1, :4] != 0).any()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


@pytest.mark.parametrize("part", [FocalEncoder, FocalDecoder])
@pytest.mark.parametrize("causal", [False, True])
def test_options_and_config(part: type[nn.Module], causal: bool) -> None:
    factors = "downscale_factors" if part is FocalEncoder else "upscale_factors"
    given_options = {
        "input_dim": 6,
        "output_dim": 4,
        "hidden_dims": [8, 6],
        factors: [2, 1],
        "focal_window": 3,
        "focal_level": 3,
        "dropout": 0.1,
        "use_post_norm": True,
        "use_layerscale": True,
        "layerscale_init": 0.5,
        "normalize_modulator": True,
        "causal": causal,
        "window_size": 9,
    }
    model = part(**given_options).eval()
    assert json.loads(json.dumps(model.config)) == model.config
    assert given_options.items() <= model.config.items()
    twin = part(**model.config).eval()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, 7, 6)
    assert torch.equal(model.run(x)[0], twin.run(x)[0])
    assert_same_alone(model, [3, 7], 6, float("nan"))


def test_causal_output_does_not_depend_on_the_future() -> None:
    torch.manual_seed(0)
    encoder = FocalEncoder(6, 4, [8, 6], [1, 1], causal=True, window_size=8)
    decoder = FocalDecoder(6, 4, [8, 6], [1, 1], causal=True, window_size=8, lookahead_size=3)
    x = torch.randn(1, 24, 6)
    changed = x.clone()
    changed[:, 12:] = torch.randn(1, 12, 6)
    for part in (encoder, decoder):
        before, after = part.run(x)[0], part.run(changed)[0]
        torch.testing.assert_close(before[:, :12], after[:, :12])
        assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("factors", [[1], [1, 2, 3], [0, 1], []])
def test_wrong_factors_are_refused(factors: list[int]) -> None:
    with pytest.raises(UserError, match="downscale_factors"):
        FocalEncoder(6, 4, [8, 6], factors)
    with pytest.raises(UserError, match="upscale_factors"):
        FocalDecoder(6, 4, [8, 6], factors)


@pytest.mark.parametrize("factors", [[1, 1], [2, 1]])
@torch.no_grad()
def test_steps_of_whole_chunks_give_what_run_gives(factors: list[int]) -> None:
    torch.manual_seed(0)
    options = {"causal": True, "window_size": 9, "use_post_norm": True}
    encoder = FocalEncoder(6, 4, [8, 6], factors, **options)
    decoder = FocalDecoder(4, 6, [6, 8], factors[::-1], **options, last_window_size=5)
    for part, x in ((encoder, torch.randn(2, 24, 6)), (decoder, torch.randn(2, 24, 4))):
        state, outputs = None, []
        for chunk in x.split([8, 4, 12], dim=1):
            before = copy.deepcopy(state)
            out, after = part.step(chunk, state)
            assert str(state) == str(before)  # a step does not change its arguments
            state = after
            outputs.append(out)
        torch.testing.assert_close(torch.cat(outputs, dim=1), part.run(x)[0], atol=1e-5, rtol=0)


def test_lengths_in_second_place_are_refused() -> None:
    for part in (FocalEncoder(6, 4, [8], [1]), FocalDecoder(6, 4, [8], [1])):
        with pytest.raises(UserError, match="lengths=") as refusal:
            part(torch.randn(2, 5, 6), torch.tensor([5, 3]))
        assert "\n" not in str(refusal.value)


def test_lats_have_norm_1_except_in_the_official_call() -> None:
    encoder, x = FocalEncoder(6, 4, [8], [1]), torch.randn(2, 5, 6)
    norms = encoder.run(x)[0].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2, 5))
    official, _ = encoder(x)
    assert (official.norm(dim=-1) - 1).abs().max() > 0.1
    torch.testing.assert_close(torch.nn.functional.normalize(official, dim=-1), encoder.run(x)[0])


def test_configurations_are_those_of_before_the_official_defaults() -> None:
    """The hash of a codec depends on its configuration."""
    for part in (FocalEncoder, FocalDecoder):
        assert "tanhscale_init" not in part(6, 4, [8], [1]).config
        model = part(6, 4, [8], [1], tanhscale_init=0.3, causal=True)
        assert model.config["tanhscale_init"] == model.tanhscale_init == 0.3
        alphas = [p for name, p in model.named_parameters() if "norm.alpha" in name]
        assert alphas and all(p.item() == pytest.approx(0.3) for p in alphas)
    # Published offline configurations do not have it.
    offline, causal = (FocalDecoder(6, 4, [8], [1], causal=causal) for causal in (False, True))
    assert offline.config["last_window_size"] is None and offline.last_window_size == 512
    assert causal.config["last_window_size"] == 512


def test_a_kernel_that_is_not_the_stride_is_refused() -> None:
    with pytest.raises(UserError, match="kernel_size=3, stride=2"):
        DownScale(4, 4, 3, 2)
