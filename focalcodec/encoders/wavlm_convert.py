"""Make our WavLM from any WavLM that `transformers` can load."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from focalcodec.encoders.model_config import checked_config, read_config, weight_files
from focalcodec.errors import UserError, one_line
from focalcodec.hub import hub_folder
from focalcodec.hub.weights import AtMost, check_values
from focalcodec.packages import need_beside_torchaudio
from focalcodec.wavlm import WavLM

_WITHOUT = "use a mini configuration; its log-mel encoder has no weights"
_LAYER_NAMES = {
    "layer_norm": "attention_norm",
    "final_layer_norm": "feed_forward_norm",
    "attention.out_proj": "attention.out_proj",
    "attention.gru_rel_pos_linear": "attention.gru_rel_pos_linear",
    "feed_forward.intermediate_dense": "feed_forward.in_proj",
    "feed_forward.output_dense": "feed_forward.out_proj",
}


def wavlm_from_transformers(
    source: str | os.PathLike[str],
    layer: int = 6,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> WavLM:
    """Load a WavLM up to one of its layers: float32, in eval mode.

    Its feats are `hidden_states[layer]` of `transformers.WavLMModel`: the output of the layer
    itself. For the last layer of a WavLM-large that is before the norm that closes the model
    (`last_hidden_state`, and in transformers 4 `hidden_states[-1]`, are after it).

    The waveform is not normalised. Some WavLMs were trained on clips of zero mean and unit
    variance: see `do_normalize` in the `preprocessor_config.json` beside the weights. FocalCodec's
    published models nevertheless use WavLM-large without normalisation. For another model,
    normalise each clip first if the model was trained on normalised clips.

    Parameters
    ----------
    source : str or path
        Local folder, or name on the Hugging Face hub, e.g. "microsoft/wavlm-large".
    layer : int
        The feats are the output of this layer, 1 to the model's number of layers.
    revision, token, cache_dir, local_files_only
        For the hub: see `focalcodec.hub.hub_folder`.

    Raises
    ------
    UserError
        The model is not available, is not a WavLM, lacks weights, uses an unsupported option, or
        has no such layer.

    Example
    -------
    >>> wavlm_from_transformers("no/such/folder", local_files_only=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/such/folder: ...
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _download(os.fspath(source), revision, token, cache_dir, local_files_only)
    config, state = _load_wavlm(os.fspath(source), folder)
    _check_config(os.fspath(source), config, layer)
    encoder = WavLM(**convert_config(config, layer))
    converted = convert_state(state, encoder)
    check_values(source, state | converted)
    encoder.load_state_dict(converted)
    return encoder.eval()


def convert_config(config: Any, layer: int) -> dict[str, Any]:
    """Arguments of a `WavLM` up to a layer, from a `transformers.WavLMConfig`."""
    return {
        "hidden_dims": list(config.conv_dim),
        "kernel_sizes": list(config.conv_kernel),
        "strides": list(config.conv_stride),
        "num_layers": layer,
        "dim": config.hidden_size,
        "ffn_dim": config.intermediate_size,
        "num_heads": config.num_attention_heads,
        "num_buckets": config.num_buckets,
        "max_distance": config.max_bucket_distance,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "layer_norm_first": config.do_stable_layer_norm,
        "extractor_norm": config.feat_extract_norm,
    }


def convert_state(state: Mapping[str, Tensor], encoder: WavLM) -> dict[str, Tensor]:
    """Weights for `encoder`, float32, from the state dict of a whole `transformers.WavLMModel`.

    The weight norm of the positional embedding may have either layout of torch, or be folded in.
    """
    names = {
        "norm": "feature_projection.layer_norm",
        "feature_proj": "feature_projection.projection",
        "encoder.norm": "encoder.layer_norm",
        "encoder.relative_embedding": "encoder.layers.0.attention.rel_attn_embed",
    }
    for i in range(len(encoder.feature_extractor.layers)):
        ours, theirs = f"feature_extractor.layers.{i}", f"feature_extractor.conv_layers.{i}"
        names |= {f"{ours}.conv": f"{theirs}.conv", f"{ours}.norm": f"{theirs}.layer_norm"}
    converted = {}
    for i in range(len(encoder.encoder.layers)):
        layer = f"encoder.layers.{i}"
        names |= {f"{layer}.{ours}": f"{layer}.{theirs}" for theirs, ours in _LAYER_NAMES.items()}
        const = f"{layer}.attention.gru_rel_pos_const"
        converted[const] = state[const]
        for kind in ("weight", "bias"):
            converted[f"{layer}.attention.qkv_proj.{kind}"] = torch.cat(
                [state[f"{layer}.attention.{part}_proj.{kind}"] for part in "qkv"]
            )
    positional = "encoder.positional_embedding.conv"
    converted[f"{positional}.weight"] = _folded_weight(state, "encoder.pos_conv_embed.conv")
    converted[f"{positional}.bias"] = state["encoder.pos_conv_embed.conv.bias"]
    for name in encoder.state_dict():
        if name not in converted:
            module, kind = name.rsplit(".", 1)
            converted[name] = state[f"{names[module]}.{kind}"]
    return {name: tensor.float() for name, tensor in converted.items()}


def _folded_weight(state: Mapping[str, Tensor], conv: str) -> Tensor:
    """Weight of a convolution with weight norm over all but the kernel positions."""
    if f"{conv}.weight" in state:
        return state[f"{conv}.weight"]
    if f"{conv}.weight_g" in state:
        gain, direction = state[f"{conv}.weight_g"], state[f"{conv}.weight_v"]
    else:
        gain = state[f"{conv}.parametrizations.weight.original0"]
        direction = state[f"{conv}.parametrizations.weight.original1"]
    return gain.float() * direction.float() / direction.float().norm(dim=(0, 1), keepdim=True)


def _download(
    source: str,
    revision: str | None,
    token: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> Path:
    """Folder of a hub model, with weights in PyTorch's older format only if there are no others."""
    try:
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            patterns = ("*.json", weights)
            folder = hub_folder(source, patterns, revision, token, cache_dir, local_files_only)
            if any(folder.glob(weights)):
                break
    except UserError as error:
        raise UserError(f"{error}, or {_WITHOUT}") from error
    return folder


def _load_wavlm(source: str, folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """Configuration and all weights of the WavLM in a folder."""
    transformers, model_class = _wavlm_classes()
    try:
        values = read_config(folder)
        if values.get("model_type") != "wavlm":
            kind = reprlib.repr(values.get("model_type"))
            raise UserError(f"model_type is {kind}; give a model of type 'wavlm'")
        config = checked_config(transformers.AutoConfig, values)
        pattern = "*.safetensors" if any(folder.glob("*.safetensors")) else "pytorch_model*.bin"
        with AtMost(weight_files(folder, pattern)):
            model, report = model_class.from_pretrained(
                folder, config=config, output_loading_info=True, local_files_only=True
            )
    # errors for files that are missing, damaged or of others; other errors are bugs and pass
    except (
        *(OSError, RuntimeError, EOFError, ValueError, KeyError),
        *(SafetensorError, UnpicklingError),
    ) as error:
        raise UserError(
            f"{source}: this WavLM can't be read ({one_line(error)}); give a local folder with"
            f" config.json and the weights, or {_WITHOUT}"
        ) from error
    # the encoder does not need the vector that replaces masked frames in pre-training
    missing = sorted(set(report["missing_keys"]) - {"masked_spec_embed"})
    if missing:
        raise UserError(
            f"{source}: {len(missing)} weights are missing, {missing[0]} first; "
            "download the model again"
        )
    return model.config, model.state_dict()


def _check_config(source: str, config: Any, layer: int) -> None:
    if not 1 <= layer <= config.num_hidden_layers:
        raise UserError(f"layer: {layer}; {source} has layers 1 to {config.num_hidden_layers}")
    supported = {
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "conv_bias": False,
        "layer_norm_eps": 1e-5,
    }
    for key, value in supported.items():
        if getattr(config, key) != value:
            raise UserError(
                f"{source}: {key} is {getattr(config, key)!r}; choose a WavLM with {value!r}"
            )


def _wavlm_classes() -> tuple[Any, Any]:
    transformers = need_beside_torchaudio("transformers", "pip install transformers")
    return transformers, transformers.WavLMModel
