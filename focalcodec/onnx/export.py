"""Write a codec as a folder of ONNX graphs that are proven equal to it."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch

from focalcodec.audio import read_audio
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError, one_line
from focalcodec.hub.checkpoints import stored_tensors
from focalcodec.onnx.check import SPEECH, Agreement, compare, compare_streams
from focalcodec.onnx.export_folder import (
    as_text,
    describe_codec,
    describe_graph,
    new_files,
    quiet,
)
from focalcodec.onnx.graphs import Graph, check_exported, dynamic_shapes, graphs_of
from focalcodec.onnx_runtime import OnnxCodec
from focalcodec.onnx_runtime.bundle import DESCRIPTION, FORMAT, FORMAT_VERSION
from focalcodec.packages import need
from focalcodec.vocos import ISTFT

OPSET = 20
_INSTALL = "pip install 'focalcodec[onnx]'"


def export_onnx(
    codec: FocalCodec, folder: str | os.PathLike[str], dtype: str = "float32"
) -> Agreement:
    """Write the graphs of a codec and `onnx.json` to a folder; return how well they agree.

    The graphs are checked by `onnx.checker`, and compared with the codec on the speech of the
    package, the steps of a causal codec with the sessions of PyTorch, chunk by chunk. Nothing is
    written if they differ by more than rounding: a bit of a token may differ where its latent is
    within 1e-5 of zero, a sample of the waveform by 1e-4.

    Parameters
    ----------
    codec : FocalCodec
        In float32, on the CPU; it is not changed.
    folder : str or path
        Is made if it is missing; files of an earlier export are replaced.
    dtype : {"float32", "float16", "int8"}
        Of the stored weights; the first two are computed in float32. "float16" rounds them first,
        which may change a few tokens. Weights that are float16 numbers are always stored as these.
        "int8" computes most products in 8 bits: at least 98.5 % of the bits must be equal.

    Raises
    ------
    UserError
        The codec can't be exported, a package is missing, or the graphs differ from the codec.

    Example
    -------
    >>> from focalcodec.precision import pack_weights
    >>> export_onnx(pack_weights(FocalCodec.from_pretrained("demo")), "demo_onnx")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: demo: can't be exported to ONNX: its weights are packed; load it\
 again
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, _INSTALL)
    sha256 = codec.weights_sha256  # of the given weights, as in token files
    int8 = dtype == "int8"
    check_exported(codec)
    codec = copy.deepcopy(codec).eval()  # its weights may be rounded
    codec.load_state_dict(stored_tensors(codec.state_dict(), "float32" if int8 else dtype))
    graphs = graphs_of(codec)
    with new_files(folder) as made:
        for name, graph in graphs.items():
            _write_graph(codec, graph, made / f"{name}.onnx", int8)
        about = _describe(codec, sha256, graphs, made, dtype)
        (made / DESCRIPTION).write_text(as_text(about), encoding="utf-8")
        return _proven(codec, OnnxCodec.from_pretrained(made), int8)


def _proven(codec: FocalCodec, found: OnnxCodec, int8: bool) -> Agreement:
    """How well a bundle agrees with its codec; a `UserError` if it is not enough."""
    sig = read_audio(SPEECH, codec.sample_rate_input)
    agreements = {"graphs": compare(codec, found, sig)}
    if codec.causal:
        agreements["steps of a stream"] = compare_streams(codec, found, sig)
    for name, agreement in agreements.items():
        if not (agreement.holds_in_int8 if int8 else agreement.holds):
            raise UserError(f"{codec.name}: the {name} differ from the codec: {agreement}")
    first, *others = agreements.values()
    return sum(others, first)


def _write_graph(codec: FocalCodec, graph: Graph, path: Path, int8: bool) -> None:
    """Export, shrink and check one graph."""
    import onnx

    from focalcodec.onnx.weights import compute_basis, plain, quantized, store_in_float16

    model = _exported(codec, graph)
    plain(model, {name: tuple(axes) for name, axes in graph.axes.items()})
    for layer in graph.module.modules():
        if isinstance(layer, ISTFT):
            compute_basis(model, layer)
    model = quantized(model) if int8 else model
    store_in_float16(model)
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def _exported(codec: FocalCodec, graph: Graph) -> Any:
    """The graph as a `ModelProto`."""
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=dynamic_shapes(graph),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except UserError:
        raise
    except Exception as error:  # of many kinds, with a report of hundreds of lines
        reason = one_line(error)[:200]
        kind = type(graph.module).__name__
        raise UserError(
            f"{codec.name}: can't be exported to ONNX, {kind} failed: {reason}"
        ) from error
    return program.model_proto  # type: ignore[union-attr]


def _describe(
    codec: FocalCodec, sha256: str, graphs: dict[str, Graph], folder: Path, dtype: str
) -> dict[str, Any]:
    """Content of `onnx.json`."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **describe_codec(codec, sha256),
        "precision": "int8" if dtype == "int8" else "float32",
        "weights": dtype,
        "opset": OPSET,
        "graphs": {
            name: describe_graph(graph, folder / f"{name}.onnx") for name, graph in graphs.items()
        },
    }
