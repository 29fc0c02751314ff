"""Forward pass and losses of the demo codec: its distilled encoder, stage 1, stage 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from speechbrain import Stage
from torch import Tensor

from focalcodec.data.dataset import AudioBatch
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths
from focalcodec.training.brain import CodecBrain
from focalcodec.training.figures import LOSS_KEY
from focalcodec.training.joint import JointStart
from focalcodec.training.losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from focalcodec.training.pictures import feature_figure
from focalcodec.training.stages import Stage1Brain, Stage1Output, Stage2Brain, Stage2Output


@dataclass(frozen=True)
class DistillOutput:
    """Feats of both encoders, cut to the frames that both have."""

    feats: Tensor
    """(B, N, D), the student's."""
    targets: Tensor
    """(B, N, D), the teacher's."""
    frames: Tensor
    """(B,) int64, valid frames of both."""


class DistillBrain(CodecBrain):
    """Train a small encoder (student) to predict the feats of a large one, the run's `encoder`.

    loss = MSE(feats of the student, feats of the teacher), over the valid frames of the global
    batch. If a clip has a mixture (column `noisy` of its manifest, or a mixer), the student's
    input is the mixture and the teacher's is the clean clip, so noise and rooms change the
    student's output less. `focalcodec.training.run.trained.load_student` loads it.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"student": ("student",)}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("sample_rate", "hop", "dim"):
            ours, theirs = getattr(self.modules.student, name), getattr(self.encoder, name)
            if ours != theirs:
                raise UserError(
                    f"student: {name} is {ours}, the encoder's is {theirs}; make them equal"
                )

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> DistillOutput:
        """Clean clips through the teacher, mixtures through the student."""
        targets, frames = self.encode(batch)  # (B, N, D), (B,); the teacher, or the cache
        mixture = batch if batch.mixture is None else batch.mixture
        feats, own_frames = self.modules.student(
            mixture.sig, lengths=mixture.lengths
        )  # (B, N, D), (B,)
        length = min(feats.shape[1], targets.shape[1])
        frames = torch.minimum(frames, own_frames)
        return DistillOutput(feats[:, :length], targets[:, :length], frames)

    def compute_objectives(self, out: DistillOutput, batch: AudioBatch, stage: Stage) -> Tensor:
        """Squared error of the feats."""
        errors = (out.feats.float() - out.targets.float()).square().mean(dim=-1)  # (B, N)
        return self.frame_mean(LOSS_KEY, errors, out.frames)

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Pictures of the teacher's and the student's feats."""
        self.modules.eval()
        rate = self.encoder.sample_rate / self.encoder.hop
        for batch in self.monitor.sample_batches:
            out = self.compute_forward(batch.to(self.device), Stage.VALID)
            name = batch.id[0]
            figure = feature_figure(out.targets[0].cpu(), out.feats[0].cpu(), rate, name)
            self.monitor.write_picture(f"{name}_feats", figure, epoch)


class QuantizerBrain(Stage1Brain):
    """Stage 1: the tokens must keep the encoder's features (arXiv 2502.04465, section 3).

    loss = error(qfeats, feats) + entropy_weight * (H_sample - gamma * H_codebook), over the valid
    frames of the global batch. In validation H_codebook is computed over the whole set.
    """

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Stage1Output:
        """Feats through compressor, quantizer and decompressor."""
        batch = self.perturb_speed(batch, stage)
        feats, frames = self.encode(batch)  # (B, N, D), (B,); frozen encoder, or the cache
        inputs = self.mask_frames(feats, frames, batch, stage)  # four lines: docs/improvements.md
        lats, lat_frames = self.modules.compressor(inputs, lengths=frames)  # (B, N', L), (B,)
        lats = self.merge_frames(lats, lat_frames, batch, stage)
        toks, codes = self.modules.quantizer(lats, lengths=lat_frames)  # (B, N'), (B, N', L)
        given = self.utterance_vector(feats, frames, batch, stage)
        qfeats, _ = self.modules.decompressor(codes, lengths=lat_frames, **given)  # (B, >= N, D)
        # A token at 25 or 12.5 Hz lasts 2 or 4 frames; frames after the clip's end have no target.
        qfeats = qfeats[:, : feats.shape[1]]
        return Stage1Output(feats, frames, feats, lats, lat_frames, toks, qfeats)

    def compute_objectives(self, out: Stage1Output, batch: AudioBatch, stage: Stage) -> Tensor:
        """Error of the feats, entropy of the codes."""
        errors = self.hparams.feature_loss(out.qfeats, out.targets)  # (B, N)
        feature_loss = self.frame_mean("feature_loss", errors, out.frames)
        entropy = self.code_entropy(out, batch, stage)
        loss = self.total_loss(feature_loss, entropy.sample, entropy.codebook)
        return loss + self.extra_loss(out, stage)  # terms that the YAML adds

    def total_loss(self, feature_loss: Any, sample_entropy: Any, codebook_entropy: Any) -> Any:
        """Low H_sample: each token is certain. High H_codebook: all codes are used equally."""
        entropy_loss = sample_entropy - self.hparams.gamma * codebook_entropy
        return feature_loss + self.hparams.entropy_weight * entropy_loss


