"""WavLM: golden cases, transformers' own WavLM, padding, loading."""

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

from focalcodec import wavlm_convert
from focalcodec.errors import UserError
from focalcodec.wavlm import WavLM
from focalcodec.wavlm_attention import chunk_mask, relative_buckets
from focalcodec.wavlm_convert import convert_state, wavlm_from_transformers

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
        feats, lengths = encoder(expected["sig"])
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
def test_config_makes_the_same_encoder(variant):
    encoder = tiny(variant)
    config = json.loads(json.dumps(encoder.config))
    assert set(VARIANTS[variant]) <= set(config)
    again = WavLM(**config)
    again.load_state_dict(encoder.state_dict())
    assert again.config == config


# -- transformers' own WavLM --------------------------------------------------------------------

STRUCTURES = {
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
    "base": {"do_stable_layer_norm": False, "feat_extract_norm": "group"},
}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def transformers_model(structure: str, **sizes):
    config_class, model_class = wavlm_convert._transformers_classes()
    torch.manual_seed(0)
    config = config_class(**STRUCTURES[structure], **sizes)
    model = model_class(config).eval()
    # the initialisation leaves out just what would show a mistake: norms, biases, gates
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 or "gru_rel_pos" in name:
            nn.init.normal_(parameter, mean=float("weight" in name), std=0.3)
    return model


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_layer_equals_transformers(structure, tmp_path):
    model = transformers_model(structure, **SMALL)
    model.save_pretrained(tmp_path)
    sig = torch.randn(2, 9000) * 0.1
    # transformers 4 and 5 disagree on whether the last hidden state is normed: ask the layer
    last = []
    model.encoder.layers[2].register_forward_hook(lambda _, __, output: last.append(output[0]))
    with torch.no_grad():
        expected = [*model(sig, output_hidden_states=True).hidden_states[:3], *last]
        for layer in (1, 2, 3):
            encoder = wavlm_from_transformers(tmp_path, layer=layer)
            assert not encoder.training
            feats, lengths = encoder(sig)
            assert lengths.tolist() == [feats.shape[1]] * 2
            torch.testing.assert_close(feats, expected[layer], atol=1e-4, rtol=0)


def test_padded_batch_equals_transformers_with_a_mask(tmp_path):
    model = transformers_model("large", **SMALL)
    model.save_pretrained(tmp_path)
    encoder = wavlm_from_transformers(tmp_path, layer=2)
    lengths = torch.tensor([9000, 5000, 400])
    mask = torch.arange(9000) < lengths[:, None]
    sig = torch.randn(3, 9000) * 0.1 * mask
    with torch.no_grad():
        expected = model(sig, attention_mask=mask.long(), output_hidden_states=True)
        feats, frames = encoder(sig, lengths)
    assert frames.tolist() == model._get_feat_extract_output_lengths(lengths).tolist()
    for ours, theirs, length in zip(feats, expected.hidden_states[2], frames, strict=True):
        torch.testing.assert_close(ours[:length], theirs[:length], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("structure", "width", "heads"), [("base", 768, 12), ("large", 1024, 16)])
def test_real_widths_equal_transformers(structure, width, heads, tmp_path):
    sizes = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
    model = transformers_model(structure, **sizes, num_hidden_layers=2)
    model.save_pretrained(tmp_path)
    encoder = wavlm_from_transformers(tmp_path, layer=1)
    # long enough that offsets fall into the logarithmic buckets
    sig = torch.randn(1, 32000) * 0.1
    with torch.no_grad():
        expected = model(sig, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(encoder(sig)[0], expected, atol=1e-4, rtol=0)


def test_both_layouts_of_weight_norm_and_none():
    encoder = WavLM(**wavlm_convert.convert_config(transformers_model("large", **SMALL).config, 2))
    state = transformers_model("large", **SMALL).state_dict()
    conv = "encoder.pos_conv_embed.conv"
    weight_norm = f"{conv}.parametrizations.weight.original"
    rest = {key: value for key, value in state.items() if not key.startswith(weight_norm)}
    gain, direction = state[f"{weight_norm}0"], state[f"{weight_norm}1"]
    old = rest | {f"{conv}.weight_g": gain, f"{conv}.weight_v": direction}
    folded = rest | {f"{conv}.weight": torch._weight_norm(direction, gain, 2)}
    name = "encoder.positional_embedding.conv.weight"
    expected = convert_state(folded, encoder)[name]
    for layout in (state, old):
        torch.testing.assert_close(convert_state(layout, encoder)[name], expected)


def test_half_precision_weights_become_float32(tmp_path):
    transformers_model("large", **SMALL).half().save_pretrained(tmp_path)
    encoder = wavlm_from_transformers(tmp_path, layer=1)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


# -- what can't be loaded -----------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="local folder.*log-mel") as error:
        wavlm_from_transformers(tmp_path / "nowhere", local_files_only=True)
    assert "nowhere" in one_line(error)


def test_missing_hub_model_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="local folder.*log-mel") as error:
        wavlm_from_transformers("some/wavlm", cache_dir=tmp_path, local_files_only=True)
    assert one_line(error).startswith("some/wavlm: ")


