"""Forward pass and losses of the trainings on noisy speech: stage 1, stage 2, tokens to tokens.

A batch has the clean clips, and in `batch.mixture` the same clips with noise or other speakers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from estimates import Estimates
from speechbrain import Stage
from speechbrain.utils.distributed import run_on_main
from torch import Tensor, nn

from focalcodec.data.dataset import AudioBatch
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.translator import permuted_cross_entropy
from focalcodec.training.losses import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from focalcodec.training.probe_brain import TOKEN_ERROR_RATE, ProbeBrain
from focalcodec.training.run.loaders import Rows
from focalcodec.training.stages import Stage1Brain, Stage1Output, Stage2Brain, Stage2Output


class QuantizerBrain(Stage1Brain):
    """Stage 1: encode the mixture to tokens and decode these to the features of the clean clip.

    loss = error(qfeats, targets) + entropy_weight * (H_sample - gamma * H_codebook), over the valid
    frames of the global batch. In validation H_codebook is computed over the whole set.
    """

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Stage1Output:
        """Feats of the mixture through compressor, quantizer and decompressor."""
        batch = self.perturb_speed(batch, stage)
        # The input is the mixture; the targets are feats of the clean clip.
        feats, frames = self.encode(mixture_of(batch))  # (B, N, D), (B,); frozen encoder, or cache
        targets, _ = self.encode(batch)  # (B, N, D)
        inputs = self.mask_frames(feats, frames, batch, stage)  # four lines: docs/improvements.md
        lats, lat_frames = self.modules.compressor(inputs, lengths=frames)  # (B, N', L), (B,)
        lats = self.merge_frames(lats, lat_frames, batch, stage)
        toks, codes = self.modules.quantizer(lats, lengths=lat_frames)  # (B, N'), (B, N', L)
        given = self.utterance_vector(feats, frames, batch, stage)
        qfeats, _ = self.modules.decompressor(codes, lengths=lat_frames, **given)  # (B, >= N, D)
        # A token at 25 or 12.5 Hz lasts 2 or 4 frames; frames after the clip's end have no target.
        qfeats = qfeats[:, : feats.shape[1]]
        return Stage1Output(feats, frames, targets, lats, lat_frames, toks, qfeats)

    def compute_objectives(self, out: Stage1Output, batch: AudioBatch, stage: Stage) -> Tensor:
        """Error of qfeats against clean feats, entropy of the codes."""
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

    In a codec the input of the decoder is the output of stage 1, which should be clean feats. For
    a share `mixture_share` of the training clips, the input is feats of the mixture instead. The
    target is always the clean waveform.

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
        if self.hparams.mixture_share > 0:
            noisy, _ = self.encode(mixture_of(batch))  # (B, N, D)
            chosen = torch.rand(len(batch)) < self.hparams.mixture_share  # (B,)
            feats = torch.where(chosen.to(feats.device)[:, None, None], noisy, feats)
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


class TranslatorBrain(ProbeBrain):
    """Probe: tokens of the clean clip, or of each speaker, from tokens of the mixture.

    loss = cross entropy in nats a token. A Conformer has one head for each target; of all orders
    of the targets, the one with the lowest loss counts. Figure: share of wrong tokens. In a test
    the predicted tokens are decoded and judged (arXiv 2502.04465, appendix: enhancement,
    separation).
    """

    columns = (TOKEN_ERROR_RATE,)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """One head for each target, with the classes of the codec's tokens."""
        columns = list(hparams["targets"])
        if not 1 <= len(columns) <= 3:
            raise UserError(f"targets={columns}: give the names of 1 to 3 columns")
        judged = (hparams["panel"], hparams["language"])
        self.estimates = Estimates(self.codec, hparams["source"], columns, *judged)
        sizes = {"codebook_size": self.codec.codebook_size, "streams": self.codec.streams}
        return self.probe_modules(hparams, **sizes, targets=len(columns))

    def chance(self, rows: Rows) -> dict[str, float]:
        """Share of wrong tokens of a random guess."""
        return {TOKEN_ERROR_RATE.key: 100.0 - 100.0 / self.codec.codebook_size}

    def compute_forward(self, batch: TokenBatch, stage: Stage) -> Tensor:
        """Logits (B, N, targets, streams, codebook_size)."""
        logits, frames = self.modules.probe(*self.inputs(batch))
        if not torch.equal(frames, batch.lengths):
            raise UserError(
                f"inputs={self.hparams.inputs}: {frames.tolist()} frames, but"
                f" {batch.lengths.tolist()} tokens to predict; use inputs=toks"
            )
        return logits

    def compute_objectives(self, logits: Tensor, batch: TokenBatch, stage: Stage) -> Tensor:
        """Cross entropy with the best order of targets, and the share of wrong tokens."""
        assert batch.targets is not None
        losses, order = permuted_cross_entropy(logits, batch.targets, batch.lengths)  # (B,), (B, S)
        predicted = logits.argmax(dim=-1)  # (B, N, S, Q), of head s
        index = order[:, None, :, None].expand_as(batch.targets)
        wrong = predicted != batch.targets.gather(2, index)  # (B, N, S, Q)
        wrong = zero_padding(wrong, valid_mask(batch.lengths, wrong.shape[1]))
        counts = batch.lengths * wrong[0, 0].numel()  # (B,)
        rates = 100.0 * wrong.flatten(1).sum(dim=1) / counts  # (B,)
        scores = list(zip(rates.tolist(), counts.tolist(), strict=True))
        self.add_scores(batch, stage, "token_error_rate", scores)
        if stage == Stage.TEST:
            # Sort the predictions by targets: each head was paired with one target.
            index = order.argsort(dim=1)[:, None, :, None].expand_as(predicted)
            self.estimates.add(batch, predicted.gather(2, index), self.clip)
        return self.mean("loss", losses, batch.lengths.float())

    def on_set_start(self, name: str, rows: Rows) -> None:
        """Choose the clips for which predicted tokens are decoded and judged."""
        super().on_set_start(name, rows)
        device, most = str(self.device), self.hparams.judge_clips
        self.estimates.start_set(self.set_folder, rows, most, device)

    def on_set_end(self, name: str, rows: Rows) -> None:
        """Write the manifest of the decoded clips, and the card."""
        run_on_main(self.estimates.write_manifest, args=[rows, self.clips.keys()])
        super().on_set_end(name, rows)

    def judges(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Judges of the decoded clips."""
        return self.estimates.describe_judges()


def mixture_of(batch: AudioBatch) -> AudioBatch:
    """The batch's clips with noise or other speakers; UserError if it has none."""
    if batch.mixture is None:
        raise UserError(
            f"clip {batch.id[0]}: no mixture; give the manifest a column noisy, or set mixer"
        )
    return batch.mixture