class JointBrain(JointStart, QuantizerBrain):
    """The small encoder (student) and stage 1 together; the target is the feats of its teacher.

    loss = that of `QuantizerBrain` + encoder_weight * MSE(feats of the student, targets)
    + word_weight * word_loss. Noisy clips are the student's input only, as in `DistillBrain`. First
    weights are those of `quantizer_source`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        make = self.hparams.word_loss  # frozen, so it is not among the modules
        self.word_loss = None if make is None else make().to(self.device)

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Stage1Output:
        """Clips through the teacher, and through student, compressor, quantizer, decompressor."""
        targets, target_frames = self.encode(batch)  # (B, N, D), (B,); the teacher, or the cache
        noisy = batch if batch.mixture is None else batch.mixture
        feats, frames = self.modules.student(noisy.sig, lengths=noisy.lengths)  # (B, M, D), (B,)
        lats, lat_frames = self.modules.compressor(feats, lengths=frames)  # (B, M', L), (B,)
        toks, codes = self.modules.quantizer(lats, lengths=lat_frames)  # (B, M'), (B, M', L)
        given = self.utterance_vector(feats, frames, batch, stage)
        qfeats, _ = self.modules.decompressor(codes, lengths=lat_frames, **given)  # (B, >= M, D)
        length = min(feats.shape[1], targets.shape[1])  # one of them may have a frame more
        feats, targets, qfeats = (x[:, :length] for x in (feats, targets, qfeats))
        frames = torch.minimum(frames, target_frames)
        return Stage1Output(feats, frames, targets, lats, lat_frames, toks, qfeats)

    def compute_objectives(self, out: Stage1Output, batch: AudioBatch, stage: Stage) -> Tensor:
        """Error of the feats after the tokens and before them, entropy of the codes."""
        errors = (out.feats.float() - out.targets.float()).square().mean(dim=-1)  # (B, N)
        encoder_loss = self.frame_mean("encoder_loss", errors, out.frames)
        loss = super().compute_objectives(out, batch, stage)
        loss = loss + self.hparams.encoder_weight * encoder_loss
        if self.word_loss is None:
            return loss
        words, tokens = self.word_loss(out.qfeats, out.targets, out.frames, batch.wrd)  # (B,), (B,)
        return loss + self.hparams.word_weight * self.mean("word_loss", words, tokens)


class VocoderBrain(Stage2Brain):
    """Stage 2: the decoder turns clean feats into a waveform (arXiv 2502.04465, section 3).

    A GAN on random crops, which are cut from feats of the whole clip: hinge losses, feature
    matching and the L1 distance of log-mel spectrograms, as in HiFi-GAN and Vocos.
    `demo_vocos.yaml` uses the last of these alone. Validation and test measure the mel distance of
    whole clips.
    """

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Stage2Output:
        """Feats of crops (in training) or of whole clips through the decoder."""
        feats, frames, given = self.decoder_input(batch, stage)  # (B, N, D), (B,)
        if stage != Stage.TRAIN:
            rec_sig, lengths = self.modules.decoder(feats, lengths=frames, **given)  # (B, T), (B,)
            return self.whole_clips(rec_sig, lengths, batch)
        feats, sig = self.crop(feats, frames, batch, self.hparams.crop_frames)
        rec_sig = self.modules.decoder(feats, **given)[0]  # (B, crop_frames * hop)
        return Stage2Output(rec_sig.float(), sig, full_lengths(rec_sig))

    def turns(self, batch: AudioBatch) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's step, then the decoder's step against the new discriminator."""
        with self.training_ctx:
            out = self.compute_forward(batch, Stage.TRAIN)
        if self.is_adversarial:
            yield "discriminator", self.discriminator_objectives(out)
        yield "generator", self.compute_objectives(out, batch, Stage.TRAIN)

    def discriminator_objectives(self, out: Stage2Output) -> Tensor:
        """Hinge loss: the scores of real crops should be above 1, of generated ones below -1."""
        self.modules.discriminator.requires_grad_(True)
        with self.training_ctx:
            both, _ = self.modules.discriminator(torch.cat([out.sig, out.rec_sig.detach()]))
        real, fake = zip(*(scores.chunk(2) for scores in both), strict=True)
        return self.mean("discriminator_loss", hinge_discriminator_loss(real, fake))

    def compute_objectives(self, out: Stage2Output, batch: AudioBatch, stage: Stage) -> Tensor:
        """Mel distance; in training also the scores and feature maps of the discriminator."""
        if stage != Stage.TRAIN:
            distances = self.mel_loss(out.rec_sig, out.sig, out.lengths)  # (B,)
            mel = self.clip_mean("loss", distances, out.lengths)
            return mel + self.extra_loss(out, stage)
        loss = self.reconstruction_loss(out)
        if self.is_adversarial:
            # Gradients pass through the discriminator, not into it.
            self.modules.discriminator.requires_grad_(False)
            with self.training_ctx:
                scores, maps = self.modules.discriminator(out.rec_sig)
                with torch.no_grad():
                    _, real_maps = self.modules.discriminator(out.sig)
            hinge = self.mean("adversarial_loss", hinge_generator_loss(scores))
            matching = self.mean("matching_loss", feature_matching_loss(real_maps, maps))
            loss = loss + self.hparams.adversarial_weight * hinge
            loss = loss + self.hparams.matching_weight * matching
        return loss + self.extra_loss(out, stage)  # terms that the YAML adds

    def reconstruction_loss(self, out: Stage2Output) -> Tensor:
        """Mel distance of crops, the only loss before the GAN begins."""
        mel = self.mean("mel_loss", self.mel_loss(out.rec_sig, out.sig))
        return self.hparams.mel_weight * mel
