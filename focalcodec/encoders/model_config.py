"""Configurations and weights of `transformers` models, which come from others.

`transformers` gives most values to its models unchecked, and some of them name code. So a model
gets only the keys that its layers need, and these are checked first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from focalcodec.errors import UserError, one_line
from focalcodec.files import read_json
from focalcodec.hub.weights import AtMost, check_arguments, check_types, check_values

PREPROCESSOR = "preprocessor_config.json"
_Activation = Literal[
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "quick_gelu",
    "relu",
    "relu6",
    "silu",
    "swish",
    "tanh",
]
_WAVEFORM: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "intermediate_size"), int),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), int),
    **dict.fromkeys(("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"), int),
    **dict.fromkeys(("num_buckets", "max_bucket_distance"), int),
    **dict.fromkeys(("conv_dim", "conv_kernel", "conv_stride"), Sequence[int]),
    **dict.fromkeys(("conv_bias", "conv_pos_batch_norm", "feat_proj_layer_norm"), bool),
    **dict.fromkeys(("hidden_act", "feat_extract_activation"), _Activation),
    "adapter_attn_dim": int | None,
    "do_stable_layer_norm": bool,
    "feat_extract_norm": Literal["group", "layer"],
    "layer_norm_eps": float,
    # of training: they decide whether there is a vector that replaces masked frames
    **dict.fromkeys(("mask_time_prob", "mask_feature_prob"), float),
}
_WHISPER: dict[str, Any] = {
    **dict.fromkeys(("d_model", "num_mel_bins", "max_source_positions"), int),
    **dict.fromkeys(("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"), int),
    "activation_function": _Activation,
    "scale_embedding": bool,
    # of the decoder, which the files of a whole Whisper have too
    **dict.fromkeys(("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"), int),
    **dict.fromkeys(("max_target_positions", "vocab_size"), int),
    "pad_token_id": int | None,
}
MODELS = {"wavlm": _WAVEFORM, "hubert": _WAVEFORM, "wav2vec2": _WAVEFORM, "whisper": _WHISPER}

# Keys that name code, or change how weights are read. The values here are without effect.
_Attention = Literal[None, "eager", "sdpa"]
_Format = Literal[None, "float32", "float16", "bfloat16", "float64"]
_WITHOUT_CODE: dict[str, Any] = {
    "attn_implementation": _Attention,
    "_attn_implementation": _Attention,
    "_attn_implementation_internal": _Attention,
    **dict.fromkeys(("experts_implementation", "_experts_implementation"), Literal[None, "eager"]),
    **dict.fromkeys(("dtype", "torch_dtype"), _Format),
    **dict.fromkeys(("auto_map", "quantization_config", "transformers_weights"), Literal[None]),
    "trust_remote_code": Literal[None, False],
}


def read_config(folder: Path) -> dict[str, Any]:
    """Content of a model's `config.json`; a `UserError` if it is not JSON, or as `check_code`."""
    path = folder / "config.json"
    values = read_json(path, "give a folder with config.json and model.safetensors")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, not names; is it a configuration?")
    check_code(f"{path}: ", values)
    return values


def weight_files(folder: Path, pattern: str = "*.safetensors") -> list[Path]:
    """The files of a model's weights, whose types are checked, and their index.

    Raises a `UserError` if there are none, as `check_types`, and for an index that is not one.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: no {pattern} there; copy the whole folder of the model")
    names = {path.name for path in files}
    for path in folder.glob(f"*{files[0].suffix}.index.json"):
        index = read_json(path)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(listed, dict) or not names >= {*map(str, listed.values())}:
            raise UserError(f"{path}: does not name files beside it; copy the whole folder again")
    check_types([path for path in files if path.suffix == ".safetensors"])
    return files


def check_code(prefix: str, values: Mapping[str, Any]) -> None:
    """Raise a `UserError` if a configuration, or one inside it, names code or unknown formats."""
    pending = [values]
    while pending:
        inner = pending.pop()
        check_arguments(prefix, inner, _WITHOUT_CODE)
        pending += [value for value in inner.values() if isinstance(value, Mapping)]


def checked_config(auto_config: Any, values: Mapping[str, Any]) -> Any:
    """Configuration object of `transformers`, of the keys that its layers need.

    `auto_config` is `transformers.AutoConfig`. An adapter at the end of the model is off. Raises a
    `UserError` for another `model_type`, as `check_code`, and for values of a wrong type or size.
    """
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(f"model_type={kind!r}: not one of {', '.join(MODELS)}")
    check_code("", values)
    check_arguments("", values, MODELS[kind])
    kept = {key: value for key, value in values.items() if key in MODELS[kind]}
    lengths = {len(kept[key]) for key in ("conv_dim", "conv_kernel", "conv_stride") if key in kept}
    if len(lengths) > 1:
        raise UserError("conv_dim, conv_kernel, conv_stride: not equally long; correct them")
    if kept.get("num_buckets", 320) // 4 not in range(1, kept.get("max_bucket_distance", 800)):
        raise UserError(
            "num_buckets, max_bucket_distance: they do not fit each other; correct them"
        )
    try:
        config = auto_config.for_model(kind, **kept)
    # of any kind, where two values do not fit each other
    except Exception as error:
        raise UserError(f"no configuration of a {kind} ({one_line(error)}); correct it") from error
    config.add_adapter = False
    return config


def read_model(transformers: Any, folder: Path) -> tuple[Any, dict[str, Any], set[str], bool]:
    """Model (float32) of a folder, its configuration, missing weights, and `normalize`.

    Raises a `UserError` for files that are missing, damaged, or as the functions of this module.
    """
    values = read_config(folder)
    config = checked_config(transformers.AutoConfig, values)
    files = weight_files(folder)
    normalize = False
    if config.model_type != "whisper" and (folder / PREPROCESSOR).is_file():
        options = read_json(folder / PREPROCESSOR)
        normalize = bool(options.get("do_normalize", True)) if isinstance(options, dict) else True
    try:
        # its own values are kept, training options included: they are part of the encoder's hash
        stored = transformers.AutoConfig.for_model(**{**values, "dtype": "float32"}).to_diff_dict()
        with AtMost(files):
            model, report = transformers.AutoModel.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
            )
    except UserError:
        raise
    # of any kind, where files are missing, damaged or of another model
    except Exception as error:
        raise UserError(
            f"no speech encoder that transformers can load ({one_line(error)}); give a folder with"
            " config.json and model.safetensors"
        ) from error
    check_values(folder, model.state_dict())
    return model, stored, set(report["missing_keys"]), normalize
