"""Brains of experiments for the demo codec that were not kept; YAMLs: hparams/ablations/.

`MelQuantizerBrain`: stage 1 with a mel loss through the frozen decoder. `SpeakerBrain`: training of
the speaker encoder for a loss on the voice. Figures are in docs/demo.md.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from brains import QuantizerBrain
from speechbrain import Stage
from torch import Tensor, nn

from focalcodec.data.dataset import AudioBatch
from focalcodec.data.randomness import clip_generator, cut_crops
from focalcodec.errors import UserError
from focalcodec.probes.targets import Labels
from focalcodec.training.brain import CodecBrain
from focalcodec.training.distributed import gather_objects
from focalcodec.training.figures import LOSS_KEY
from focalcodec.training.run.start import Start
from focalcodec.training.stages import Stage1Output, check_crops

Embedding: TypeAlias = tuple[str, Tensor]
"""Speaker and embedding (D,) of a clip, scaled to length 1."""


class MelQuantizerBrain(QuantizerBrain):
    """Stage 1 with a loss on the decoded waveform, so that audible errors of qfeats count more.

    loss = loss of `QuantizerBrain` + mel_weight * mel distance. The mel distance is measured in
    training only, on crops that the frozen decoder of `decoder_source` makes from qfeats.
    """

    needs_sig: ClassVar[bool] = True

    def start_from(self, start: Start) -> None:
        """Load the decoder; UserError if there is none, or if crops are longer than a clip."""
        super().start_from(start)
        hparams = self.hparams
        if self.decoder is None:
            raise UserError(
                f"mel_weight={hparams.mel_weight}: needs a decoder; name a stage-2 run or a codec"
                " as decoder_source"
            )
        check_crops(self.encoder, hparams.min_seconds, hparams.mel_crop_frames, "mel_crop_frames")
        self.mel_loss = hparams.mel_loss.to(self.device)

    def compute_objectives(self, out: Stage1Output, batch: AudioBatch, stage: Stage) -> Tensor:
        """Error of the feats, entropy of the codes; in training also the mel distance."""
        errors = self.hparams.feature_loss(out.qfeats, out.targets)  # (B, N)
        feature_loss = self.frame_mean("feature_loss", errors, out.frames)
        entropy = self.code_entropy(out, batch, stage)
        loss = self.total_loss(feature_loss, entropy.sample, entropy.codebook)
        if stage == Stage.TRAIN:
            loss = loss + self.hparams.mel_weight * self.mel_distance(out, batch)
        return loss + self.extra_loss(out, stage)

    def mel_distance(self, out: Stage1Output, batch: AudioBatch) -> Tensor:
        """Mean mel distance of one crop of each clip; gradients pass through the decoder."""
        batch = self.perturb_speed(batch, Stage.TRAIN)  # the same speed as in compute_forward
        length, hop = self.hparams.mel_crop_frames, self.encoder.hop
        qfeats, sig = cut_crops(out.qfeats, out.frames, batch, length, hop, self.draw)
        rec_sig = self.decoder(qfeats)[0]  # (B, mel_crop_frames * hop), (B,)
        return self.mean("mel_loss", self.mel_loss(rec_sig.float(), sig))


class SpeakerBrain(CodecBrain):
    """Trains the speaker encoder to separate the speakers of the training set.

    loss = cross entropy over the training speakers, on a random crop of each clip. A logit is
    `scale` x the cosine of embedding and speaker; for the right speaker it is `scale` x (cosine -
    `margin`). Cosines are used because embeddings are later compared by their cosines (Wang et al.,
    "Additive margin softmax", arXiv 1801.05599). Copies of a clip with another `spk_id` count as
    other speakers.

    Speakers of the validation set need not be in the training set. The validation loss is the mean
    cosine of pairs of clips by two speakers minus the mean cosine of pairs by one speaker, over the
    whole set; the best is about -1. A mean is 0 if a set has no such pairs.

    Only the sample rate of the run's `encoder` is used. The modules are `speaker`, which
    `SpeakerLoss` reads, and `classifier`, with D inputs and at least one output a speaker.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"speaker": ("speaker", "classifier")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.labels: Labels | None = None
        self.embeddings: list[Embedding] = []
        rates = self.encoder.sample_rate, self.modules.speaker.sample_rate
        if rates[0] != rates[1]:
            raise UserError(
                f"speaker: takes {rates[1]} Hz, the encoder {rates[0]}; make them equal"
            )

    def fit(self, epoch_counter: Any, train_set: Any, *args: Any, **kwargs: Any) -> None:
        """Number the speakers, then train."""
        self.labels = Labels.of(train_set.dataset.rows, "spk_id")
        outputs = self.modules.classifier.out_features
        if len(self.labels) > outputs:
            raise UserError(
                f"max_speakers={outputs}: the training set has {len(self.labels)}; give as many or"
                " more"
            )
        super().fit(epoch_counter, train_set, *args, **kwargs)

    def crops(self, batch: AudioBatch) -> tuple[Tensor, Tensor]:
        """Crops (B, samples) of `crop_seconds`, or whole shorter clips, and lengths (B,)."""
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

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Tensor:
        """Embeddings (B, D): of crops in training, otherwise of whole clips."""
        clips = self.crops(batch) if stage == Stage.TRAIN else (batch.sig, batch.lengths)
        return self.modules.speaker(*clips)

    def compute_objectives(self, out: Tensor, batch: AudioBatch, stage: Stage) -> Tensor:
        """Cross entropy in nats; in validation and test the embeddings are kept."""
        if stage != Stage.TRAIN:
            directions = F.normalize(out.float(), dim=1).cpu()
            self.embeddings += zip(batch.spk_id, directions, strict=True)
            return out.new_zeros(())
        assert self.labels is not None, "set by fit"
        rows = [{"ID": i, "spk_id": s} for i, s in zip(batch.id, batch.spk_id, strict=True)]
        targets = torch.tensor([self.labels.number(row) for row in rows], device=out.device)
        speakers: nn.Linear = self.modules.classifier
        # The classifier has more outputs than there are speakers: use the first ones.
        weights = F.normalize(speakers.weight[: len(self.labels)].float(), dim=1)
        with torch.autocast(out.device.type, enabled=False):
            cosines = F.normalize(out.float(), dim=1) @ weights.T
        margin = self.hparams.margin * F.one_hot(targets, len(self.labels))
        logits = self.hparams.scale * (cosines - margin)
        losses = F.cross_entropy(logits, targets, reduction="none")
        wrong = 100.0 * (cosines.detach().argmax(dim=1) != targets).float()
        self.mean("error_rate", wrong)
        return self.mean(LOSS_KEY, losses)

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """Drop the embeddings of the last set."""
        super().on_stage_start(stage, epoch)
        self.embeddings = []

    def on_stage_end(self, stage: Stage, stage_loss: float, epoch: int | None) -> None:
        """Gather the embeddings of the other processes."""
        if stage != Stage.TRAIN:
            shares = gather_objects(self.embeddings)
            self.embeddings = [clip for share in shares for clip in share]
        super().on_stage_end(stage, stage_loss, epoch)

    def stage_stats(self, stage: Stage, group: str = "") -> dict[str, float]:
        """Averages; after validation and test also the cosines of pairs of clips."""
        stats = super().stage_stats(stage, group)
        return stats if stage == Stage.TRAIN else stats | pair_figures(self.embeddings)


def pair_figures(embeddings: list[Embedding]) -> dict[str, float]:
    """Mean cosines of all pairs of clips by one speaker and by two, and their difference.

    Parameters
    ----------
    embeddings : list of (str, Tensor)
        Speaker and direction (D,) of each clip.

    Returns
    -------
    dict
        `same_cosine`, `other_cosine` (each 0 without such pairs), and `loss`: other minus same.

    Example
    -------
    >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> pair_figures([("ann", a), ("ann", a), ("bob", b)])
    {'same_cosine': 1.0, 'other_cosine': 0.0, 'loss': -1.0}
    """
    if not embeddings:
        return {}
    directions = torch.stack([direction for _, direction in embeddings])
    numbers = {speaker: number for number, speaker in enumerate(sorted({s for s, _ in embeddings}))}
    speakers = torch.tensor([numbers[speaker] for speaker, _ in embeddings])
    cosines = directions @ directions.T
    alike = speakers[:, None] == speakers
    pairs = torch.ones_like(alike).triu(diagonal=1)
    found = {"same_cosine": cosines[alike & pairs], "other_cosine": cosines[~alike & pairs]}
    stats = {name: float(values.mean()) if len(values) else 0.0 for name, values in found.items()}
    return {**stats, LOSS_KEY: stats["other_cosine"] - stats["same_cosine"]}
