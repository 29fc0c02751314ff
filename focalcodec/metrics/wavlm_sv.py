"""Speaker similarity by WavLM-base-sv's x-vectors, from the hub: the papers' judge.

WavLM: Chen et al., arXiv 2110.13900; used so in arXiv 2502.04465, section 4.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from focalcodec.files import file_sha256
from focalcodec.metrics.hub_weights import judge_folder
from focalcodec.metrics.similarity import SAMPLE_RATE, SimilarityJudge
from focalcodec.packages import need_beside_torchaudio, package_folder, versions

SOURCE = "microsoft/wavlm-base-sv"
INSTALL = "pip install transformers"


class WavlmSvJudge(SimilarityJudge):
    """Similarity in the 512 dimensions of WavLM-base-sv.

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
        super().__init__("WavLM-base-sv", "wavlm_base_sv")
        package_folder("transformers", INSTALL)
        self._folder, self._weights = judge_folder(
            source, ("*.json",), ("model.safetensors", "pytorch_model.bin")
        )
        self._source, self._device = source, device

    @cached_property
    def _prepare(self) -> Any:
        extractor = need_beside_torchaudio("transformers", INSTALL).Wav2Vec2FeatureExtractor
        return extractor.from_pretrained(self._folder)

    @cached_property
    def _model(self) -> Any:
        xvector = need_beside_torchaudio("transformers", INSTALL).WavLMForXVector
        model = xvector.from_pretrained(self._folder, dtype=torch.float32, weights_only=True)
        return model.eval().to(self._device)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    @torch.no_grad()
    def embed(self, sig: Tensor) -> Tensor:
        """Embedding of sig (T,) at 16 kHz."""
        inputs = self._prepare(sig.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        voice = self._model(inputs.input_values.to(self._device)).embeddings[0].float().cpu()
        return torch.nn.functional.normalize(voice, dim=0)

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["transformers", "torch"]),
            "weights": self._source,
            "weights_sha256": self._sha256,
            "settings": f"fp32, {self._device}",
        }
