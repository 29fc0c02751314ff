"""LibriMix's recipe, and its tree as its own scripts write it, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile

from tests.unit.data.voices import RATE, voice

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriMix"
PAIRS = {
    "train-100": [("103-1240-0000", "1034-121119-0049"), ("1034-121119-0001", "103-1240-0002")],
    "train-360": [("19-198-0000", "26-495-0003")],
    "dev": [("84-121123-0000", "174-50561-0001")],
    "test": [("61-70968-0000", "8455-210777-0012"), ("61-70968-0001", "121-121726-0003")],
}


def load(name: str) -> ModuleType:
    """A script of the recipe, as a module."""
    spec = importlib.util.spec_from_file_location(f"librimix_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tree(
    folder: Path, num_speakers: int = 2, modes: tuple[str, ...] = ("min", "max"), rate: int = RATE
) -> Path:
    """Libri<N>Mix with all of its mixtures and its tables."""
    root = folder / f"Libri{num_speakers}Mix"
    for mode in modes:
        place = root / f"wav{rate // 1000}k" / mode
        (place / "metadata").mkdir(parents=True)
        for split, pairs in PAIRS.items():
            (place / "metadata" / f"mixture_{split}_mix_both.csv").write_text("mixture_ID\n")
            for number, clips in enumerate(pairs):
                write_mixture(place / split, "_".join(clips[:num_speakers]), num_speakers, number)
    return root


def write_mixture(split: Path, name: str, num_speakers: int, seed: int = 0) -> None:
    """All signals of one mixture."""
    speakers = [voice(0.6, 10 * seed + k) for k in range(num_speakers)]
    noise = 0.3 * voice(0.6, 10 * seed + 9)
    signals = {f"s{k + 1}": sig for k, sig in enumerate(speakers)} | {"noise": noise}
    signals["mix_clean"] = np.sum(speakers, axis=0)
    signals["mix_single"] = speakers[0] + noise
    signals["mix_both"] = signals["mix_clean"] + noise
    for kind, sig in signals.items():
        (split / kind).mkdir(parents=True, exist_ok=True)
        soundfile.write(split / kind / f"{name}.wav", sig, RATE, subtype="PCM_16")


def write_librispeech(folder: Path) -> Path:
    """LibriSpeech's transcripts of the clips in the mixtures, without other files."""
    names = {"train-100": "train-clean-100", "train-360": "train-clean-360"}
    for split, pairs in PAIRS.items():
        for clip in (clip for clips in pairs for clip in clips):
            speaker, chapter, _ = clip.split("-")
            place = folder / names.get(split, f"{split}-clean") / speaker / chapter
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{clip}.flac").write_bytes(b"not needed for its words")
            with (place / f"{speaker}-{chapter}.trans.txt").open("a") as file:
                file.write(f"{clip} WORDS OF {clip}\n")
    return folder
