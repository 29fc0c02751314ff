"""The programs of a codec on ExecuTorch's Python runtime, with the calls of a bundle of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.errors import UserError, one_line
from focalcodec.onnx_runtime.bundle import Array, Bundle


class Programs(Bundle):
    """Programs in a folder; `about` describes them. Clips of a batch run one after the other."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from executorch.runtime import Runtime

        self.folder, self.about = folder, about
        self._runtime = Runtime.get()
        self._methods: dict[str, Any] = {}

    def run(self, name: str, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs of a program, in order; after each of a clip their lengths, as a graph gives."""
        given = {key: torch.from_numpy(x) for key, x in inputs.items()}
        lengths = given.pop("lengths", None)
        if lengths is None:
            return [x.numpy() for x in self._execute(name, given)]
        [(key, batch)] = given.items()
        clips = zip(batch, lengths.tolist(), strict=True)
        made = [self._execute(name, {key: clip[None, :size]}) for clip, size in clips]
        outputs: list[Array] = []
        for rows in zip(*made, strict=True):
            outputs.append(pad_sequence([row[0] for row in rows], batch_first=True).numpy())
            outputs.append(torch.tensor([row.shape[1] for row in rows]).numpy())
        return outputs

    def _execute(self, name: str, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        file = self.graph(name)["file"]
        try:
            if name not in self._methods:
                program = self._runtime.load_program(self.folder / file)
                self._methods[name] = program, program.load_method("forward")
            return self._methods[name][1].execute([x.contiguous() for x in inputs.values()])
        except RuntimeError as error:  # the reason is among what the runtime printed
            raise UserError(
                f"{file}: ExecuTorch can't run it ({one_line(error)}); the lines above say why"
            ) from error
