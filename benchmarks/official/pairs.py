"""Cases that need both packages: files of one in the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .compare import Outcome, attempt, compare
from .models import CONFIGS, inputs, shared_codec
from .packages import Package

HUB = "owner/model"


@dataclass(frozen=True)
class Pair:
    """A line of the table: `run` gives the official result, and ours."""

    name: str
    run: Callable[[Package, Package], tuple[dict[str, Any], dict[str, Any]]]

    def outcome(self, official: Package, ours: Package) -> Outcome:
        """Both results, compared."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compare(*self.run(official, ours))


def both(run: Callable[[Package], Any], official: Package, ours: Package) -> Any:
    """The same of both packages."""
    return attempt(lambda: run(official)), attempt(lambda: run(ours))


def _forward(codec: Any, model: str) -> Any:
    return codec.eval().sig_to_toks(inputs(model)["sig"]), codec.feats_to_sig(
        inputs(model)["feats"]
    )


def hub_cache(folder: Path, name: str, codec: Any, config: dict[str, Any]) -> Path:
    """Folder of a cache of huggingface_hub, in `folder`, with the repository `name`."""
    commit = "0" * 40
    repo = folder / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file(codec.state_dict(), snapshot / "model.safetensors")
    return folder / "hub"


def loaded(
    official: Package, ours: Package, folder: Path, model: str, how: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Official files in both packages; `how` is what is given to from_pretrained."""
    codec, config = shared_codec(official, model), CONFIGS[model]
    path, options = folder / "saved.json", {}
    if how == ".pt":
        path.write_text(json.dumps(config))
        torch.save(codec.state_dict(), folder / "saved.pt")
        (folder / "saved.safetensors").unlink(missing_ok=True)
    else:
        codec.to_pretrained(str(path))
    name = str(path.with_suffix("")) if how == "without .json" else str(path)
    if how == "hub":
        os.environ["HF_HUB_OFFLINE"] = "1"
        name, options = HUB, {"cache_dir": str(hub_cache(folder, HUB, codec, config))}
    if how == "overrides":
        options = {"overrides": {"encoder_config.max_cached_steps": 0}}

    def load(package: Package) -> Any:
        return _forward(package.codec.FocalCodec.from_pretrained(name, **options), model)

    return both(load, official, ours)


def ours_saved(
    official: Package, ours: Package, folder: Path, model: str, method: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Files that we save, in the official package."""
    codec = shared_codec(ours, model)

    def load() -> Any:
        if method == "to_pretrained":
            codec.to_pretrained(str(folder / "ours.json"))
            loaded = official.codec.FocalCodec.from_pretrained(str(folder / "ours.json"))
        else:
            codec.save_pretrained(folder / "ours")
            loaded = official.codec.FocalCodec.from_config(str(folder / "ours" / "config.json"))
            loaded.load_state_dict(load_file(folder / "ours" / "model.safetensors"))
        return _forward(loaded, model)

    return attempt(lambda: _forward(shared_codec(official, model), model)), attempt(load)


def written_config(package: Package, folder: Path, model: str) -> Any:
    """What `to_config` writes."""
    shared_codec(package, model).to_config(str(folder / "written"))
    return json.loads((folder / "written.json").read_text(encoding="utf-8"))


def torch_hub(package: Package, folder: Path, model: str) -> Any:
    """`torch.hub.load` from the folder of hubconf.py, in a process of its own."""
    path = folder / "hub.json"
    path.write_text(json.dumps(CONFIGS[model]), encoding="utf-8")
    program = (
        "import torch, sys; codec = torch.hub.load(sys.argv[1], 'focalcodec', source='local',"
        " config=sys.argv[2], pretrained=False); print(codec.sample_rate_input,"
        " codec.sample_rate_output, sum(x.numel() for x in codec.state_dict().values()))"
    )
    command = [sys.executable, "-c", program, str(package.root), str(path)]
    environment = os.environ | {"PYTHONPATH": str(package.root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.split()


def out_of_range(package: Package, model: str) -> Any:
    """A token that is not in the codebook."""
    codec = shared_codec(package, model)
    return codec.toks_to_codes(torch.full((1, 3), 2**20 + 1))


def mode(package: Package, folder: Path, model: str) -> Any:
    """Whether a loaded codec is in training mode."""
    shared_codec(package, model).to_pretrained(str(folder / "mode.json"))
    return package.codec.FocalCodec.from_pretrained(str(folder / "mode.json")).training


def pairs(folder: Path) -> Iterator[Pair]:
    """All of them, with files in `folder`."""
    for model in CONFIGS:
        for how in (".json", "without .json", ".pt", "hub", "overrides"):
            yield Pair(
                f"{model}/official files, {how}",
                partial(loaded, folder=folder, model=model, how=how),
            )
        for method in ("to_pretrained", "save_pretrained"):
            yield Pair(
                f"{model}/our files, {method}",
                partial(ours_saved, folder=folder, model=model, method=method),
            )
        for name, run in {
            "to_config": partial(written_config, folder=folder, model=model),
            "torch.hub.load": partial(torch_hub, folder=folder, model=model),
            "toks out of range": partial(out_of_range, model=model),
            "from_pretrained mode": partial(mode, folder=folder, model=model),
        }.items():
            yield Pair(f"{model}/{name}", partial(both, run))
