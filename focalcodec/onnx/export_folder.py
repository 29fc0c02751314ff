"""The folder of an exported codec: its graphs, and the JSON file that describes them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from focalcodec.codec import FocalCodec
from focalcodec.files import atomic_path, file_sha256
from focalcodec.onnx.graphs import Graph
from focalcodec.version import VERSION


@contextmanager
def new_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder; if nothing fails, its files go to `folder`, the JSON file last."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        yield made
        for path in sorted(made.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
            with atomic_path(Path(folder, path.name)) as temporary:
                shutil.copyfile(path, temporary)


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings of exporters, which are about packages and parts that no codec needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def describe_codec(codec: FocalCodec, sha256: str) -> dict[str, Any]:
    """Names, rates and sizes of a codec; `sha256` is that of its weights, as in token files."""
    return {
        "focalcodec": VERSION,
        "model": codec.name,
        "weights_sha256": sha256,
        "sample_rate_input": codec.sample_rate_input,
        "sample_rate_output": codec.sample_rate_output,
        "hop_length": codec.hop_length,
        "decoder_hop": codec.decoder.hop,
        "factor": codec.compressor.factor,
        "dim": codec.encoder.dim,
        "codebook_size": codec.codebook_size,
        "bits_per_token": codec.bits_per_token,
        "token_rate": codec.token_rate,
        "bitrate": codec.bitrate,
        "causal": codec.causal,
        "chunk_size": codec.chunk_size,
    }


def describe_graph(graph: Graph, path: Path) -> dict[str, Any]:
    """The file of a graph, names and axes of its inputs and outputs; of a step, its rings."""
    rings = [each for each in graph.inputs if each.startswith("ring")]
    states = [
        {"ring": ring, "new": ring.replace("ring", "new"), "shape": list(graph.axes[ring][1:])}
        | {"frames": frames}
        for ring, frames in zip(rings, graph.frames, strict=True)
    ]
    inputs = [[each, list(graph.axes[each])] for each in graph.inputs if each not in rings]
    outputs = [[each, list(graph.axes[each])] for each in graph.outputs if each[:3] != "new"]
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "inputs": inputs,
        "outputs": outputs,
        **({"chunk": graph.chunk, "rings": states} if states else {}),
    }


def as_text(about: dict[str, Any]) -> str:
    """JSON with a line for each entry, graph and ring."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
