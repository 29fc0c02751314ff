"""What noise changes in the two stages: what is heard, and what is aimed at."""

from __future__ import annotations

from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.training.quantizer import QuantizerBrain
from focalcodec.training.vocoder import VocoderBrain


class NoisyQuantizerBrain(QuantizerBrain):
    """Stage 1: feats of the mixture in, feats of the clean speech out."""

    def heard_features(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Feats of the mixture."""
        return self.features(_mixture(batch))

    def target_features(self, batch: Any, feats: Tensor) -> Tensor:
        """Feats of the clean speech, which the frozen encoder gives as they are."""
        return self.features(batch)[0]


class NoisyVocoderBrain(VocoderBrain):
    """Stage 2: clean feats in, clean speech out; of `mixture_share` of the clips noisy feats.

    Stage 1 gives the decoder clean feats, as near as it can. Validation is on those alone.
    """

    read_keys: ClassVar[frozenset[str]] = VocoderBrain.read_keys | {"mixture_share"}

    def heard_features(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Feats of the clean speech, or of the mixture for a share of the training clips."""
        feats, frames = super().heard_features(batch, stage)
        if stage != sb.Stage.TRAIN or self.hparams.mixture_share == 0:
            return feats, frames
        noisy, _ = self.features(_mixture(batch))
        chosen = torch.rand(len(batch)) < self.hparams.mixture_share
        return torch.where(chosen.to(feats.device)[:, None, None], noisy, feats), frames


def _mixture(batch: Any) -> Any:
    if batch.mixture is None:
        raise UserError(
            f"clip {batch.id[0]}: no mixture; give the manifest a column noisy, or set mixer"
        )
    return batch.mixture
