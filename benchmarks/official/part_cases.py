"""Cases of the parts: returns, streams, attributes, hooks, order, classes, script, trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .codec_cases import positional, used
from .compare import flatten
from .models import CAUSAL, CHUNK, CONFIGS, PARTS, fill, inputs, part_class, shared_codec, uniform
from .packages import Package

Run = Callable[[Package, str], Any]

KINDS = {
    "encoder": "sig",
    "compressor": "feats",
    "quantizer": "lats",
    "decompressor": "codes",
    "decoder": "feats",
}
DERIVED = {
    "encoder": ("sample_rate", "downsample_factor", "chunk_size"),
    "compressor": ("downsample_factor", "chunk_size"),
    "quantizer": ("dim",),
    "decompressor": ("upsample_factor", "chunk_size"),
    "decoder": ("upsample_factor", "chunk_size"),
}
# class, its arguments, and the shapes of its inputs: classes that clients import by name
CLASSES: dict[str, tuple[dict[str, Any], list[tuple[int, ...]]]] = {
    "wavlm.ConvPositionalEmbedding": ({"dim": 8, "kernel_size": 6, "groups": 2}, [(2, 9, 8)]),
    "wavlm.ConvBlock": (
        {"input_dim": 3, "output_dim": 4, "kernel_size": 5, "stride": 2},
        [(2, 9, 3)],
    ),
    "wavlm.MultiHeadAttention": ({"dim": 8, "num_heads": 2}, [(2, 9, 8), (2, 9, 9)]),
    "wavlm.TransformerLayer": (
        {"dim": 8, "ffn_dim": 12, "num_heads": 2},
        [(2, 9, 8), (2, 9, 9)],
    ),
    "wavlm.TransformerEncoder": (
        {"num_layers": 1, "dim": 8, "ffn_dim": 12, "num_heads": 2, "conv_pos": 6}
        | {"conv_pos_groups": 2, "max_cached_steps": 0, "num_buckets": 32, "max_distance": 80},
        [(2, 9, 8)],
    ),
    "focalnet.FocalDownScale": (
        {"input_dim": 8, "output_dim": 6, "downscale_factor": 2, "window_size": 5},
        [(2, 9, 8)],
    ),
    "focalnet.FocalUpScale": (
        {"input_dim": 8, "output_dim": 6, "upscale_factor": 2, "window_size": 5},
        [(2, 9, 8)],
    ),
    "focalnet.FocalModulation": ({"dim": 8, "window_size": 5}, [(2, 9, 8)]),
    "focalnet.Snake1d": ({"dim": 8}, [(2, 9, 8)]),
    "focalnet.DynamicTanh": ({"normalized_shape": 8}, [(2, 9, 8)]),
    "focalnet.DownScale": (
        {"input_dim": 8, "output_dim": 6, "kernel_size": 2, "stride": 2},
        [(2, 9, 8)],
    ),
    "focalnet.UpScale": (
        {"input_dim": 8, "output_dim": 6, "kernel_size": 2, "stride": 2},
        [(2, 9, 8)],
    ),
    "focalnet.ChunkFeedForward": ({"chunk_size": 4, "dim": 8, "ffn_dim": 16}, [(2, 9, 8)]),
    "vocos.VocosBackbone": (
        {"input_dim": 8, "num_layers": 2, "dim": 6, "ffn_dim": 10},
        [(2, 9, 8)],
    ),
    "vocos.ConvNeXtBlock": ({"dim": 8, "ffn_dim": 10}, [(2, 9, 8)]),
    "vocos.ISTFT": ({"n_fft": 64, "hop_length": 20, "win_length": 64}, [(2, 9, 33)]),
    "wavenext.WaveNeXtBackbone": (
        {"input_dim": 8, "num_layers": 2, "dim": 6, "ffn_dim": 10},
        [(2, 9, 8)],
    ),
    "wavenext.WaveNeXtHead": ({"dim": 8, "hop_length": 30}, [(2, 9, 8)]),
}
# parts of one argument changed, in the offline and in the causal model
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("encoder", {"lookahead_size": 0}),
    ("encoder", {"window_size": 6}),
    ("encoder", {"conv_pos": 7}),
    ("compressor", {"downscale_factors": [3, 1, 2]}),
    ("compressor", {"use_post_norm": True}),
    ("compressor", {"use_layerscale": True}),
    ("compressor", {"normalize_modulator": True}),
    ("compressor", {"tanhscale_init": 0.3}),
    ("decompressor", {"upscale_factors": [3, 1, 2]}),
    ("decompressor", {"lookahead_size": 0}),
    ("decompressor", {"focal_level": 3}),
    ("decoder", {"layerscale_init": 0.3}),
    ("decoder", {"kernel_size": 4}),
]
MORE_VARIANTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "50hz": [
        ("decoder", {"causal": True}),
        ("decoder", {"hop_length": 21}),
        ("decoder", {"hop_length": 32}),
    ],
    "50hz_4k_causal": [("decoder", {"causal": False})],
}
NEVER_CAUSAL = (
    "focalnet.Snake1d",
    "focalnet.DynamicTanh",
    "focalnet.ChunkFeedForward",
    "wavenext.WaveNeXtHead",
)
NAMES = ("codec.REGISTRY", "codec.DEFAULT_CONFIGS", "version.VERSION")


def whole(package: Package, model: str, part: str) -> Any:
    """All that the part returns for the whole input."""
    result = getattr(shared_codec(package, model), part)(inputs(model)[KINDS[part]])
    return result if part != "encoder" else (result[0], used(result[1:]))


def stream(package: Package, model: str, part: str) -> Any:
    """The part chunk by chunk; a client takes the output first and hands back the rest."""
    module, kind, state, outputs = getattr(shared_codec(package, model), part), KINDS[part], [], []
    for chunk in inputs(model)[kind].split(CHUNK * (20 if kind == "sig" else 1), dim=1):
        output, *state = module(chunk, *state)
        outputs.append(output)
    return outputs, used(state) if part == "encoder" else state


def variant(package: Package, model: str, part: str, changes: dict[str, Any]) -> Any:
    """A part with one argument changed: parameters, and its output, in chunks where causal."""
    arguments, kind = CONFIGS[model][f"{part}_config"] | changes, KINDS[part]
    module = fill(part_class(package, CONFIGS[model], part)(**arguments))
    number = sum(tensor.numel() for tensor in module.state_dict().values())
    x = inputs(model)[kind]
    if not arguments["causal"]:
        return number, module(x)[0]
    outputs, state = [], []
    for chunk in x.split(12 * (20 if kind == "sig" else 1), dim=1):
        output, *state = module(chunk, *state)
        outputs.append(output)
    return number, outputs


def length(package: Package, model: str) -> Any:
    """The encoder with the official relative lengths."""
    relative = torch.tensor([1.0, 0.61])
    feats, *state = shared_codec(package, model).encoder(inputs(model)["sig"], length=relative)
    return feats, used(state)


def attributes(package: Package, model: str, part: str) -> Any:
    """Arguments of the constructor as attributes; `dropout` is a module in some classes."""
    module = getattr(shared_codec(package, model), part)
    names = [name for name in CONFIGS[model][f"{part}_config"] if name != "dropout"]
    return {name: getattr(module, name) for name in (*names, *DERIVED[part])}


def hooks(package: Package, model: str, part: str, names: tuple[str, ...]) -> Any:
    """Item 0 of what a hook gets as inputs and as output of submodules."""
    module, seen = getattr(shared_codec(package, model), part), {}
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: (args[0], output[0])})
        )
        for name in names
    ]
    try:
        module(inputs(model)[KINDS[part]])
    finally:
        for handle in handles:
            handle.remove()
    return seen


def backbone(package: Package, model: str) -> Any:
    """The backbone of the decoder alone."""
    output, *_ = shared_codec(package, model).decoder.backbone(inputs(model)["feats"])
    return output


def order(package: Package, model: str, part: str) -> Any:
    """Parameters in the order of an optimizer, with their shapes."""
    module = getattr(shared_codec(package, model), part)
    return [(name, tuple(p.shape)) for name, p in module.named_parameters()]


class First(nn.Module):
    """A part whose states are dropped: what can be traced in both packages."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Output of the part alone."""
        return self.part(x)[0]


