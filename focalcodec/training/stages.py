"""Bases of the Brains of the two stages; forward passes and losses are in the recipes.

Stage 1: speed, entropy of the codes, usage of the codebook, pictures of feats. Stage 2: crops,
gradients of the discriminator, mel distance of whole clips, audio samples. Both: further losses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.audio import resample
from focalcodec.data.dataset import AudioBatch
from focalcodec.data.randomness import cut_crops, stable_seed
from focalcodec.errors import UserError
from focalcodec.metrics.judge import Column
from focalcodec.nn.entropy import EntropyTerms
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.distributed import global_sum
from focalcodec.training.extra_losses import StageBrain, check_takes
from focalcodec.training.figures import LOSS_KEY, CodeUsage
from focalcodec.training.improvements import Stage1Options
from focalcodec.training.pictures import code_usage_figure, feature_figure
from focalcodec.training.quantized_feats import CodecInput, check_vector
from focalcodec.training.run.export import load_decoder
from focalcodec.training.run.start import Start

_ADDED = "added_loss"  # to the formula of a batch
_NO_ENTROPY = EntropyTerms(torch.zeros(()), torch.zeros(()), torch.zeros(0))


@dataclass(frozen=True)
class Stage1Output:
    """Tensors of one pass through stage 1."""

    feats: Tensor
    """(B, N, D), output of the encoder, input of the compressor."""
    frames: Tensor
    """(B,) int64, valid frames of feats and targets."""
    targets: Tensor
    """(B, N, D), target of qfeats: feats of the input, or of clean speech."""
    lats: Tensor
    """(B, N', L), output of the compressor."""
    lat_frames: Tensor
    """(B,) int64, valid frames of lats."""
    toks: Tensor
    """(B, N') int64."""
    qfeats: Tensor
    """(B, N, D), output of the decompressor, cut to the frames of feats."""


class Stage1Brain(Stage1Options, StageBrain):
    """Base of the Brains that train compressor, quantizer and decompressor.

    A subclass has `compute_forward` -> Stage1Output, `compute_objectives`, and `total_loss`. This
    formula of the loss is used for a batch in training, and for a whole set in validation.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {
        "quantizer": ("compressor", "quantizer", "decompressor")
    }
    needs_sig: ClassVar[bool] = False
    columns = (Column("code_usage", "codes used", "%", "higher"),)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder: Any = None
        self.check_options()
        if self.cache is not None and self.hparams.speed_perturb is not None:
            raise UserError(
                "feature_cache and speed_perturb: cached feats are of the clip at its normal"
                " speed; use one of the two"
            )
        if hasattr(self.hparams, "feature_loss"):
            check_takes("feature_loss", self.hparams.feature_loss, 2)
        quantizer, self._entropy, self._toks = self.modules.quantizer, _NO_ENTROPY, 1.0
        self.codes: dict[str, CodeUsage] = defaultdict(lambda: CodeUsage(quantizer.codebook_size))
        if not hasattr(quantizer, "entropy_terms") and self.hparams.entropy_weight:
            raise UserError(
                f"entropy_weight={self.hparams.entropy_weight}: {type(quantizer).__name__} has no"
                " entropy_terms; set it to 0"
            )

    def total_loss(self, feature_loss: Any, sample_entropy: Any, codebook_entropy: Any) -> Any:
        """Loss from its three terms, tensors () or numbers."""
        raise NotImplementedError

    def start_from(self, start: Start) -> None:
        """Also load the decoder of `decoder_source` or init_from, for audio samples."""
        super().start_from(start)
        if self.hparams.decoder_source:
            trust = getattr(self.hparams, "__trust__", ())
            self.decoder = load_decoder(self.hparams.decoder_source, self.encoder, trust)
        elif start.trained is not None:
            self.decoder = start.trained.parts.get("decoder")
        if self.decoder is not None:
            self.decoder = self.decoder.requires_grad_(False).eval().to(self.device)

    def perturb_speed(self, batch: AudioBatch, stage: sb.Stage) -> AudioBatch:
        """In training, change the batch and its mixture to one random speed of `speed_perturb`."""
        if stage != sb.Stage.TRAIN or self.hparams.speed_perturb is None:
            return batch
        # The random speed is the same on every process: one speed for the global batch.
        torch.manual_seed(stable_seed(self.hparams.seed, "speed", self.epoch, self.step))
        perturb = self.hparams.speed_perturb
        sig = perturb(batch.sig)
        lengths = batch.lengths * 100 // perturb.speeds[int(perturb.samp_index)]
        lengths = lengths.clamp(1, sig.shape[1])
        mixture = None if batch.mixture is None else self.perturb_speed(batch.mixture, stage)
        return replace(batch, sig=sig, lengths=lengths, mixture=mixture)

    def code_entropy(self, out: Stage1Output, batch: AudioBatch, stage: sb.Stage) -> EntropyTerms:
        """Entropy of each token and of the codebook, in nats, over the global batch.

        In validation and test it also counts the use of the codebook, for the whole set. A
        quantizer without `entropy_terms` has no entropies: they are 0.
        """
        quantizer, terms = self.modules.quantizer, _NO_ENTROPY
        mask = valid_mask(out.lat_frames, out.lats.shape[1])  # (B, N')
        has_entropy = hasattr(quantizer, "entropy_terms")
        toks_seen = self._toks = float(global_sum(out.lat_frames.sum().float()))
        if has_entropy:
            terms = quantizer.entropy_terms(
                out.lats, mask, self.hparams.inv_temperature, all_reduce=global_sum
            )
            self.meters.add("sample_entropy", terms.sample.detach() * toks_seen, toks_seen)
        self._entropy = terms
        if stage == sb.Stage.TRAIN:
            if has_entropy:
                self.meters.add("codebook_entropy", terms.codebook.detach() * toks_seen, toks_seen)
            return terms
        counts = torch.bincount(out.toks[mask], minlength=quantizer.codebook_size)  # (K,)
        counts = global_sum(counts)
        for group in {"", batch.group[0]}:
            joint = terms.joint.detach() if has_entropy else None
            self.codes[group].add(counts, joint, toks_seen)
        return terms

    def extra_loss(self, out: Stage1Output, stage: sb.Stage) -> Tensor | float:
        """Terms of `extra_losses`, and those of the quantizer, `frame_losses`."""
        total = super().extra_loss(out, stage)
        if hasattr(self.modules.quantizer, "frame_losses"):
            for name, losses in self.modules.quantizer.frame_losses(out.lats, out.toks).items():
                total = total + self.term_mean(name, losses, out)
        return total

    def term_mean(self, name: str, losses: Tensor, out: Stage1Output) -> Tensor:
        """Mean over the valid frames of losses (B, N) or (B, N'), or of (B,) by their frames."""
        if losses.dim() == 1:
            return self.mean(name, losses, out.frames.float())
        for frames, width in (
            (out.frames, out.feats.shape[1]),
            (out.lat_frames, out.lats.shape[1]),
        ):
            if losses.shape == (len(frames), width):
                return self.frame_mean(name, losses, frames)
        raise UserError(f"{name}: {tuple(losses.shape)}; give a number per frame, (B, N), or clip")

    def count_loss(self, loss: Tensor, turn: str, stage: sb.Stage) -> None:
        """Count the loss of a batch in training; else what was added to `total_loss`."""
        if stage == sb.Stage.TRAIN or not self.codes:
            self.meters.add(LOSS_KEY, loss.detach() * self._toks, self._toks)
        else:
            error, _ = self.batch_means["feature_loss"]
            formula = self.total_loss(error, self._entropy.sample, self._entropy.codebook)
            self.meters.add(_ADDED, (loss - formula).detach() * self._toks, self._toks)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the counts of codes."""
        super().on_stage_start(stage, epoch)
        self.codes.clear()

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Averages; after validation and test also the loss and the use of codes in the whole set.

        The codebook's entropy is computed over the set: entropies of batches can't be averaged.
        """
        stats = super().stage_stats(stage, group)
        if group not in self.codes:
            return stats
        if "sample_entropy" in stats:
            stats["codebook_entropy"] = self.codes[group].entropy()
        entropies = (stats.get(f"{name}_entropy", 0.0) for name in ("sample", "codebook"))
        added = stats.pop(_ADDED, 0.0)
        stats[LOSS_KEY] = self.total_loss(stats["feature_loss"], *entropies) + added
        return stats | self.codes[group].statistics()

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Pictures of feats beside qfeats; with a decoder also audio of the tokens."""
        self.modules.eval()
        if epoch is not None:
            self.monitor.write_picture(
                "code_usage", code_usage_figure(self.codes[""].counts), epoch
            )
        rate = self.encoder.sample_rate
        self.monitor.write_mixtures(rate, epoch)
        for batch in self.monitor.sample_batches:
            out = self.compute_forward(batch.to(self.device), sb.Stage.VALID)
            name = batch.id[0]
            figure = feature_figure(
                out.feats[0].cpu(),
                out.qfeats[0].cpu(),
                rate / self.encoder.hop,
                title=name,
                targets=None if out.targets is out.feats else out.targets[0].cpu(),
            )
            self.monitor.write_picture(f"{name}_qfeats", figure, epoch)
            if self.decoder is not None:
                rec_sig = self.decoder(out.qfeats, lengths=out.frames)[0].cpu()  # (1, T)
                own_rate = getattr(self.decoder, "sample_rate", rate)
                rec_sig = resample(rec_sig, own_rate, rate)[0][0]
                self.monitor.write_sample(f"{name}_codec", batch, rec_sig, rate, epoch)


@dataclass(frozen=True)
class Stage2Output:
    """Generated and real waveforms of one pass through stage 2."""

    rec_sig: Tensor
    """(B, T) float32, generated."""
    sig: Tensor
    """(B, T), real."""
    lengths: Tensor
    """(B,) int64, valid samples of both."""


class Stage2Brain(StageBrain):
    """Base of the Brains that train the decoder with a GAN.

    A subclass has `compute_forward` -> Stage2Output, `turns`, `discriminator_objectives` and
    `compute_objectives`.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {
        "discriminator": ("discriminator",),
        "generator": ("decoder",),
    }
    valid_loss = "mel_loss"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mel_loss = self.hparams.mel_loss.to(self.device)
        self.codec_input: CodecInput | None = None
        given = getattr(self.hparams, "codec_input", None)
        if given is not None:
            trust = getattr(self.hparams, "__trust__", ())
            source = CodecInput(given, self.encoder, trust, self.sample_rate)
            self.codec_input = source.to(self.device)
        check_vector(self.modules.decoder, self.codec_input)
        if self.terms:
            self.monitor.figures = replace(self.monitor.figures, valid_loss="reconstruction_loss")
            if self.hparams.mel_weight <= 0:
                raise UserError(
                    "extra_losses: their weights are beside mel_weight; give it above 0"
                )
        check_crops(self.encoder, self.hparams.min_seconds, self.hparams.crop_frames)
        encoder, hop, rate = self.encoder, self.modules.decoder.hop, self.sample_rate
        if hop * encoder.sample_rate != encoder.hop * rate:
            raise UserError(
                f"decoder: {hop} samples a frame at {rate} Hz, the encoder {encoder.hop} at"
                f" {encoder.sample_rate} Hz; make their frames equally long"
            )
        for name in self.hparams.freeze:
            if name.split(".")[0] == "discriminator":
                raise UserError(
                    f"freeze={name}: the discriminator is trained together with the decoder; freeze"
                    " parts of the decoder only"
                )

    @property
    def is_adversarial(self) -> bool:
        """Whether the GAN has begun; before, the decoder is trained with the mel loss alone."""
        first = self.hparams.adversarial_start_step
        return first is not None and self.optimizer_step >= first

    def decoder_input(
        self, batch: AudioBatch, stage: sb.Stage
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Feats of whole clips, (B, N, D), valid frames (B,), and further inputs: clean feats.

        With `codec_input`, a share of the clips in training, and outside of training all clips,
        have feats after that codec's quantizer; with `voice_tokens` its vector is a further input.
        """
        feats, frames = self.encode(batch)
        if self.codec_input is None:
            return feats, frames, {}
        draw = self.draw if stage == sb.Stage.TRAIN else None
        with torch.no_grad(), torch.autocast(self.device_type, enabled=False):
            given = {}
            if getattr(self.modules.decoder, "voice_tokens", 0):
                given = self.codec_input.voice(feats, frames, batch, draw)
            return *self.codec_input.mix(feats, frames, batch, draw), given

    def crop(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, length: int
    ) -> tuple[Tensor, Tensor]:
        """One random crop of each clip: feats (B, length, D) and sig (B, length * hop).

        Feats are cut after the encoder, which had the whole clip as input. The position of a crop
        depends on the seed, the clip and the step.
        """
        return cut_crops(feats, frames, batch, length, self.modules.decoder.hop, self.draw)

    def whole_clips(self, rec_sig: Tensor, lengths: Tensor, batch: AudioBatch) -> Stage2Output:
        """Output of whole clips: both signals cut to the samples that both have."""
        samples = min(rec_sig.shape[1], batch.sig.shape[1])
        lengths = torch.minimum(lengths, batch.lengths)
        sig = zero_padding(batch.sig[:, :samples], valid_mask(lengths, samples))
        return Stage2Output(rec_sig[:, :samples], sig, lengths)

    def clip_mean(self, name: str, distances: Tensor, lengths: Tensor) -> Tensor:
        """Mean over a set of distances (B,) of clips, weighted by their mel frames."""
        return self.mean(name, distances, self.mel_loss.output_lengths(lengths).float())

    def term_mean(self, name: str, losses: Tensor, out: Stage2Output) -> Tensor:
        """Mean of losses (B,) of clips, weighted by their samples."""
        if losses.shape != out.lengths.shape:
            raise UserError(f"{name}: {tuple(losses.shape)}; give a number per clip, (B,)")
        return self.mean(name, losses, out.lengths.float())

    def extra_loss(self, out: Stage2Output, stage: sb.Stage) -> Tensor | float:
        """Terms of `extra_losses`; outside of training beside a mel distance without a weight."""
        total = super().extra_loss(out, stage)
        if not self.terms:
            return total
        total = total / self.hparams.mel_weight
        mel, count = self.batch_means["mel_loss" if stage == sb.Stage.TRAIN else LOSS_KEY]
        if stage != sb.Stage.TRAIN:
            self.meters.add("mel_loss", mel * count, count)
            return total
        self.meters.add("reconstruction_loss", (mel + total).detach() * count, count)
        return self.hparams.mel_weight * total

    def count_loss(self, loss: Tensor, turn: str, stage: sb.Stage) -> None:
        """Count the loss of the decoder in training; else what was added to the mel distance."""
        name = "mel_loss" if stage == sb.Stage.TRAIN else LOSS_KEY
        mel, count = self.batch_means.get(name, (loss, 1.0))
        if stage != sb.Stage.TRAIN:
            self.meters.add(_ADDED, (loss - mel).detach() * count, count)
        elif turn == [*self.trained][-1]:
            self.meters.add(LOSS_KEY, loss.detach() * count, count)

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Averages; the loss of a set has what was added to the mel distance of its batches."""
        stats = super().stage_stats(stage, group)
        added = stats.pop(_ADDED, 0.0)
        return stats | ({LOSS_KEY: stats[LOSS_KEY] + added} if added else {})

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Audio and pictures of the decoder's output."""
        self.modules.eval()
        self.monitor.write_mixtures(self.sample_rate, epoch)
        for batch in self.monitor.sample_batches:
            batch = batch.to(self.device)
            feats, frames, given = self.decoder_input(batch, sb.Stage.VALID)
            rec_sig, _ = self.modules.decoder(feats, lengths=frames, **given)  # (1, T)
            name = f"{batch.id[0]}_vocoder"
            self.monitor.write_sample(name, batch, rec_sig[0].cpu(), self.sample_rate, epoch)


def check_crops(
    encoder: Any, min_seconds: float, crop_frames: int, name: str = "crop_frames"
) -> None:
    """Raise if crops of feats are longer than the shortest clip.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> check_crops(LogMel(), 0.5, 25)
    >>> check_crops(LogMel(), 0.5, 26)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: crop_frames=26: the shortest clips, of min_seconds=0.5, have 25; \
raise min_seconds
    """
    shortest = int(min_seconds * encoder.sample_rate)
    frames = int(encoder.output_lengths(torch.tensor(shortest)))
    if min(frames, shortest // encoder.hop) < crop_frames:
        raise UserError(
            f"{name}={crop_frames}: the shortest clips, of min_seconds={min_seconds}, have"
            f" {frames}; raise min_seconds"
        )
