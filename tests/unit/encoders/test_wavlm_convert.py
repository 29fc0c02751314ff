"""WavLM of `transformers`: the same numbers, and models that can't be loaded."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from focalcodec.encoders import wavlm_convert
from focalcodec.encoders.wavlm_convert import convert_state, wavlm_from_transformers
from focalcodec.errors import UserError
from focalcodec.wavlm import WavLM

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
    transformers, model_class = wavlm_convert._wavlm_classes()
    torch.manual_seed(0)
    config = transformers.WavLMConfig(**STRUCTURES[structure], **sizes)
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
            feats, lengths = encoder.run(sig)
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
        feats, frames = encoder(sig, lengths=lengths)
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
        torch.testing.assert_close(encoder.run(sig)[0], expected, atol=1e-4, rtol=0)


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


# -- the hub's cache -----------------------------------------------------------------------------


def save(model, folder: Path) -> Path:
    """Write a model in both formats that there are."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("removed", ["model.safetensors", "pytorch_model.bin"])
def test_cached_hub_model_without_a_network(removed, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    repository, commit = tmp_path / "models--some--wavlm", "0123456789" * 4
    model = transformers_model("large", **SMALL)
    (save(model, repository / "snapshots" / commit) / removed).unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    encoder = wavlm_from_transformers("some/wavlm", layer=1, cache_dir=tmp_path)
    expected = convert_state(model.state_dict(), encoder)
    assert all(torch.equal(expected[key], value) for key, value in encoder.state_dict().items())


# -- what can't be loaded -----------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_error_of_a_missing_folder_has_a_way_out(tmp_path):
    with pytest.raises(UserError, match="local folder.*log-mel") as error:
        wavlm_from_transformers(tmp_path / "nowhere", local_files_only=True)
    assert "nowhere" in one_line(error)


def test_error_of_a_missing_hub_model_has_a_way_out(tmp_path):
    with pytest.raises(UserError, match="local folder.*log-mel") as error:
        wavlm_from_transformers("some/wavlm", cache_dir=tmp_path, local_files_only=True)
    assert one_line(error).startswith("some/wavlm: ")


def test_no_network_is_reported_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UserError, match="check name and network.*log-mel") as error:
        wavlm_from_transformers("some/wavlm", cache_dir=tmp_path)
    one_line(error)
    assert time.monotonic() - start < 5


def test_folder_without_weights(tmp_path):
    transformers_model("large", **SMALL).config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="local folder") as error:
        wavlm_from_transformers(tmp_path, layer=1)
    one_line(error)


@pytest.mark.parametrize("keep", [0, 5000, -100])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights(name, keep, tmp_path):
    path = save(transformers_model("large", **SMALL), tmp_path) / name
    path.write_bytes(path.read_bytes()[:keep])
    other = {"model.safetensors", "pytorch_model.bin"} - {name}
    (tmp_path / other.pop()).unlink()
    with pytest.raises(UserError, match="can't be read.*local folder.*log-mel") as error:
        wavlm_from_transformers(tmp_path, layer=1)
    assert one_line(error).startswith(str(tmp_path))


@pytest.mark.parametrize("layer", [0, 4])
def test_no_such_layer(layer, tmp_path):
    transformers_model("large", **SMALL).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"layer: {layer}; .* 1 to 3"):
        wavlm_from_transformers(tmp_path, layer=layer)


def test_another_kind_of_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(UserError, match="'hubert'; give a model of type 'wavlm'"):
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

    _, model_class = wavlm_convert._wavlm_classes()
    monkeypatch.setattr(model_class, "from_pretrained", broken)
    with pytest.raises(TypeError, match="a bug"):
        wavlm_from_transformers(tmp_path, layer=2)