def traced(package: Package, model: str, part: str) -> Any:
    """A part traced at one length, run at three."""
    module, x = getattr(shared_codec(package, model), part), inputs(model)[KINDS[part]]
    trace = torch.jit.trace(First(module), x, check_trace=False)
    return [
        trace(piece) for piece in (x, torch.cat([x, x.flip(1)], dim=1), x[:, : x.shape[1] // 2])
    ]


def scripted(package: Package, model: str, part: str) -> Any:
    """A scripted part, run at three lengths."""
    module, x = getattr(shared_codec(package, model), part), inputs(model)[KINDS[part]]
    script = torch.jit.script(module)
    return [script(y)[0] for y in (x, torch.cat([x, x.flip(1)], dim=1), x[:, : x.shape[1] // 2])]


def signature(package: Package, model: str, part: str, method: str) -> Any:
    """Positional arguments of a method of a part with their defaults, in order."""
    return positional(getattr(part_class(package, CONFIGS[model], part), method))


def is_cache(x: Any) -> bool:
    """Whether a leaf is a cache of keys and values."""
    return isinstance(x, Tensor) and x.dim() == 5


def built(package: Package, model: str, name: str, causal: bool) -> Any:
    """A class by its name: its states and what it returns."""
    arguments, shapes = CLASSES[name]
    module_name, class_name = name.split(".")
    cls = getattr(getattr(package, module_name), class_name)
    module = fill(cls(**arguments, **({"causal": True} if causal else {})))
    xs = [uniform(f"{name}{i}", shape) for i, shape in enumerate(shapes)]
    if name == "vocos.ISTFT":
        xs = [torch.complex(xs[0], uniform("imaginary", shapes[0]))]
    result = module(*xs)
    # a cache of keys and values has 512 frames, of which 9 are used
    leaves = [x[:, :9] if is_cache(x) else x for x in flatten(result).values()]
    return type(result).__name__, leaves, [key for key, _ in module.named_parameters()]


def named(package: Package, model: str, name: str) -> Any:
    """A name of a module: sorted keys of a dict, a list, or that there is a string."""
    module_name, attribute = name.split(".")
    value = getattr(getattr(package, module_name), attribute)
    return type(value).__name__ if isinstance(value, str) else sorted(value)


def table(model: str) -> dict[str, Run]:
    """Cases of a model by their items."""
    rows: dict[str, Run] = {"encoder length": length, "decoder.backbone": backbone}
    for part in PARTS:
        rows[part] = partial(whole, part=part)
        rows[f"{part} attributes"] = partial(attributes, part=part)
        rows[f"{part} order"] = partial(order, part=part)
        rows[f"{part} script"] = partial(scripted, part=part)
        rows[f"{part} trace"] = partial(traced, part=part)
        if model in CAUSAL and part != "quantizer":
            rows[f"{part} stream"] = partial(stream, part=part)
    layers = ("encoder.positional_embedding", "encoder.layers.0", "encoder.layers.1")
    rows["encoder hooks"] = partial(hooks, part="encoder", names=layers)
    rows["compressor hooks"] = partial(hooks, part="compressor", names=("layers.0", "layers.2"))
    rows["decompressor hooks"] = partial(hooks, part="decompressor", names=("layers.0", "layers.2"))
    rows["decoder hooks"] = partial(hooks, part="decoder", names=("backbone", "backbone.layers.0"))
    if model in ("50hz", "50hz_4k_causal"):
        causal = model in CAUSAL
        for method in ("__init__", "forward"):
            for part in PARTS:
                run = partial(signature, part=part, method=method)
                rows[f"signature of {part} {method}"] = run
        for part, changes in VARIANTS + MORE_VARIANTS[model]:
            text = ", ".join(f"{key}={value}" for key, value in changes.items())
            rows[f"{part} of {text}"] = partial(variant, part=part, changes=changes)
        for name in CLASSES:
            if not (causal and name in NEVER_CAUSAL):
                rows[f"class {name}"] = partial(built, name=name, causal=causal)
        rows |= {f"name {name}": partial(named, name=name) for name in NAMES if not causal}
    return rows