def test_folder_without_weights(tmp_path):
    transformers_model("large", **SMALL).config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="local folder") as error:
        wavlm_from_transformers(tmp_path, layer=1)
    one_line(error)


@pytest.mark.parametrize("layer", [0, 4])
def test_no_such_layer(layer, tmp_path):
    transformers_model("large", **SMALL).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"layer: {layer}; .* 1 to 3"):
        wavlm_from_transformers(tmp_path, layer=layer)


def test_another_kind_of_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(UserError, match="'hubert'.*'wavlm'"):
        wavlm_from_transformers(tmp_path)


def test_missing_weights_are_named(tmp_path):
    model = transformers_model("large", **SMALL)
    state = model.state_dict()
    del state["encoder.layers.1.attention.q_proj.bias"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match="missing.*layers.1.attention.q_proj.bias"):
        wavlm_from_transformers(tmp_path, layer=2)


def test_unsupported_option(tmp_path):
    transformers_model("large", **SMALL, hidden_act="relu").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="hidden_act is 'relu'"):
        wavlm_from_transformers(tmp_path, layer=2)


def test_programming_errors_are_not_hidden(tmp_path, monkeypatch):
    transformers_model("large", **SMALL).save_pretrained(tmp_path)

    def broken(*args, **kwargs):
        raise TypeError("a bug")

    _, model_class = wavlm_convert._transformers_classes()
    monkeypatch.setattr(model_class, "from_pretrained", broken)
    with pytest.raises(TypeError, match="a bug"):
        wavlm_from_transformers(tmp_path, layer=2)


# -- lengths and padding ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["large", "causal"])
@pytest.mark.parametrize("samples", [1, 9, 10, 300, 399, 400, 401, 719, 720, 5000])
def test_output_lengths(variant, samples):
    encoder = tiny(variant).eval()
    feats, lengths = encoder(torch.randn(1, samples))
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
            feats, lengths = encoder(batch, torch.tensor(samples))
            for row, length, clip in zip(feats, lengths.tolist(), clips, strict=True):
                alone = encoder(clip[None])[0][0]
                assert alone.shape[0] == length
                torch.testing.assert_close(row[:length], alone, atol=1e-4, rtol=1e-4)
                assert not row[length:].any()

    check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_ignore_padding(variant):
    encoder = tiny(variant)
    sig = torch.randn(2, 3000)
    sig[1, 1500:] = math.nan
    feats, _ = encoder(sig, torch.tensor([3000, 1500]))
    feats.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_bias_follows_its_table():
    encoder = tiny("large").eval()
    sig = torch.randn(1, 3000)
    with torch.no_grad():
        before = encoder(sig)[0]
        encoder.encoder.relative_embedding.weight.add_(
            torch.randn_like(encoder.encoder.relative_embedding.weight)
        )
        after = encoder(sig)[0]
    assert not torch.allclose(before, after)


def test_causal_frames_do_not_see_beyond_their_chunk():
    encoder = tiny("causal").eval()
    sig = torch.randn(1, 320 * 12)
    changed = sig.clone()
    # chunks are of 2 frames, the last sample that frame i sees is 320 i: frame 9 stays
    changed[:, 320 * 9 + 1 :] += 1.0
    with torch.no_grad():
        before, after = encoder(sig)[0], encoder(changed)[0]
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


def test_chunk_mask_counts_back_from_the_end_of_the_chunk():
    mask = chunk_mask(10, chunk_size=4, window_size=5)
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
        tiny("large")(sig, lengths)


@pytest.mark.parametrize("variant", VARIANTS)
def test_exports_with_any_length(variant):
    encoder = tiny(variant).eval()
    shapes = {"sig": {1: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(encoder, (torch.randn(1, 8000),), dynamic_shapes=shapes)
    sig = torch.randn(1, 5001)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(sig)[0], encoder(sig)[0], atol=1e-5, rtol=0)
