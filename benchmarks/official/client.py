"""Run an unedited program of others with one of the two packages, in this process.

    python client.py PACKAGE_ROOT LOSSES PROGRAM [arguments of the program]

PACKAGE_ROOT is the folder with focalcodec/ that the program imports. The file LOSSES gets a line
for each loss of a SpeechBrain training: the stage, and the value with all digits. The trained
modules start with weights that depend on their names only. For demo.py, sounddevice plays nothing,
files are read and written by soundfile, and torch.hub.load reads PACKAGE_ROOT.
"""

from __future__ import annotations

import importlib
import random
import runpy
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy
import soundfile
import torch
from torch import Tensor, nn

from focalcodec.packages import ensure_torchaudio

STUDENTS = ("student_encoder", "student_posemb")  # start from a checkpoint


def use_package(root: Path) -> None:
    """Make `import focalcodec` import the package in `root`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "focalcodec"]:
        del sys.modules[name]
    sys.path[0] = str(root)  # not the folder of this file, where modules have common names
    package = importlib.import_module("focalcodec")
    assert Path(str(package.__file__)).resolve().parents[1] == root, package.__file__


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Initial weight of a trained module."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randint(-(2**15), 2**15, shape, generator=generator).float() / 2**15
    if len(shape) > 1:
        return values / max(1, values[0].numel()) ** 0.5
    return values * 0.1 + (1.0 if name.endswith(("weight", "gamma", "alpha")) else 0.0)


def fill(modules: nn.ModuleDict) -> None:
    """Give the trained modules their initial weights."""
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            if not name.startswith(("discriminator", *STUDENTS)):
                parameter.copy_(weight(name, tuple(parameter.shape)))
    if "discriminator" in modules:  # as its class makes it, but after a seed
        torch.manual_seed(1)
        modules["discriminator"].load_state_dict(type(modules["discriminator"])().state_dict())
    torch.manual_seed(0)
    random.seed(0)
    numpy.random.seed(0)


def record_losses(path: Path) -> None:
    """Let SpeechBrain's Brain start with the weights of `fill`, and write its losses."""
    from speechbrain import Brain

    stage = ["?"]

    def after(method: str, extra: Any) -> None:
        original = getattr(Brain, method)

        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            extra(self, *args, **kwargs)
            return result

        setattr(Brain, method, changed)

    def start(brain: Any, kind: Any, epoch: int | None = None) -> None:
        stage[0] = f"{kind.name.lower()} {epoch or ''}".strip()

    def show(brain: Any, loss: Any, average: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{stage[0]}\t{float(loss):.9g}\n")

    after("__init__", lambda brain, *args, **kwargs: fill(brain.modules))
    after("on_stage_start", start)
    after("update_average", show)


class Silence:
    """A stream of sounddevice that plays nothing."""

    def __init__(self, **options: Any) -> None:
        pass

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def write(self, samples: Any) -> None:
        """Play nothing."""


def replace_devices(root: Path) -> None:
    """What demo.py uses beside the package: loudspeaker, audio files, torch.hub."""
    import torchaudio

    def load(path: str) -> tuple[Tensor, int]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.tensor(samples.T), rate

    def save(path: str, sig: Tensor, rate: int) -> None:
        soundfile.write(path, sig.numpy().T, rate, subtype="FLOAT")

    torchaudio.load, torchaudio.save = load, save
    device = types.ModuleType("sounddevice")
    device.__dict__.update(OutputStream=Silence, InputStream=Silence)
    sys.modules["sounddevice"] = device
    hub_load = torch.hub.load

    def local(repo_or_dir: str, model: str, force_reload: bool = False, **options: Any) -> Any:
        return hub_load(str(root), model, source="local", **options)

    torch.hub.load = local


def main() -> None:
    """Run the program."""
    root, losses, program = (Path(word).resolve() for word in sys.argv[1:4])
    ensure_torchaudio()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    use_package(root)
    if program.name == "demo.py":
        replace_devices(root)
    else:
        # train_*.py import their neighbours, and libritts_prepare.py, which is a link there
        sys.path[1:1] = [str(program.parent), str(program.parents[1])]
        record_losses(losses)
    sys.argv = sys.argv[3:]
    runpy.run_path(str(program), run_name="__main__")


main()
