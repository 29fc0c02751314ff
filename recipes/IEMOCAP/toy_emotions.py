"""Toy classes instead of emotions, so that the recipe runs without a corpus.

They are NOT emotions: each clip of the embedded corpus (synthetic voices) has four copies, higher,
lower, faster and slower, and a probe predicts which of these it is. All four come from the same
phase vocoder, so words, voices and artefacts of the vocoder do not depend on the class.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import torch

from focalcodec.audio import read_audio, write_audio
from focalcodec.data.corpus import FoundClip, FoundFile, SetSource, embedded_corpus, walk_files
from focalcodec.data.librispeech_tree import EMBEDDED_SPLITS
from focalcodec.data.librispeech_tree import find_clips as find_embedded
from focalcodec.progress import ProgressBar

SAMPLE_RATE = 16000
SEMITONES, SPEED = 4.0, 1.3
FOLDER = "toy_classes_not_emotions"
SETS = {"train": "train", "valid": "valid", "test-toy": "test"}

Change = Callable[[np.ndarray], np.ndarray]


def _pitch(semitones: float) -> Change:
    return lambda sig: librosa.effects.pitch_shift(sig, sr=SAMPLE_RATE, n_steps=semitones)


def _speed(rate: float) -> Change:
    return lambda sig: librosa.effects.time_stretch(sig, rate=rate)


CLASSES = {
    "toy_high": _pitch(SEMITONES),
    "toy_low": _pitch(-SEMITONES),
    "toy_fast": _speed(SPEED),
    "toy_slow": _speed(1 / SPEED),
}


def toy_sets(save_folder: str | Path) -> tuple[Path, dict[str, SetSource]]:
    """Write the clips that are missing, in `save_folder`: `<set>/<class>/<clip>.flac`.

    Returns the data root, and the folders of "train", "valid" and "test-toy".
    """
    names = ", ".join(CLASSES)
    print(
        f"no --data_folder: the embedded mini corpus is used, changed into TOY CLASSES, {names};"
        " they are not emotions",
        flush=True,
    )
    source, root = embedded_corpus("LibriSpeech"), Path(save_folder).expanduser() / FOLDER
    for name, embedded in SETS.items():
        files = [file for split in EMBEDDED_SPLITS[embedded] for file in walk_files(source, split)]
        for clip in ProgressBar(find_embedded(source, files), f"toy {name}", unit="clips"):
            _write(source, root / name, clip)
    return root, {name: SetSource([name], find_clips) for name in SETS}


def _write(source: Path, folder: Path, clip: FoundClip) -> None:
    files = {name: folder / name / f"{clip.id}.flac" for name in CLASSES}
    if all(file.is_file() for file in files.values()):
        return
    sig = read_audio(source / clip.wav, SAMPLE_RATE).numpy()
    for name, file in files.items():
        changed = np.clip(CLASSES[name](sig), -1.0, 1.0)
        write_audio(file, torch.from_numpy(changed), SAMPLE_RATE)


def find_clips(data_root: Path, files: list[FoundFile]) -> list[FoundClip]:
    """Clips by their paths; the column `emotion` has the toy class.

    Example
    -------
    >>> clip = find_clips(Path("toy"), [FoundFile("train/toy_high/11-1-0000.flac", 0, 0)])[0]
    >>> clip.id, clip.spk_id, clip.extra["emotion"]
    ('11-1-0000_toy_high', '11', 'toy_high')
    """
    clips = []
    for file in files:
        _, name, clip = file.path.split("/")
        stem = clip.removesuffix(".flac")
        about = {"emotion": name, "gender": ""}
        clips.append(FoundClip(f"{stem}_{name}", file.path, stem.split("-")[0], "", about))
    return clips
