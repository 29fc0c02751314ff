"""Whisper as judge: base and tiny.en from pip packages, small from the hub.

Whisper: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision",
arXiv 2212.04356. Whisper small is the papers' judge (arXiv 2502.04465, section 4).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from focalcodec.encoders.model_config import read_config
from focalcodec.errors import UserError
from focalcodec.files import file_sha256
from focalcodec.hub.weights import check_values
from focalcodec.metrics.judge import SAMPLE_RATE, judge_folder
from focalcodec.metrics.transcripts import INSTALL, NORMALISER, TranscriptJudge
from focalcodec.packages import (
    WHISPER_PACKAGES,
    check_sha256,
    need,
    need_beside_torchaudio,
    package_folder,
    versions,
)

PACKAGES_INSTALL = "pip install faster-whisper==1.2.1 jiwer==4.0.0 transformers"
SOURCE = "openai/whisper-small"
WINDOW = 30 * SAMPLE_RATE  # samples; longer clips are transcribed in windows, with time stamps


class WhisperJudge(TranscriptJudge):
    """dWER, dCER and WER by Whisper in 8-bit integers, always with the same decoding.

    Beam 5, temperature 0, no five tokens twice. The packages hold the CTranslate2 models of
    faster-whisper: "base", multilingual, 74 M parameters, or "tiny.en", English only, 39 M. The
    device is "cuda", or any other for the CPU. Raises `UserError` for another model, a missing
    package, or a file with another sha256 than expected.
    """

    def __init__(self, model: str = "base", device: str = "cpu") -> None:
        if model not in WHISPER_PACKAGES:
            raise UserError(f"model: {model!r}; give one of {', '.join(WHISPER_PACKAGES)}")
        self._source = WHISPER_PACKAGES[model]
        super().__init__(self._source.title, self._source.key)
        install = f"{PACKAGES_INSTALL} {' '.join(self._source.packages)}"
        for module in ("faster_whisper", "jiwer", "transformers"):
            package_folder(module, install)
        self._install = install
        self._files = [
            check_sha256(package_folder(file.package, install) / file.path, file.sha256, install)
            for file in self._source.files
        ]
        # CTranslate2 has no other device
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

    def supports(self, language: str) -> bool:
        """Whether the model was trained on a language."""
        return language in self._model.supported_languages

    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Transcribe audio (T,) at 16 kHz."""
        # The result must not depend on the previous clip or on sampling. Without the last option
        # Whisper may repeat one phrase without end if the speech is not intelligible.
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


class WhisperSmallJudge(TranscriptJudge):
    """dWER, dCER and WER by Whisper small, multilingual, 244 M parameters, greedy.

    The model comes from a folder or the hub. Raises `UserError` if it or a package is missing.
    """

    def __init__(self, device: str = "cpu", source: str = SOURCE) -> None:
        super().__init__("Whisper small", "whisper_small")
        for module in ("jiwer", "transformers"):
            package_folder(module, INSTALL)
        self._folder, self._weights = judge_folder(
            source, ("*.json", "merges.txt"), ("model.safetensors",)
        )
        self._source, self._device = source, device

    @cached_property
    def _processor(self) -> Any:
        processor = need_beside_torchaudio("transformers", INSTALL).WhisperProcessor
        return processor.from_pretrained(self._folder)

    @cached_property
    def _model(self) -> Any:
        whisper = need_beside_torchaudio("transformers", INSTALL).WhisperForConditionalGeneration
        read_config(self._folder)
        model = whisper.from_pretrained(self._folder, dtype=torch.float32)
        check_values(self._folder, model.state_dict())
        return model.eval().to(self._device)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    def supports(self, language: str) -> bool:
        """Whether the model was trained on a language."""
        return f"<|{language}|>" in self._model.generation_config.lang_to_id

    @torch.no_grad()
    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Transcribe audio (T,) at 16 kHz."""
        long = len(audio) > WINDOW
        inputs = self._processor(
            audio,
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **({"truncation": False, "padding": "longest"} if long else {}),
        ).to(self._device)
        toks = self._model.generate(
            **inputs,
            language=language,
            task="transcribe",
            do_sample=False,
            num_beams=1,
            return_timestamps=long,
        )
        return str(self._processor.batch_decode(toks, skip_special_tokens=True)[0])

    def describe(self) -> dict[str, str]:
        """Packages, weights, normaliser and decoding."""
        return {
            "name": self.name,
            "packages": versions(["transformers", "jiwer", "torch"]),
            "weights": self._source,
            "weights_sha256": self._sha256,
            "normaliser": NORMALISER,
            "settings": f"fp32, greedy, {self._device}",
        }
