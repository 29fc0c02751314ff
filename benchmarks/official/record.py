"""Results of the official package as two files, for tests where that package is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS, VALUES = "results.safetensors", "results.json"


def split(results: dict[str, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, each stored once, and the other values with the names of the tensors."""
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[Any, ...], str] = {}  # of each value
    values: dict[str, Any] = {}
    for case, leaves in results.items():
        values[case] = dict(leaves)
        for path, leaf in leaves.items():
            if isinstance(leaf, Tensor):
                leaf = leaf.detach().contiguous().clone()
                key = (str(leaf.dtype), tuple(leaf.shape), leaf.numpy().tobytes())
                name = names.setdefault(key, str(len(names)))
                tensors[name] = leaf
                values[case][path] = {"tensor": name}
    return tensors, values


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def write(folder: Path, results: dict[str, dict[str, Any]]) -> None:
    """Write the leaves of the results of cases, by the names of the cases."""
    tensors, values = split(results)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    (folder / TENSORS).chmod(0o644)
    lines = [f"{json.dumps(name)}: {_line(value)}" for name, value in sorted(values.items())]
    (folder / VALUES).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The leaves that `write` wrote."""
    tensors = load_file(folder / TENSORS)

    def leaf(value: Any) -> Any:
        if isinstance(value, dict):
            return tensors[value["tensor"]]
        return tuple(value) if isinstance(value, list) else value

    values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    return {
        name: {path: leaf(value) for path, value in leaves.items()}
        for name, leaves in values.items()
    }
