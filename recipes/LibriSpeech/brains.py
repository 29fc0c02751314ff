"""Forward pass and losses of the trainings on LibriSpeech: stage 1, stage 2, two probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from speechbrain import Stage
from torch import Tensor, nn

from focalcodec.data.dataset import AudioBatch
from focalcodec.nn.masking import full_lengths
from focalcodec.probes.targets import ctc_losses, decode_greedily, decode_with_beam
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.training.losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from focalcodec.training.probe_brain import CER, ERROR_RATE, WER, ProbeBrain, has_transcript
from focalcodec.training.run.loaders import Rows
from focalcodec.training.stages import Stage1Brain, Stage1Output, Stage2Brain, Stage2Output


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


class VocoderBrain(Stage2Brain):
    """Stage 2: the decoder turns clean feats into a waveform (arXiv 2502.04465, section 3).

    A GAN on random crops, which are cut from feats of the whole clip: hinge losses, feature
    matching and the L1 distance of log-mel spectrograms, as in HiFi-GAN and Vocos. Validation and
    test measure the mel distance of whole clips.
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
        mel = self.mean("mel_loss", self.mel_loss(out.rec_sig, out.sig))
        loss = self.hparams.mel_weight * mel
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


class ASRBrain(ProbeBrain):
    """Probe: words, by a BiLSTM and CTC over pieces of words (arXiv 2502.04465, appendix).

    loss = CTC loss in nats a symbol, mean over clips; WER and CER in validation and test.
    """

    columns = (WER, CER)

    usable = staticmethod(has_transcript)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """The symbols are made from the training texts."""
        self.pieces = self.learn_pieces(hparams, sets["train"])
        return self.probe_modules(hparams, vocab_size=len(self.pieces))

    def compute_forward(self, batch: TokenBatch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, N, symbols), and frames (B,)."""
        return self.modules.probe(*self.inputs(batch))

    def compute_objectives(
        self, out: tuple[Tensor, Tensor], batch: TokenBatch, stage: Stage
    ) -> Tensor:
        """CTC loss; outside training also the texts."""
        log_probs, frames = out
        symbols = [self.pieces.to_symbols(row["wrd"]) for row in batch.rows]
        losses, fits = ctc_losses(log_probs, frames, symbols)  # (B,), (B,)
        if stage != Stage.TRAIN:
            self.add_texts(batch, stage, self.decode(log_probs, frames, stage))
        return self.mean("loss", losses, fits)

    def decode(self, log_probs: Tensor, frames: Tensor, stage: Stage) -> list[str]:
        """Text of each clip: the best symbol of each frame, or in a test a beam search."""
        beam_size = self.hparams.beam_size
        if beam_size > 1 and stage == Stage.TEST:
            return decode_with_beam(log_probs, frames, self.pieces.names, beam_size)
        return [self.pieces.to_text(x) for x in decode_greedily(log_probs, frames)]


class SpeakerBrain(ProbeBrain):
    """Probe: the speaker, by a BiLSTM and statistics pooling (arXiv 2502.04465, appendix).

    loss = cross entropy in nats; figure: share of wrong speakers.
    """

    columns = (ERROR_RATE,)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """One class for each speaker of the training set."""
        self.labels = self.find_labels(hparams, sets)
        return self.probe_modules(hparams, num_classes=len(self.labels))

    def compute_forward(self, batch: TokenBatch, stage: Stage) -> Tensor:
        """Logits (B, classes)."""
        return self.modules.probe(*self.inputs(batch))

    def compute_objectives(self, logits: Tensor, batch: TokenBatch, stage: Stage) -> Tensor:
        """Cross entropy, and the share of wrong predictions."""
        numbers = [self.labels.number(row) for row in batch.rows]
        targets = torch.tensor(numbers, device=logits.device)  # (B,)
        losses = F.cross_entropy(logits.float(), targets, reduction="none")  # (B,)
        predicted = logits.argmax(dim=1).tolist()
        wrong = [100.0 * (a != b) for a, b in zip(predicted, numbers, strict=True)]
        self.add_scores(batch, stage, "error_rate", [(value, 1.0) for value in wrong])
        self.add_predictions(batch, stage, [self.labels.names[number] for number in predicted])
        return self.mean("loss", losses)
