"""Short runs of probes, in this process, on a small generated corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from focalcodec.data.manifest import write_manifest, write_sets
from tests.unit.training import tiny

ROOT = Path(__file__).parents[3]
CODEC = ROOT / "tests" / "data" / "golden" / "tiny_50hz"
WORDS = ["ONE TWO", "TWO THREE", "THREE ONE TWO", "ONE"]
SIZES = {"train": 8, "valid": 4, "test": 4}
RECIPES = {"asr": "LibriSpeech", "sid": "LibriSpeech", "enhancement": "LibriMix"}
"""Probes, by the names of their YAMLs."""
_LSTM = {"hidden_dim": 8, "num_layers": 1}
_CONFORMER = {"dim": 8, "num_layers": 1, "num_heads": 2, "ffn_dim": 8, "kernel_size": 3}
_PROBES = {
    "asr": {"vocab_size": 14, "probe": _LSTM},
    "sid": {"probe": _LSTM},
    "enhancement": {"panel": "none", "probe": _CONFORMER},
}


def write_sets_of(folder: Path, **columns: str) -> Path:
    """A prepared folder: two speakers, two languages, speech-like noise with `noisy`, s1 and s2."""
    generator = np.random.default_rng(0)
    for name, count in SIZES.items():
        rows = []
        for index in range(count):
            seconds = 0.6 + 0.1 * (index % 3)
            time = np.arange(round(seconds * 16000)) / 16000
            files = {}
            for part in ("wav", "noisy", "s1", "s2"):
                pitch = np.sin(2 * np.pi * generator.uniform(90, 300) * time)
                sig = 0.3 * (pitch + 0.1 * generator.standard_normal(len(time)))
                files[part] = f"{name}{index}_{part}.flac"
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / files[part], sig.astype("float32"), 16000)
            more = {key: f"$data_root/{files[key]}" for key in ("noisy", "s1", "s2")}
            rows.append(
                {
                    "ID": f"{name}{index}",
                    "duration": seconds,
                    "wav": files["wav"],
                    "spk_id": f"speaker{index % 2}",
                    "wrd": WORDS[index % 4],
                    "sample_rate": 16000,
                    "num_samples": len(time),
                    "language": ["en", "de"][index // 2 % 2],
                    **more,
                    **columns,
                }
            )
        write_manifest(folder / f"{name}.csv", rows)
    write_sets(folder, folder, list(SIZES))
    return folder


def arguments(probe: str, sets: Path, out: Path, *options: str, **changes: Any) -> list[str]:
    """Command line of such a run, without the script."""
    yaml = ROOT / "recipes" / RECIPES[probe] / "hparams" / f"{probe}.yaml"
    knobs = {
        "codec": str(CODEC),
        "own_data": str(sets),
        "token_folder": str(sets / "tokens"),
        "output_folder": str(out),
        "number_of_epochs": 2,
        "batch_size": 2,
        "valid_batch_size": 2,
        "num_workers": 0,
        "dim": 8,
        "lr": 0.01,
        "bootstrap_samples": 50,
        **_PROBES[probe],
        **changes,
    }
    words = [f"--{key}={tiny.flow(value)}" for key, value in knobs.items() if value is not ...]
    return [str(yaml), *words, *options]


def run(probe: str, sets: Path, out: Path, *options: str, **changes: Any) -> Path:
    """Run it."""
    argv = arguments(probe, sets, out, *options, **changes)
    tiny.train(argv, recipe=ROOT / "recipes" / RECIPES[probe])
    return out


def card(out: Path, name: str = "test") -> dict[str, Any]:
    """Card of a test set."""
    return json.loads((out / name / "card.json").read_text())


def history(out: Path) -> list[dict[str, Any]]:
    """Figures of each epoch, from the last checkpoint."""
    newest = max((out / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads((newest / "brain.ckpt").read_text())["history"]
