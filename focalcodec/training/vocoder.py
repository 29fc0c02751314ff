"""Stage 2: the decoder learns to turn the encoder's clean feats into a waveform."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.brain import LOSS_KEY, CodecBrain
from focalcodec.training.crops import check_crops, cut_crops
from focalcodec.training.gan_losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from focalcodec.training.speaker_loss import SpeakerLoss, load_speaker_loss

VOICE_SECONDS = 1.0  # of a crop in which a speaker encoder can tell a voice


class VocoderBrain(CodecBrain):
    """GAN training of the decoder (arXiv 2502.04465, section 3; losses of HiFi-GAN and Vocos).

    The encoder hears whole utterances; random crops of `crop_frames` are cut from its feats. The
    discriminator learns with the hinge loss, the decoder with adversarial_weight * hinge +
    matching_weight * feature matching + mel_weight * L1 of the log-mel spectrogram + speaker_weight
    * distance of the voices, as the speaker encoder of `speaker_source` hears them.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {
        "discriminator": ("discriminator",),
        "generator": ("decoder",),
    }
    read_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "crop_frames",
            "mel_loss",
            "mel_weight",
            "adversarial_weight",
            "matching_weight",
            "adversarial_start_step",
            "speaker_weight",
            "speaker_source",
        }
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mel_loss = self.hparams.mel_loss.to(self.device)
        crop_frames = self.hparams.crop_frames
        check_crops(self.encoder, self.hparams.min_seconds, "crop_frames", crop_frames)
        self.speaker_loss = self._load_speaker_loss() if self.hparams.speaker_weight else None
        for name in self.hparams.freeze:
            if name.split(".")[0] == "discriminator":
                raise UserError(
                    f"freeze={name}: the discriminator learns whenever the decoder does; freeze"
                    " parts of the decoder only"
                )

    def _load_speaker_loss(self) -> SpeakerLoss:
        knobs, rate, hop = self.hparams, self.encoder.sample_rate, self.encoder.hop
        if knobs.speaker_source is None:
            raise UserError(
                f"speaker_weight={knobs.speaker_weight}: needs a speaker encoder; name a run of"
                " speaker_encoder.yaml as speaker_source, or set speaker_weight to 0"
            )
        if knobs.crop_frames * hop < VOICE_SECONDS * rate:
            raise UserError(
                f"crop_frames={knobs.crop_frames}: too short to tell a voice, which speaker_weight"
                f" asks for; give {math.ceil(VOICE_SECONDS * rate / hop)} or more"
            )
        speaker_loss = load_speaker_loss(knobs.speaker_source)
        if speaker_loss.sample_rate != rate:
            raise UserError(
                f"speaker_source={knobs.speaker_source}: hears {speaker_loss.sample_rate} Hz, the"
                f" encoder {rate}; name one for that rate"
            )
        return speaker_loss.to(self.device)

    def turns(self, batch: Any) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's turn, then the decoder's against the new discriminator."""
        feats, sig = self.crops(batch)
        with self.training_ctx:
            rec_sig, _ = self.modules.decoder(feats)
        rec_sig = rec_sig.float()
        adversarial = self.optimizer_step >= self.hparams.adversarial_start_step
        if adversarial:
            yield "discriminator", self._discriminator_loss(sig, rec_sig.detach())
        yield "generator", self._generator_loss(sig, rec_sig, adversarial)

    def _discriminator_loss(self, sig: Tensor, rec_sig: Tensor) -> Tensor:
        self.modules.discriminator.requires_grad_(True)
        with self.training_ctx:
            both, _ = self.modules.discriminator(torch.cat([sig, rec_sig]))
        real, fake = zip(*(scores.chunk(2) for scores in both), strict=True)
        return self.mean_of("discriminator_loss", hinge_discriminator_loss(real, fake))

    def _generator_loss(self, sig: Tensor, rec_sig: Tensor, adversarial: bool) -> Tensor:
        weights = self.hparams
        mel_loss = self.mean_of("mel_loss", self.mel_loss(rec_sig, sig))
        loss = weights.mel_weight * mel_loss
        if self.speaker_loss is not None:
            with self.training_ctx:
                distances = self.speaker_loss(rec_sig, sig)
            loss = loss + weights.speaker_weight * self.mean_of("speaker_loss", distances)
        if adversarial:
            # Gradients pass through the discriminator, not into it.
            self.modules.discriminator.requires_grad_(False)
            with self.training_ctx:
                scores, maps = self.modules.discriminator(rec_sig)
                with torch.no_grad():
                    _, real_maps = self.modules.discriminator(sig)
            hinge = self.mean_of("adversarial_loss", hinge_generator_loss(scores))
            matching = self.mean_of("matching_loss", feature_matching_loss(real_maps, maps))
            loss = loss + weights.adversarial_weight * hinge + weights.matching_weight * matching
        self.meters.add(LOSS_KEY, loss.detach() * len(sig), len(sig))
        return loss

    def crops(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Crops cut after the encoder, so that their feats have heard the whole utterance.

        Returns
        -------
        feats : Tensor
            (B, crop_frames, D).
        sig : Tensor
            (B, crop_frames * hop).
        """
        feats, frames = self.heard_features(batch, sb.Stage.TRAIN)
        draw = (self.hparams.seed, self.epoch, self.step)
        length, hop = self.hparams.crop_frames, self.encoder.hop
        return cut_crops(feats, frames, batch, length, hop, draw)

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Whole utterances through encoder and decoder: rec_sig (B, T) and lengths (B,)."""
        return self.modules.decoder(*self.heard_features(batch, stage))

    def compute_objectives(
        self, outputs: tuple[Tensor, Tensor], batch: Any, stage: sb.Stage
    ) -> Tensor:
        """Mel distance of whole utterances, over valid frames of the set."""
        rec_sig, lengths = outputs
        samples = min(rec_sig.shape[1], batch.sig.shape[1])
        lengths = torch.minimum(lengths, batch.lengths)
        sig = zero_padding(batch.sig[:, :samples], valid_mask(lengths, samples))
        frames = self.mel_loss.output_lengths(lengths).float()
        distances = self.mel_loss(rec_sig[:, :samples], sig, lengths)
        loss = self.mean_of(LOSS_KEY, distances, frames)
        if self.speaker_loss is not None:
            self.mean_of("speaker_loss", self.speaker_loss(rec_sig[:, :samples], sig, lengths))
        return loss

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """What the decoder makes of clean feats."""
        self.modules.eval()
        rate = self.encoder.sample_rate
        self.monitor.write_mixtures(rate, epoch)
        for batch in self.monitor.sample_batches:
            batch = batch.to(self.device)
            rec_sig = self.compute_forward(batch, sb.Stage.VALID)[0][0].cpu()
            self.monitor.write_sample(f"{batch.id[0]}_vocoder", batch, rec_sig, rate, epoch)
