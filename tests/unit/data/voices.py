"""Small corpora of made-up voices, for the tests of mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000


def voice(seconds: float, seed: int) -> np.ndarray:
    """Noise with a speech-like envelope of syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = 0.2 + np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)) ** 2
    return 0.1 * envelope * rng.standard_normal(len(time))


def write_voices(
    folder: Path, split: str = "train", speakers: int = 3, clips: int = 2, seconds: float = 1.0
) -> list[dict[str, Any]]:
    """LibriSpeech's tree of a split; rows of its clips, each of another length."""
    rows = []
    for speaker in range(1, speakers + 1):
        chapter = folder / split / str(speaker) / "5"
        chapter.mkdir(parents=True)
        lines = []
        for clip in range(clips):
            name, seed = f"{speaker}-5-{clip:04}", 100 * speaker + clip
            path, sig = chapter / f"{name}.flac", voice(seconds + 0.1 * (seed % 7), seed)
            soundfile.write(path, sig, RATE)
            lines.append(f"{name} WORDS OF {name}\n")
            size = {"duration": len(sig) / RATE, "num_samples": len(sig), "sample_rate": RATE}
            rows.append({"ID": name, "wav": str(path), "spk_id": str(speaker), "wrd": "", **size})
        (chapter / f"{speaker}-5.trans.txt").write_text("".join(lines))
    return rows
