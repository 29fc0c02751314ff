"""Speaker similarity by Resemblyzer, whose weights are read without importing the package.

Its import wants a compiled voice activity detector, which is not needed here.

GE2E: Wan et al., "Generalized End-to-End Loss for Speaker Verification", arXiv 1710.10467.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from focalcodec.encoders.logmel import mel_bands, mel_power
from focalcodec.metrics.similarity import SAMPLE_RATE, SimilarityJudge
from focalcodec.packages import check_sha256, package_folder, versions

INSTALL = "pip install --no-deps Resemblyzer==0.1.4"
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
BANDS = 40
WINDOW, HOP = 400, 160  # samples
PART, STEP = 160, 77  # frames of 10 ms: 1.6 s each, 1.3 of them a second
COVERED = 0.75  # of the last part
LOUDNESS = 10 ** (-30 / 20)  # quieter signals are raised to this root mean square


class VoiceEncoder(nn.Module):
    """Three LSTM layers; the last state, projected, rectified and normalised.

    Example
    -------
    >>> VoiceEncoder()(torch.zeros(2, 160, 40)).shape
    torch.Size([2, 256])
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        """Mel powers (B, N, 40) to embeddings (B, 256)."""
        _, (state, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(state[-1]).relu(), dim=1)


class ResemblyzerJudge(SimilarityJudge):
    """Similarity in Resemblyzer's 256 dimensions.

    A clip's embedding is the mean over parts of 1.6 s, raised in volume where it is quiet.
    Resemblyzer's voice activity detector is not there, so pauses are not taken out: figures are
    close to the package's own, not equal.

    Parameters
    ----------
    device : str
        For the LSTM.

    Raises
    ------
    UserError
        The package is missing or has other weights.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__("Resemblyzer", "resemblyzer")
        folder = package_folder("resemblyzer", INSTALL)
        self._weights = check_sha256(folder / "pretrained.pt", SHA256, INSTALL)
        self._device = device

    @cached_property
    def _encoder(self) -> VoiceEncoder:
        state = torch.load(self._weights, map_location="cpu", weights_only=True)["model_state"]
        encoder = VoiceEncoder()
        # the two others are of its training loss
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
        mel = mel_power(sig, bands, torch.hann_window(WINDOW), WINDOW, HOP)  # (bands, N)
        parts = mel.mT.unfold(0, PART, 1)[starts].mT  # (parts, 160, bands)
        voices = self._encoder(parts.to(self._device)).cpu()
        return nn.functional.normalize(voices.mean(dim=0), dim=0)

    def describe(self) -> dict[str, str]:
        """Packages, weights and settings."""
        return {
            "name": self.name,
            "packages": versions(["resemblyzer", "torch"]),
            "weights": "GE2E LSTM, pretrained.pt",
            "weights_sha256": SHA256,
            "settings": f"parts of 1.6 s, 1.3 a second, {self._device}",
        }


def _starts(samples: int) -> list[int]:
    """First frame of each part; the last one is dropped where little of it is signal."""
    frames = samples // HOP + 1
    starts = list(range(0, max(1, frames - PART + STEP + 1), STEP))
    covered = (samples / HOP - starts[-1]) / PART
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts
