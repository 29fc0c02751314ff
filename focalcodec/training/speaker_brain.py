"""Training of the speaker encoder: to tell the speakers of the training set from one another."""

from __future__ import annotations

from typing import Any, ClassVar

import speechbrain as sb
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.data.randomness import clip_generator
from focalcodec.errors import UserError
from focalcodec.probes.targets import Labels
from focalcodec.training.brain import LOSS_KEY, CodecBrain
from focalcodec.training.distributed import process_count

Heard = tuple[str, Tensor]  # speaker, direction (D,)


class SpeakerBrain(CodecBrain):
    """Cross entropy over the speakers of the training set, of a random crop of each clip.

    Logits are `scale` x the cosine of embedding and speaker, the right one's less `margin`:
    embeddings are compared by their cosines later. Altered copies of a clip that have another
    `spk_id` count as other speakers.

    Validation is on speakers that need not be in the training set: its loss is the mean cosine of
    pairs of clips by different speakers less that of pairs by one speaker, over the whole set, -1
    at best about. A set without pairs of a kind has 0 in their place.

    Source: Wang et al., "Additive margin softmax", arXiv 1801.05599.

    The run's `encoder` is not heard: it says at which rate clips are read. The modules are
    `speaker`, what `load_speaker_loss` takes, and `classifier`, (D) to at least as many as there
    are speakers.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"speaker": ("speaker", "classifier")}
    read_keys: ClassVar[frozenset[str]] = frozenset({"crop_seconds", "scale", "margin"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.labels: Labels | None = None
        self.heard: list[Heard] = []
        rates = self.encoder.sample_rate, self.modules.speaker.sample_rate
        if rates[0] != rates[1]:
            raise UserError(f"speaker: hears {rates[1]} Hz, the encoder {rates[0]}; make them one")

    def fit(self, epoch_counter: Any, train_set: Any, *args: Any, **kwargs: Any) -> None:
        """Number the speakers, then train."""
        self.labels = Labels.of(train_set.dataset.rows, "spk_id")
        places = self.modules.classifier.out_features
        if len(self.labels) > places:
            raise UserError(
                f"max_speakers={places}: the training set has {len(self.labels)}; give as many or"
                " more"
            )
        super().fit(epoch_counter, train_set, *args, **kwargs)

    def crops(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Crops (B, samples) of `crop_seconds`, shorter clips whole, and their lengths (B,)."""
        samples = round(self.hparams.crop_seconds * self.encoder.sample_rate)
        lengths = batch.lengths.clamp(max=samples)
        sig = batch.sig.new_zeros(len(batch), int(lengths.max()))
        for item, clip_id in enumerate(batch.id):
            generator = clip_generator(self.hparams.seed, self.epoch, f"{clip_id}:{self.step}")
            length = int(lengths[item])
            span = int(batch.lengths[item]) - length + 1
            start = int(torch.randint(span, (), generator=generator))
            sig[item, :length] = batch.sig[item, start : start + length]
        return sig, lengths

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Embeddings (B, D), of crops in training, else of whole clips."""
        heard = self.crops(batch) if stage == sb.Stage.TRAIN else (batch.sig, batch.lengths)
        return self.modules.speaker(*heard)

    def compute_objectives(self, outputs: Tensor, batch: Any, stage: sb.Stage) -> Tensor:
        """Cross entropy in nats, and the share of wrong answers; else keep the embeddings."""
        if stage != sb.Stage.TRAIN:
            directions = F.normalize(outputs.float(), dim=1).cpu()
            self.heard += zip(batch.spk_id, directions, strict=True)
            return outputs.new_zeros(())
        assert self.labels is not None, "set by fit"
        rows = [{"ID": i, "spk_id": s} for i, s in zip(batch.id, batch.spk_id, strict=True)]
        wanted = torch.tensor([self.labels.number(row) for row in rows], device=outputs.device)
        speakers: nn.Linear = self.modules.classifier
        # Without the places that no speaker takes.
        weights = F.normalize(speakers.weight[: len(self.labels)].float(), dim=1)
        with torch.autocast(outputs.device.type, enabled=False):
            cosines = F.normalize(outputs.float(), dim=1) @ weights.T
        margin = self.hparams.margin * F.one_hot(wanted, len(self.labels))
        logits = self.hparams.scale * (cosines - margin)
        losses = F.cross_entropy(logits, wanted, reduction="none")
        wrong = 100.0 * (cosines.detach().argmax(dim=1) != wanted).float()
        self.mean_of("error_rate", wrong)
        return self.mean_of(LOSS_KEY, losses)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the clips of the last set."""
        super().on_stage_start(stage, epoch)
        self.heard = []

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None) -> None:
        """Gather the clips that other processes heard."""
        if stage != sb.Stage.TRAIN and process_count() > 1:
            shares: list[Any] = [None] * process_count()
            dist.all_gather_object(shares, self.heard)
            self.heard = [clip for share in shares for clip in share]
        super().on_stage_end(stage, stage_loss, epoch)

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Averages; after validation and test how alike pairs of clips are."""
        stats = super().stage_stats(stage, group)
        return stats if stage == sb.Stage.TRAIN else stats | pair_figures(self.heard)


def pair_figures(heard: list[Heard]) -> dict[str, float]:
    """Mean cosines of all pairs of clips by one speaker and by two, and their difference.

    Parameters
    ----------
    heard : list of (str, Tensor)
        Speaker and direction (D,) of each clip.

    Returns
    -------
    dict
        `same_cosine`, `other_cosine` (each 0 without such pairs), and `loss`: other less same.

    Example
    -------
    >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> pair_figures([("ann", a), ("ann", a), ("bob", b)])
    {'same_cosine': 1.0, 'other_cosine': 0.0, 'loss': -1.0}
    """
    if not heard:
        return {}
    directions = torch.stack([direction for _, direction in heard])
    numbers = {speaker: number for number, speaker in enumerate(sorted({s for s, _ in heard}))}
    speakers = torch.tensor([numbers[speaker] for speaker, _ in heard])
    cosines = directions @ directions.T
    alike = speakers[:, None] == speakers
    pairs = torch.ones_like(alike).triu(diagonal=1)
    found = {"same_cosine": cosines[alike & pairs], "other_cosine": cosines[~alike & pairs]}
    stats = {name: float(values.mean()) if len(values) else 0.0 for name, values in found.items()}
    return {**stats, LOSS_KEY: stats["other_cosine"] - stats["same_cosine"]}
