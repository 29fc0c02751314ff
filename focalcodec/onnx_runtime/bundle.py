"""A folder with the ONNX graphs of a codec, and `onnx.json`, which describes and protects them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError, one_line
from focalcodec.files import file_sha256, read_json
from focalcodec.packages import need

Array = npt.NDArray[Any]

FORMAT, FORMAT_VERSION = "focalcodec-onnx", 1
DESCRIPTION = "onnx.json"
_NUMBERS = (
    *("opset", "codebook_size", "bits_per_token", "dim", "factor", "chunk_size"),
    *("hop_length", "decoder_hop", "sample_rate_input", "sample_rate_output"),
)
_TEXTS = ("model", "weights_sha256", "focalcodec", "precision")


class Bundle:
    """Graphs of a codec, each loaded when it is run first.

    `about` is the content of `onnx.json`. Raises a `UserError` for a folder that is no bundle, has
    a truncated or changed file, or needs a later version.
    """

    def __init__(self, folder: str | os.PathLike[str], threads: int = 0) -> None:
        self.folder = Path(folder).expanduser()
        self.about = _read(self.folder)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        for name in self.about["graphs"]:
            self._check_file(name)

    def graph(self, name: str) -> dict[str, Any]:
        """What `onnx.json` says of a graph; a `UserError` if the bundle does not have it."""
        graphs = self.about["graphs"]
        if name not in graphs:
            raise UserError(
                f"{self.folder}: has no {name}, only {', '.join(graphs)}; export a causal codec"
            )
        return graphs[name]

    def load(self) -> None:
        """Load all graphs that have no state, which else happens when they are run first."""
        for name, graph in self.about["graphs"].items():
            if "rings" not in graph:
                self._session(name)

    def run(self, name: str, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs of a graph, in order."""
        return self._session(name).run(None, dict(inputs))

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            path = self.folder / self.graph(name)["file"]
            runtime = need("onnxruntime", "pip install onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            try:
                self._sessions[name] = runtime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # its errors have no common class
                reason = one_line(error)
                raise UserError(
                    f"{path}: onnxruntime {runtime.__version__} can't load opset"
                    f" {self.about['opset']} ({reason}); update onnxruntime"
                ) from error
        return self._sessions[name]

    def _check_file(self, name: str) -> None:
        graph, problem = self.about["graphs"][name], ""
        path = self.folder / graph["file"]
        if not path.is_file():
            problem = "no such file"
        elif path.stat().st_size != graph["bytes"]:
            problem = f"{path.stat().st_size} bytes, not {graph['bytes']}"
        elif file_sha256(path) != graph["sha256"]:
            problem = f"its SHA-256 is not that of {DESCRIPTION}"
        if problem:
            raise UserError(f"{path}: {problem}; copy the whole folder again")


def _read(folder: Path) -> dict[str, Any]:
    """Content of `onnx.json`, checked."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder}: no folder with {DESCRIPTION}; make one with"
            f" focalcodec export CODEC {folder} --format onnx"
        )
    about = read_json(path, "copy the whole folder again")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"{path}: not of a codec, its format is not {FORMAT!r}; export it again")
    if about.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: version {about.get('format_version')!r} of the format, but only"
            f" {FORMAT_VERSION} can be read; update focalcodec, or export the codec again"
        )
    wrong = [name for name in _NUMBERS if type(about.get(name)) is not int or about[name] < 1]
    wrong += [name for name in _TEXTS if not isinstance(about.get(name), str)]
    if wrong or not _are_graphs(about.get("graphs")):
        raise UserError(f"{path}: {(*wrong, 'graphs')[0]} is missing or wrong; export it again")
    return about


def _are_graphs(graphs: Any) -> bool:
    """Whether the entry `graphs` has what is read from it, and names files of the folder only."""
    if not isinstance(graphs, dict) or not {"encoder", "decompressor", "decoder"} <= set(graphs):
        return False
    return all(
        isinstance(graph, dict)
        and isinstance(graph.get("file"), str)
        and Path(graph["file"]).name == graph["file"]
        and isinstance(graph.get("bytes"), int)
        and isinstance(graph.get("sha256"), str)
        and isinstance(graph.get("rings", []), list)
        for graph in graphs.values()
    )


def full_lengths(x: Array) -> Array:
    """Lengths (B,) int64 of a batch x (B, N, ...) without padding."""
    return np.full(len(x), x.shape[1], dtype=np.int64)
