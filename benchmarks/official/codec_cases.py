"""Cases of FocalCodec: its methods, states, `length`, properties, and what is left of a codec."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .models import CAUSAL, CONFIGS, PARTS, chunks, inputs, make_codec, shared_codec, uniform
from .packages import Package

Run = Callable[[Package, str], Any]

# method, and how many states it takes
METHODS = {
    "sig_to_feats": 1,
    "sig_to_lats": 2,
    "sig_to_toks": 2,
    "sig_to_codes": 2,
    "sig_to_qfeats": 3,
    "sig_to_sig": 4,
    "feats_to_lats": 1,
    "feats_to_toks": 1,
    "feats_to_codes": 1,
    "feats_to_qfeats": 2,
    "feats_to_sig": 1,
    "lats_to_toks": 0,
    "lats_to_codes": 0,
    "lats_to_qfeats": 1,
    "toks_to_codes": 0,
    "toks_to_qfeats": 1,
    "toks_to_sig": 2,
    "codes_to_toks": 0,
    "codes_to_qfeats": 1,
    "codes_to_sig": 2,
    "forward": 4,
}
VOICE = ("feats_to_sig", "toks_to_sig", "codes_to_sig")
PROPERTIES = (
    "sample_rate",
    "sample_rate_input",
    "sample_rate_output",
    "causal",
    "chunk_size",
    "latency",
    "model_id",
    "codebook",
    *(f"{part}_name" for part in PARTS),
    *(f"{part}_config" for part in PARTS),
)


def positional(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Positional arguments with their defaults; those that are keywords only are our own."""
    return [
        (p.name, repr(p.default))
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def _kind(method: str) -> str:
    return "sig" if method == "forward" else method.split("_to_")[0]


def used(state: Any) -> Any:
    """An encoder's state without the frames of its caches that no later step reads."""
    position, contexts, caches = state
    kept = [None if c is None else [c.shape, c[:, : int(position)]] for c in caches]
    return [position, contexts, kept]


def _states(method: str, states: list[Any]) -> list[Any]:
    from_sig = states and _kind(method) == "sig"
    return [used(states[0]), *states[1:]] if from_sig else states


def call(package: Package, model: str, method: str, **options: Any) -> Any:
    """The method on the whole input."""
    return getattr(shared_codec(package, model), method)(inputs(model)[_kind(method)], **options)


def call_with_states(package: Package, model: str, method: str) -> Any:
    """The method on the whole input, and the states after it."""
    result = call(package, model, method, return_state=True)
    count = 3 if method == "forward" else 1  # outputs before the states
    return type(result).__name__, result[:count], _states(method, list(result[count:]))


def with_length(package: Package, model: str, method: str) -> Any:
    """The method with the official relative lengths."""
    return call(package, model, method, length=torch.tensor([1.0, 0.61]))


def stream(
    package: Package, model: str, method: str, keep_all: bool = False, **options: Any
) -> Any:
    """The method chunk by chunk: outputs, and the states after the last (or each) chunk."""
    run = getattr(shared_codec(package, model), method)
    count = 3 if method == "forward" else 1  # outputs before the states
    outputs, states, state = [], [], []
    for chunk in chunks(_kind(method), inputs(model)[_kind(method)]):
        result = run(chunk, *state, return_state=True, **options)
        outputs.append(result[:count])
        state = list(result[count:])
        states.append(copy.deepcopy(_states(method, state)))
    return outputs, states if keep_all else states[-1]


def short_end(package: Package, model: str, streamed: bool) -> Any:
    """A signal that ends within a chunk, past the window, whole or as a stream."""
    codec, sig = shared_codec(package, model), inputs(model)["sig"][:, :-25]
    if not streamed:
        return codec(sig)
    outputs, state = [], []
    for chunk in chunks("sig", sig):
        *output, a, b, c, d = codec(chunk, *state, return_state=True)
        outputs.append(output)
        state = [a, b, c, d]
    return outputs


def attribute(package: Package, model: str, name: str) -> Any:
    """A property; `sample_rate` raises a RuntimeError where there are two."""
    try:
        value = getattr(shared_codec(package, model), name)
    except RuntimeError:
        return "RuntimeError"
    # the ends of a codebook, which is large
    return [value.shape, value[:9], value[-9:]] if name == "codebook" else value


def info(package: Package, model: str) -> Any:
    """The model information, but for the version."""
    return {k: v for k, v in shared_codec(package, model).info().items() if k != "version"}


def constructed(package: Package, model: str) -> Any:
    """The official constructor; shapes of its states by name."""
    return {k: v.shape for k, v in make_codec(package, CONFIGS[model]).state_dict().items()}


def signature(package: Package, model: str, method: str) -> Any:
    """Names and defaults of the positional arguments, in order."""
    return positional(getattr(package.codec.FocalCodec, method))


def knn(package: Package, model: str, **options: Any) -> Any:
    """Nearest frames of a set of 21."""
    codec = shared_codec(package, model)
    return codec.knn(uniform("query", (2, 5, 8)), uniform("set", (21, 8)), **options)


def without(package: Package, model: str, parts: tuple[str, ...], method: str) -> Any:
    """A codec of which `parts` were set to None, as the wrapper of audiocodecs does."""
    codec = copy.deepcopy(shared_codec(package, model))
    for part in parts:
        setattr(codec, part, None)
    return getattr(codec, method)(inputs(model)[_kind(method)])


def deleted(package: Package, model: str) -> Any:
    """A codec of which encoder and compressor were deleted."""
    codec = copy.deepcopy(shared_codec(package, model))
    del codec.encoder, codec.compressor
    return codec.toks_to_sig(inputs(model)["toks"]), hasattr(codec, "encoder")


def jit(package: Package, model: str) -> Any:
    """The codec of scripted parts, at the whole length; and which parts are scripted."""
    codec = shared_codec(package, model).jit()
    scripted = [isinstance(getattr(codec, part), torch.jit.ScriptModule) for part in PARTS]
    return codec(inputs(model)["sig"]), scripted


def one_row(package: Package, model: str) -> Any:
    """A batch of one clip, shorter than a chunk."""
    return shared_codec(package, model)(inputs(model)["sig"][:1, :61])


def table(model: str) -> dict[str, Run]:
    """Cases of a model by their items."""
    rows: dict[str, Run] = {"constructor": constructed, "info": info, "jit": jit}
    rows |= {f"property {name}": partial(attribute, name=name) for name in PROPERTIES}
    methods = (*METHODS, "__init__", "knn", "from_config", "from_pretrained", "jit", "info")
    methods += ("to_config", "to_pretrained", "onnx")
    rows |= {f"signature {name}": partial(signature, method=name) for name in methods}
    rows |= {method: partial(call, method=method) for method in METHODS}
    rows |= {
        f"{method} length": partial(with_length, method=method)
        for method in METHODS
        if _kind(method) == "sig"
    }
    for method in VOICE:
        voice = {"matching_set": uniform("voice", (40, 8)), "topk": 3}
        short, long = {"output_length": 133}, {"output_length": 999}
        for name, options in {
            "voice": voice,
            "voice in 3": voice | {"num_splits": 3},
            "short": short,
            "long": long,
        }.items():
            rows[f"{method} {name}"] = partial(call, method=method, **options)
    for splits in (1, 2, 4):
        rows[f"knn in {splits}"] = partial(knn, num_splits=splits)
    rows["knn of more than there are"] = partial(knn, topk=30)
    rows["decode without encoder, compressor"] = partial(
        without, parts=("encoder", "compressor"), method="toks_to_sig"
    )
    rows["encode without decoder"] = partial(without, parts=("decoder",), method="sig_to_toks")
    rows["decode with encoder, compressor deleted"] = deleted
    rows["shorter than a chunk"] = one_row
    states = [name for name, number in METHODS.items() if number]
    if model not in CAUSAL:
        rows |= {f"{name} return_state": partial(call_with_states, method=name) for name in states}
    else:
        rows["forward return_state"] = partial(call_with_states, method="forward")
        rows |= {f"{name} stream": partial(stream, method=name) for name in states}
        rows["short end"] = partial(short_end, streamed=False)
        rows["short end stream"] = partial(short_end, streamed=True)
        rows["forward stream, each state"] = partial(stream, method="forward", keep_all=True)
        rows["toks_to_sig stream, voice"] = partial(
            stream, method="toks_to_sig", matching_set=uniform("voice", (40, 8))
        )
    return rows
