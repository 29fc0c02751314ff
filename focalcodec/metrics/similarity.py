"""Speaker similarity: cosine of speaker embeddings, by Resemblyzer or WavLM-base-sv."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.encoders.logmel import mel_bands, mel_power
from focalcodec.encoders.model_config import read_config
from focalcodec.files import file_sha256
from focalcodec.hub.weights import check_values
from focalcodec.metrics.judge import (
    SAMPLE_RATE,
    Column,
    JudgedClip,
    SignalJudge,
    at_rate,
    judge_folder,
    sig_key,
)
from focalcodec.packages import check_sha256, need_beside_torchaudio, package_folder, versions

RESEMBLYZER_INSTALL = "pip install --no-deps Resemblyzer==0.1.4"
RESEMBLYZER_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
BANDS = 40
WINDOW, HOP = 400, 160  # samples
PART, STEP = 160, 77  # frames of 10 ms: parts of 1.6 s, 1.3 of them a second
COVERED = 0.75  # the last part is dropped if less of it is signal
LOUDNESS = 10 ** (-30 / 20)  # quieter signals are amplified to this root mean square

WAVLM_SOURCE = "microsoft/wavlm-base-sv"
WAVLM_INSTALL = "pip install transformers"


class SimilarityJudge(SignalJudge):
    """Cosine of the speaker embeddings of output and reference, in percent, as in the papers.

    In voice conversion the reference is the clip's `target_sig`. A reference is embedded once for
    all codecs. `key` ends the column's key, such as "resemblyzer".
    """

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self._key = f"sim_{key}"
        self.columns = (Column(self._key, f"Speaker similarity, {name}", "%", "higher"),)
        self.least = {self._key: 0.0}
        self._references: dict[str, Tensor] = {}

    @abstractmethod
    def embed(self, sig: Tensor) -> Tensor:
        """Unit embedding (D,) of sig (T,) at 16 kHz, which is audible and 0.5 s or longer."""

    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """Similarity of one clip."""
        wanted = clip.speaker_sig
        key = sig_key(wanted, clip.sample_rate)
        if key not in self._references:
            self._references[key] = self.embed(at_rate(wanted, clip.sample_rate, SAMPLE_RATE))
        voice = self.embed(at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE))
        cosine = torch.dot(voice.double(), self._references[key].double())
        return {self._key: 100 * float(cosine)}


# -- Resemblyzer -----------------------------------------------------------------------------------


class VoiceEncoder(nn.Module):
    """Resemblyzer's network: three LSTM layers; the last state, projected, rectified, normalised.

    GE2E: Wan et al., "Generalized End-to-End Loss for Speaker Verification", arXiv 1710.10467.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        """Mel powers (B, N, 40) to embeddings (B, 256)."""
        _, (state, _) = self.lstm(mels)  # (3, B, 256)
        return nn.functional.normalize(self.linear(state[-1]).relu(), dim=1)


class ResemblyzerJudge(SimilarityJudge):
    """Similarity in Resemblyzer's 256 dimensions.

    The embedding of a clip is the mean over parts of 1.6 s; quiet clips are amplified. The weights
    are read without importing the package, because its import needs a compiled voice activity
    detector. Pauses are therefore not removed: scores are close to the package's own, not equal.
    Raises `UserError` if the package is missing or has other weights.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__("Resemblyzer", "resemblyzer")
        folder = package_folder("resemblyzer", RESEMBLYZER_INSTALL)
        self._weights = check_sha256(
            folder / "pretrained.pt", RESEMBLYZER_SHA256, RESEMBLYZER_INSTALL
        )
        self._device = device

    @cached_property
    def _encoder(self) -> VoiceEncoder:
        state = torch.load(self._weights, map_location="cpu", weights_only=True)["model_state"]
        encoder = VoiceEncoder()
        # the two other entries belong to its training loss
        own = {key: state[key] for key in encoder.state_dict()}
        encoder.load_state_dict(own)
        return encoder.eval().to(self._device)

    @torch.no_grad()
    def embed(self, sig: Tensor) -> Tensor:
        """Embedding (256,) of sig (T,) at 16 kHz."""
        sig = sig * max(1.0, LOUDNESS / float(sig.square().mean().sqrt()))
        starts = _starts(len(sig))
        missing = max(0, (starts[-1] + PART) * HOP - len(sig))
        sig = nn.functional.pad(sig, (0, missing))
        bands = mel_bands(SAMPLE_RATE, WINDOW, BANDS, 0.0, SAMPLE_RATE / 2)
        mel = mel_power(sig, bands, torch.hann_window(WINDOW), WINDOW, HOP)  # (40, N)
        parts = mel.mT.unfold(0, PART, 1)[starts].mT  # (parts, 160, 40)
        voices = self._encoder(parts.to(self._device)).cpu()  # (parts, 256)
        return nn.functional.normalize(voices.mean(dim=0), dim=0)

    def describe(self) -> dict[str, str]:
        """Packages, weights and settings."""
        return {
            "name": self.name,
            "packages": versions(["resemblyzer", "torch"]),
            "weights": "GE2E LSTM, pretrained.pt",
            "weights_sha256": RESEMBLYZER_SHA256,
            "settings": f"parts of 1.6 s, 1.3 a second, {self._device}",
        }


def _starts(samples: int) -> list[int]:
    """First frame of each part; the last part is dropped if little of it is signal."""
    frames = samples // HOP + 1
    starts = list(range(0, max(1, frames - PART + STEP + 1), STEP))
    covered = (samples / HOP - starts[-1]) / PART
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts


# -- WavLM -----------------------------------------------------------------------------------------


class WavlmSvJudge(SimilarityJudge):
    """Similarity of the 512-dimensional x-vectors of WavLM-base-sv, from a folder or the hub.

    The papers' judge. WavLM: Chen et al., arXiv 2110.13900; used so in arXiv 2502.04465, section 4.
    Raises `UserError` if a package or the model is missing.
    """

    def __init__(self, device: str = "cpu", source: str = WAVLM_SOURCE) -> None:
        super().__init__("WavLM-base-sv", "wavlm_base_sv")
        package_folder("transformers", WAVLM_INSTALL)
        self._folder, self._weights = judge_folder(
            source, ("*.json",), ("model.safetensors", "pytorch_model.bin")
        )
        self._source, self._device = source, device

    @cached_property
    def _prepare(self) -> Any:
        extractor = need_beside_torchaudio("transformers", WAVLM_INSTALL).Wav2Vec2FeatureExtractor
        return extractor.from_pretrained(self._folder)

    @cached_property
    def _model(self) -> Any:
        xvector = need_beside_torchaudio("transformers", WAVLM_INSTALL).WavLMForXVector
        read_config(self._folder)
        model = xvector.from_pretrained(self._folder, dtype=torch.float32, weights_only=True)
        check_values(self._folder, model.state_dict())
        return model.eval().to(self._device)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    @torch.no_grad()
    def embed(self, sig: Tensor) -> Tensor:
        """Embedding (512,) of sig (T,) at 16 kHz."""
        inputs = self._prepare(sig.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        voice = self._model(inputs.input_values.to(self._device)).embeddings[0].float().cpu()
        return nn.functional.normalize(voice, dim=0)

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["transformers", "torch"]),
            "weights": self._source,
            "weights_sha256": self._sha256,
            "settings": f"fp32, {self._device}",
        }
