"""A loss between the frozen encoder's feats of the decoded and of the true audio.

Source: the reconstruction loss of self-supervised features in JHCodec, arXiv 2603.05887.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.losses import absolute_error
from focalcodec.training.run.trained import load_student, with_clean

if TYPE_CHECKING:
    from focalcodec.training.stages import Stage2Output


class EncoderLoss(nn.Module):
    """Term of stage 2: L1 distance of an encoder's feats of the decoded and of the true audio.

    Gradients pass through the frozen encoder to the decoder. A judge of words should not be of the
    encoder's family: a decoder that is trained with Whisper base pleases Whisper base.

    Parameters
    ----------
    source : str or path, optional
        Encoder of a codec (folder, hub repository, `demo`), or the student of a run of
        distillation, see `load_student`; loaded when the training starts. None: the run's encoder.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> loss = EncoderLoss()
    >>> loss.load(LogMel(n_mels=8))
    >>> sig = torch.randn(2, 3200)
    >>> loss.distances(sig, sig, torch.tensor([3200, 1600]))
    tensor([0., 0.])
    """

    encoder: Any

    def __init__(self, source: str | Path | None = None) -> None:
        super().__init__()
        self.source = source

    def load(self, encoder: Encoder, trust: Collection[str] = ()) -> None:
        """Load the encoder of `source`, or take the run's; a `UserError` if the rates differ."""
        found = with_clean(encoder)[-1]
        if self.source is not None:
            found = load_student(self.source, trust)
        if found.sample_rate != encoder.sample_rate:
            raise UserError(
                f"{self.source}: its encoder takes {found.sample_rate} Hz, the run's"
                f" {encoder.sample_rate}; name one for that rate"
            )
        self.encoder = found

    def forward(self, out: Stage2Output) -> Tensor:
        """Distances (B,) float32."""
        return self.distances(out.rec_sig, out.sig, out.lengths)

    def distances(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor) -> Tensor:
        """Mean distance over the valid frames of rec_sig and sig, both (B, T): (B,) float32."""
        # spectra and norms of encoders need float32
        with torch.autocast(sig.device.type, enabled=False):
            with torch.no_grad():
                targets, frames = self.encoder.run(sig.float(), lengths)  # (B, N, D), (B,)
            feats, _ = self.encoder.run(rec_sig.float(), lengths)
        errors = absolute_error(feats, targets)  # (B, N)
        errors = zero_padding(errors, valid_mask(frames, errors.shape[1]))
        return errors.sum(dim=1) / frames.clamp(min=1)
