"""Options of stage 1 that are off by default: docs/improvements.md has what each is for.

`mask_share`: noise in the compressor's input. `merge_range`: similar neighbours become one token.
`voice_tokens`: one vector an utterance. The Brains of the recipes call these between the parts.
"""

from __future__ import annotations

from typing import Any

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.data.dataset import AudioBatch
from focalcodec.data.randomness import clip_draws, clip_generator
from focalcodec.errors import UserError
from focalcodec.nn.merging import check_threshold, merge_lats

_VOICE_DROPPED = 0.1  # share of the training clips that have no vector of the utterance


class Stage1Options:
    """The part of `Stage1Brain` that reads these keys."""

    hparams: Any
    modules: Any
    draw: tuple[int, int, int]

    def check_options(self) -> None:
        """Read the keys; a `UserError` for wrong values."""
        self.mask_share = getattr(self.hparams, "mask_share", 0.0)
        share_is_wrong = isinstance(self.mask_share, bool) or not isinstance(
            self.mask_share, (int, float)
        )
        if share_is_wrong or not 0 <= self.mask_share < 1:
            raise UserError(
                f"mask_share={self.mask_share!r}: give a number from 0 (off) to below 1"
            )
        self.merge_range = getattr(self.hparams, "merge_range", None)
        if self.merge_range is None:
            return
        form = f"merge_range={self.merge_range!r}: give null (off) or [lowest, highest] cosine"
        if not isinstance(self.merge_range, (list, tuple)) or len(self.merge_range) != 2:
            raise UserError(f"{form}, such as [0.7, 1.0]")
        low, high = (check_threshold(value) for value in self.merge_range)
        if low > high:
            raise UserError(f"{form}, the lower one first")

    def mask_frames(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, stage: sb.Stage
    ) -> Tensor:
        """In training, replace a share `mask_share` of the frames by noise."""
        if stage != sb.Stage.TRAIN or not self.mask_share:
            return feats
        return noise_frames(feats, frames, batch, self.mask_share, self.draw)

    def merge_frames(
        self, lats: Tensor, lengths: Tensor, batch: AudioBatch, stage: sb.Stage
    ) -> Tensor:
        """In training, merge similar neighbours above a random threshold of `merge_range`."""
        if stage != sb.Stage.TRAIN or self.merge_range is None:
            return lats
        low, high = self.merge_range
        drawn = clip_draws("merge", batch.id, self.draw)  # (B,)
        return merge_lats(lats, lengths, (low + (high - low) * drawn).to(lats.device))

    def utterance_vector(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, stage: sb.Stage
    ) -> dict[str, Tensor]:
        """Argument `voice` of the decompressor: a vector of each clip; {} without `voice_tokens`.

        In training it is that of a random half of the clip, or zeros for a tenth of the clips.
        """
        draw = self.draw if stage == sb.Stage.TRAIN else None
        return voice_of(self.modules.compressor, feats, frames, batch, draw)


def noise_frames(
    feats: Tensor, frames: Tensor, batch: AudioBatch, share: float, draw: tuple[int, int, int]
) -> Tensor:
    """Replace a share of the valid frames by Gaussian noise.

    The noise of a clip has the mean and the deviation of each of its channels. `feats` are
    (B, N, D), `frames` (B,) int64; `draw` is seed, epoch and step.

    Source: MagiCodec, arXiv 2506.00385, section 3: tokens of such a codec are easier to predict.
    """
    seed, epoch, step = draw
    noisy = feats.clone()
    for item, (clip_id, count) in enumerate(zip(batch.id, frames.tolist(), strict=True)):
        generator = clip_generator(seed, epoch, f"mask:{clip_id}:{step}")
        chosen = (torch.rand(count, generator=generator) < share).to(feats.device)  # (n,)
        noise = torch.randn(count, feats.shape[2], generator=generator).to(feats)  # (n, D)
        own = feats[item, :count]
        noise = own.mean(dim=0) + noise * own.std(dim=0, correction=0)
        noisy[item, :count] = torch.where(chosen[:, None], noise, own)
    return noisy


def half_frames(
    frames: Tensor, number: int, batch: AudioBatch, draw: tuple[int, int, int]
) -> Tensor:
    """Mask (B, number) bool of a random half of each clip's `frames` (B,), without a gap."""
    seed, epoch, step = draw
    mask = torch.zeros(len(frames), number, dtype=torch.bool)
    for item, (clip_id, count) in enumerate(zip(batch.id, frames.tolist(), strict=True)):
        generator = clip_generator(seed, epoch, f"half:{clip_id}:{step}")
        length = (count + 1) // 2
        start = int(torch.randint(count - length + 1, (), generator=generator))
        mask[item, start : start + length] = True
    return mask.to(frames.device)


def voice_of(
    compressor: Any,
    feats: Tensor,
    frames: Tensor,
    batch: AudioBatch | None = None,
    draw: tuple[int, int, int] | None = None,
) -> dict[str, Tensor]:
    """Argument `voice` of the parts behind a compressor: a vector (B, V); {} without one.

    With a batch and a `draw` (seed, epoch and step) it is that of a random half of each clip, and
    zeros for a random tenth of the clips; else that of the whole clips.
    """
    pool = getattr(compressor, "voice", None)
    if pool is None:
        return {}
    if draw is None or batch is None:
        return {"voice": pool(feats, frames)}
    voice = pool(feats, mask=half_frames(frames, feats.shape[1], batch, draw))
    kept = torch.rand(len(voice)) >= _VOICE_DROPPED
    return {"voice": voice * kept.to(voice)[:, None]}
