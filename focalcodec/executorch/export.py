"""Write a codec as a folder of ExecuTorch programs that are proven equal to it."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import torch

from focalcodec.audio import read_audio
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError, one_line
from focalcodec.executorch.graphs import longest, overlap_add, programs_of, use_real_spectra
from focalcodec.executorch.programs import Programs
from focalcodec.onnx.check import SPEECH, Agreement, compare, compare_streams
from focalcodec.onnx.export_folder import (
    as_text,
    describe_codec,
    describe_graph,
    new_files,
    quiet,
)
from focalcodec.onnx.graphs import Graph, check_exported
from focalcodec.onnx_runtime import OnnxCodec
from focalcodec.packages import need, versions
from focalcodec.wavlm import WavLM

FORMAT, FORMAT_VERSION = "focalcodec-executorch", 1
DESCRIPTION = "executorch.json"
_INSTALL = "pip install 'focalcodec[executorch]'"


def export_executorch(codec: FocalCodec, folder: str | os.PathLike[str]) -> Agreement:
    """Write the programs of a codec and `executorch.json`; return how well they agree.

    The programs are lowered for the XNNPACK backend, run with ExecuTorch's Python runtime, and
    compared with the codec on the speech of the package, by the limits of `export_onnx`; nothing is
    written if they differ. A causal codec becomes the two steps of a stream, any other one the
    programs encoder, decompressor and decoder for clips of up to 10 s.

    Parameters
    ----------
    codec : FocalCodec
        In float32, on the CPU; it is not changed.
    folder : str or path
        Is made if it is missing; files of an earlier export are replaced.

    Raises
    ------
    UserError
        The codec can't be exported, a package is missing, or the programs differ from the codec.

    Example
    -------
    >>> from focalcodec.precision import pack_weights
    >>> export_executorch(pack_weights(FocalCodec.from_pretrained("demo")), "demo_pte")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: demo: can't be exported to ExecuTorch: its weights are packed;\
 load it again
    """
    check_exported(codec, "ExecuTorch")
    if isinstance(codec.encoder, WavLM) and not codec.causal:
        raise UserError(
            f"{codec.name}: can't be exported to ExecuTorch: its runtime has no aten::sym_stride,"
            " which the attention of WavLM needs; give --format onnx"
        )
    _import_executorch()
    exported = copy.deepcopy(codec).eval().requires_grad_(False)
    use_real_spectra(exported)
    with new_files(folder) as made:
        graphs = {}
        for name, (graph, sizes) in programs_of(exported).items():
            graphs[name] = graph
            (made / f"{name}.pte").write_bytes(_lowered(codec.name, graph, sizes))
        about = _describe(codec, graphs, made)
        (made / DESCRIPTION).write_text(as_text(about), encoding="utf-8")
        return _proven(codec, Programs(made, about))


def _import_executorch() -> None:
    """Import what an export needs; a `UserError` if it is missing, or made for another torch."""
    try:
        with quiet():
            need("executorch.backends.xnnpack.partition.xnnpack_partitioner", _INSTALL)
            need("executorch.runtime", _INSTALL)
    except (ImportError, OSError) as error:
        raise UserError(
            f"executorch: can't be imported with torch {torch.__version__} ({one_line(error)});"
            " install the version of executorch that was made for it"
        ) from error


def partitioners() -> list[Any]:
    """Who takes operators of a program; what is left runs on the portable kernels."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


def _lowered(codec_name: str, graph: Graph, sizes: Any) -> bytes:
    """The program of a graph."""
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    module = graph.module.eval()
    try:
        with torch.no_grad(), quiet():
            inputs = tuple(graph.inputs.values())
            program = torch.export.export(module, inputs, dynamic_shapes=sizes)
            program = program.run_decompositions({torch.ops.aten.col2im.default: overlap_add})
            # XNNPACK takes a convolution only if its weight is stored as it is used
            program = constant_prop_pass(program)
            edge = to_edge_transform_and_lower(program, partitioner=partitioners())
            return edge.to_executorch().buffer
    except UserError:
        raise
    except Exception as error:  # of many kinds, with a report of hundreds of lines
        kind, reason = type(graph.module).__name__.strip("_"), one_line(error)[:200]
        raise UserError(
            f"{codec_name}: can't be exported to ExecuTorch, {kind} failed with"
            f" {versions(['executorch', 'torch'])}: {reason}"
        ) from error


def _proven(codec: FocalCodec, programs: Programs) -> Agreement:
    """How well programs agree with their codec; a `UserError` if it is not enough."""
    sig = read_audio(SPEECH, codec.sample_rate_input)
    # clips have whole tokens, and streams whole chunks, in the parts of sig that are compared
    unit, hop = 5 * codec.hop_length, codec.hop_length
    for graph in programs.about["graphs"].values():
        chunk = graph.get("chunk", 1)
        unit = math.lcm(unit, 5 * (chunk if graph["inputs"][0][0] == "sig" else chunk * hop))
    both = compare_streams if codec.causal else compare
    agreement = both(codec, OnnxCodec(programs), sig[: len(sig) // unit * unit])
    if not agreement.holds:
        raise UserError(f"{codec.name}: the programs differ from the codec: {agreement}")
    return agreement


def _describe(codec: FocalCodec, graphs: dict[str, Graph], folder: Path) -> dict[str, Any]:
    """Content of `executorch.json`."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **describe_codec(codec, codec.weights_sha256),
        "executorch": versions(["executorch"]).split()[-1],
        "backend": "XnnpackBackend",
        **({} if codec.causal else {"least_tokens": 2, "most_tokens": longest(codec)}),
        "graphs": {
            name: describe_graph(graph, folder / f"{name}.pte") for name, graph in graphs.items()
        },
    }
