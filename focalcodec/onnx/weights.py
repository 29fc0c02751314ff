"""What is stored of the weights of a graph: float16 where it loses nothing, and no iSTFT basis.

In int8 graphs, the maps between layers have 7-bit weights, with a scale for each output channel.
Their inputs get 8 bits too, with one scale for the whole batch, when the graph runs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from focalcodec.onnx.export_folder import quiet

_SMALLEST = 256  # values of a tensor that is stored in float16


def plain(model: onnx.ModelProto, axes: dict[str, tuple[str | int, ...]]) -> None:
    """Remove what the exporter says of its work, and name the axes of inputs and outputs."""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    model.producer_name, model.producer_version, model.graph.doc_string = "focalcodec", "", ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for axis in axes[value.name]:
            key = "dim_param" if isinstance(axis, str) else "dim_value"
            shape.dim.add(**{key: axis})
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""


def store_in_float16(model: onnx.ModelProto) -> int:
    """Store weights in float16 where no value changes, to be computed in float32; how many."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name, stored = tensor.name, f"{tensor.name}_float16"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    _put_first(model, casts)
    return len(casts)


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Int8 graph of a graph: all products with a weight but the first and the last.

    The first one is with the mel filter bank, or with tokens; the last gives latents or a spectrum.
    Both need more than 8 bits. Weights have 7 bits (-64 to 64): processors without VNNI
    instructions add two products of 8 bits in 16, where two of the largest ones do not fit.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = {tensor.name for tensor in model.graph.initializer}
    products = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.onnx"), Path(folder, "made.onnx")
        onnx.save(model, given)
        with quiet():  # it asks for a preparation that changes nothing here
            quantize_dynamic(
                given,
                made,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=products[1:-1],
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
        return onnx.load(made)


def compute_basis(model: onnx.ModelProto, istft: Any) -> None:
    """Replace the basis of the layer `istft`, a million values, by nodes that compute it.

    A runtime does this once, when it loads the graph.
    """
    basis = istft.basis.numpy()
    for tensor in list(model.graph.initializer):
        if tuple(tensor.dims) == basis.shape and np.array_equal(
            numpy_helper.to_array(tensor), basis
        ):
            model.graph.initializer.remove(tensor)
            _put_first(model, _basis_nodes(model, tensor.name, istft))


def _basis_nodes(model: onnx.ModelProto, name: str, istft: Any) -> list[onnx.NodeProto]:
    """Nodes whose last output is the basis: a table of one period, times scale and window."""
    n_fft, bins = istft.n_fft, istft.n_fft // 2 + 1
    angle = 2 * np.pi / n_fft * np.arange(n_fft)
    times = np.arange(n_fft)[-basis_width(istft) :]
    window = np.ones(n_fft) if istft.causal else np.sqrt(istft.squared_window.double().numpy())
    scale = np.full((bins, 1), 2.0 / n_fft)
    scale[0] = scale[-1] = 1.0 / n_fft
    constants: dict[str, npt.NDArray[Any]] = {
        "cos": np.cos(angle).astype(np.float32),
        "sin": -np.sin(angle).astype(np.float32),
        "bins": np.arange(bins)[:, None],
        "times": times[None],
        "n_fft": np.array(n_fft),
        "scale": np.concatenate([scale, scale]).astype(np.float32),
        "window": window[times][None].astype(np.float32),
    }
    for key, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{name}.{key}"))
    steps: list[tuple[str, str, str, dict[str, Any]]] = [
        ("Mul", "bins times", "product", {}),
        ("Mod", "product n_fft", "index", {}),
        ("Gather", "cos index", "real", {}),
        ("Gather", "sin index", "imag", {}),
        ("Concat", "real imag", "parts", {"axis": 0}),
        ("Mul", "parts scale", "scaled", {}),
        ("Mul", "scaled window", "", {}),
    ]
    return [
        helper.make_node(
            op,
            [f"{name}.{each}" for each in inputs.split()],
            [f"{name}.{output}" if output else name],
            **attributes,
        )
        for op, inputs, output, attributes in steps
    ]


def basis_width(istft: Any) -> int:
    """Samples that a frame of the iSTFT gives."""
    return istft.hop_length if istft.causal else istft.n_fft


def _put_first(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    later = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *later])
