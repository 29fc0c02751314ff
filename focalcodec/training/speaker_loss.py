"""Speaker consistency: what is decoded should be in the voice that was encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from focalcodec.errors import UserError
from focalcodec.training.trained_run import load_run


class SpeakerLoss(nn.Module):
    """1 - cosine of the speaker embeddings of a generated and of the real clip.

    Gradients pass through the frozen encoder to the generated clip.

    Source: the speaker consistency loss of YourTTS, arXiv 2112.02418.

    Parameters
    ----------
    encoder : Module
        (sig, lengths) -> embeddings (B, D), with `sample_rate`; frozen here, and kept in eval
        mode. Not the judge of the evaluation: see `SpeakerEncoder`.

    Example
    -------
    >>> from focalcodec.training.speaker_encoder import SpeakerEncoder
    >>> loss = SpeakerLoss(SpeakerEncoder(num_layers=1, dim=8, ffn_dim=8))
    >>> sig = torch.randn(2, 8000)
    >>> loss(0.5 * sig, sig) < 0.1
    tensor([True, True])
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.sample_rate: int = encoder.sample_rate
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SpeakerLoss:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Distance of the voices of each item.

        Parameters
        ----------
        rec_sig, sig : Tensor
            (B, T), generated and real, at `sample_rate`; a second or more tells a voice.
        lengths : Tensor, optional
            (B,) int64 >= 1, valid samples; default all.

        Returns
        -------
        Tensor
            (B,) float32, 0 to 2.
        """
        with torch.no_grad():
            wanted = self.encoder(sig, lengths)
        return 1 - cosine_similarity(self.encoder(rec_sig, lengths), wanted, dim=1)


def load_speaker_loss(source: str | Path) -> SpeakerLoss:
    """Loss by the speaker encoder that a run trained.

    Parameters
    ----------
    source : str or Path
        Folder of a run of `hparams/speaker_encoder.yaml`.

    Raises
    ------
    UserError
        Not a run's folder, without a whole checkpoint, or of another kind.
    """
    modules = load_run(Path(source).expanduser())["modules"]
    if "speaker" not in modules:
        raise UserError(
            f"speaker_source={source}: a run that trained {', '.join(modules)}; give one of"
            " speaker_encoder.yaml"
        )
    return SpeakerLoss(modules["speaker"])
