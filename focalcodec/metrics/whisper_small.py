"""Whisper small as listener, from the hub through transformers: the papers' judge.

Whisper: Radford et al., arXiv 2212.04356; used so in arXiv 2502.04465, section 4.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from focalcodec.files import file_sha256
from focalcodec.metrics.hub_weights import judge_folder
from focalcodec.metrics.text import INSTALL, NORMALISER
from focalcodec.metrics.transcript_judge import SAMPLE_RATE, TranscriptJudge
from focalcodec.packages import need_beside_torchaudio, package_folder, versions

SOURCE = "openai/whisper-small"
WINDOW = 30 * SAMPLE_RATE  # samples: longer clips are heard piece by piece, with time stamps


class WhisperSmallJudge(TranscriptJudge):
    """dWER, dCER and WER by Whisper small, multilingual, 244 M parameters, greedy.

    Parameters
    ----------
    device : str
        For the model.
    source : str
        Folder or hub repository.

    Raises
    ------
    UserError
        A package or the model can't be had.
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
        return need_beside_torchaudio("transformers", INSTALL).WhisperProcessor.from_pretrained(
            self._folder
        )

    @cached_property
    def _model(self) -> Any:
        whisper = need_beside_torchaudio("transformers", INSTALL).WhisperForConditionalGeneration
        model = whisper.from_pretrained(self._folder, dtype=torch.float32)
        return model.eval().to(self._device)

    def knows(self, language: str) -> bool:
        """Whether the model was trained on a language."""
        return f"<|{language}|>" in self._model.generation_config.lang_to_id

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    @torch.no_grad()
    def recognise(self, audio: npt.NDArray[np.float32], language: str) -> str:
        """Words in audio (T,) at 16 kHz."""
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
