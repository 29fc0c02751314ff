"""A trained model as transformers' Llama, which llama.cpp, vLLM and other tools read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focalcodec.errors import UserError
from focalcodec.packages import need_beside_torchaudio

if TYPE_CHECKING:
    from focalcodec.lm.model import SpeechLM

_NAMES = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.out": "self_attn.o_proj",
    "attention.": "self_attn.",
    "ffn.": "mlp.",
    ".down.weight": ".down_proj.weight",
}
"""Parts of names here, and in transformers."""


def to_llama(model: SpeechLM) -> Any:
    """`LlamaForCausalLM` with the same logits; see `SpeechLM.to_transformers`."""
    if model.chunk_size > 1:
        raise UserError(
            f"chunk_size={model.chunk_size}: Llama predicts one id at a time; export a model that"
            " was trained with chunk_size=1"
        )
    transformers = need_beside_torchaudio("transformers", "pip install transformers")
    sizes = model.config
    config = transformers.LlamaConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["ffn_size"] or 4 * sizes["hidden_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
    )
    weights = {  # the map of the bits becomes part of the tables
        "model.embed_tokens.weight": model.table + model.codes @ model.bits.T,
        "lm_head.weight": model.output_vectors()[0],
    }
    for name, weight in model.state_dict().items():
        if name.startswith(("layers.", "norm.")):
            for ours, theirs in _NAMES.items():
                name = name.replace(ours, theirs)
            weights[f"model.{name}"] = weight
    key_size = sizes["num_kv_heads"] * (sizes["hidden_size"] // sizes["num_heads"])
    for number in range(sizes["num_layers"]):
        layer = f"model.layers.{number}"
        qkv = weights.pop(f"{layer}.self_attn.qkv.weight")
        for name, part in zip("qkv", qkv.tensor_split([-2 * key_size, -key_size]), strict=True):
            weights[f"{layer}.self_attn.{name}_proj.weight"] = part
        both = weights.pop(f"{layer}.mlp.gate_up.weight").chunk(2)
        for name, part in zip(("gate", "up"), both, strict=True):
            weights[f"{layer}.mlp.{name}_proj.weight"] = part
    llama = transformers.LlamaForCausalLM(config)
    llama.load_state_dict({name: weight.detach() for name, weight in weights.items()})
    return llama.eval()
