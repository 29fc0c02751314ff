"""Bases of the Brains of the two stages; forward passes and losses are in the recipes.

Stage 1: speed, entropy of the codes, usage of the codebook, pictures of feats. Stage 2: crops,
switching the gradients of the discriminator, mel distance of whole clips, audio samples.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.bsq import EntropyTerms
from focalcodec.data.dataset import AudioBatch
from focalcodec.data.randomness import clip_generator, stable_seed
from focalcodec.errors import UserError
from focalcodec.metrics.judge import Column
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.brain import CodecBrain
from focalcodec.training.distributed import global_sum
from focalcodec.training.figures import LOSS_KEY, CodeUsage
from focalcodec.training.pictures import code_usage_figure, feature_figure
from focalcodec.training.run.export import load_decoder
from focalcodec.training.run.start import Start


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


class Stage1Brain(CodecBrain):
    """Base of the Brains that train compressor, quantizer and decompressor.

    A subclass has `compute_forward` -> Stage1Output, `compute_objectives`, and `total_loss`. This
    formula of the loss is used for a batch in training, and for a whole set in validation.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"quantizer": ("compressor", "decompressor")}
    needs_sig: ClassVar[bool] = False
    columns = (Column("code_usage", "codes used", "%", "higher"),)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder: Any = None
        if self.cache is not None and self.hparams.speed_perturb is not None:
            raise UserError(
                "feature_cache and speed_perturb: cached feats are of the clip at its normal"
                " speed; use one of the two"
            )
        size = len(self.modules.quantizer.codebook)
        self.codes: dict[str, CodeUsage] = defaultdict(lambda: CodeUsage(size))

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

        In validation and test it also counts the use of the codebook, for the whole set.
        """
        mask = valid_mask(out.lat_frames, out.lats.shape[1])  # (B, N')
        terms = self.modules.quantizer.entropy_terms(
            out.lats, mask, self.hparams.inv_temperature, all_reduce=global_sum
        )
        toks_seen = self._toks_seen(out)
        self.meters.add("sample_entropy", terms.sample.detach() * toks_seen, toks_seen)
        if stage == sb.Stage.TRAIN:
            self.meters.add("codebook_entropy", terms.codebook.detach() * toks_seen, toks_seen)
            return terms
        counts = torch.bincount(out.toks[mask], minlength=len(terms.joint))  # (2^L,)
        counts = global_sum(counts)
        for group in {"", batch.group[0]}:
            self.codes[group].add(counts, terms.joint.detach(), toks_seen)
        return terms

    def report_loss(self, loss: Tensor, out: Stage1Output, stage: sb.Stage) -> Tensor:
        """Count the training loss of a batch, weighted by its tokens."""
        if stage == sb.Stage.TRAIN:
            toks_seen = self._toks_seen(out)
            self.meters.add(LOSS_KEY, loss.detach() * toks_seen, toks_seen)
        return loss

    def _toks_seen(self, out: Stage1Output) -> float:
        return float(global_sum(out.lat_frames.sum().float()))

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
        stats["codebook_entropy"] = self.codes[group].entropy()
        stats[LOSS_KEY] = self.total_loss(
            stats["feature_loss"], stats["sample_entropy"], stats["codebook_entropy"]
        )
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
                rec_sig = self.decoder(out.qfeats, lengths=out.frames)[0][0].cpu()
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


class Stage2Brain(CodecBrain):
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
        check_crops(self.encoder, self.hparams.min_seconds, self.hparams.crop_frames)
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

    def crop(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, length: int
    ) -> tuple[Tensor, Tensor]:
        """One random crop of each clip: feats (B, length, D) and sig (B, length * hop).

        Feats are cut after the encoder, which had the whole clip as input. The position of a crop
        depends on the seed, the clip and the step.
        """
        hop, hparams = self.encoder.hop, self.hparams
        return cut_crops(feats, frames, batch, length, hop, (hparams.seed, self.epoch, self.step))

    def whole_clips(self, rec_sig: Tensor, lengths: Tensor, batch: AudioBatch) -> Stage2Output:
        """Output of whole clips: both signals cut to the samples that both have."""
        samples = min(rec_sig.shape[1], batch.sig.shape[1])
        lengths = torch.minimum(lengths, batch.lengths)
        sig = zero_padding(batch.sig[:, :samples], valid_mask(lengths, samples))
        return Stage2Output(rec_sig[:, :samples], sig, lengths)

    def clip_mean(self, name: str, distances: Tensor, lengths: Tensor) -> Tensor:
        """Mean over a set of distances (B,) of clips, weighted by their mel frames."""
        return self.mean(name, distances, self.mel_loss.output_lengths(lengths).float())

    def report_loss(self, loss: Tensor, out: Stage2Output) -> Tensor:
        """Count the training loss of a batch, weighted by its clips."""
        self.meters.add(LOSS_KEY, loss.detach() * len(out.sig), len(out.sig))
        return loss

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Audio and pictures of the decoder's output for clean feats."""
        self.modules.eval()
        rate = self.encoder.sample_rate
        self.monitor.write_mixtures(rate, epoch)
        for batch in self.monitor.sample_batches:
            batch = batch.to(self.device)
            feats, frames = self.encode(batch)
            rec_sig, _ = self.modules.decoder(feats, lengths=frames)  # (1, T)
            name = f"{batch.id[0]}_vocoder"
            self.monitor.write_sample(name, batch, rec_sig[0].cpu(), rate, epoch)


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


def cut_crops(
    feats: Tensor,
    frames: Tensor,
    batch: AudioBatch,
    length: int,
    hop: int,
    draw: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """One random crop of each clip's feats, and of its sig.

    Parameters
    ----------
    feats, frames : Tensor
        (B, N, D), and (B,) int64 valid frames.
    batch : AudioBatch
        The clips: their IDs and sig.
    length, hop : int
        Frames of a crop (no clip has fewer), and samples of a frame.
    draw : tuple of int
        Seed, epoch and step; together with a clip's ID they determine the position of its crop.

    Returns
    -------
    feats : Tensor
        (B, length, D).
    sig : Tensor
        (B, length * hop).
    """
    seed, epoch, step = draw
    usable = torch.minimum(frames, batch.lengths // hop).tolist()
    cut_feats, cut_sig = [], []
    for item, clip_id in enumerate(batch.id):
        generator = clip_generator(seed, epoch, f"{clip_id}:{step}")
        span = max(usable[item] - length, 0) + 1
        start = int(torch.randint(span, (), generator=generator))
        cut_feats.append(feats[item, start : start + length])
        cut_sig.append(batch.sig[item, start * hop : (start + length) * hop])
    return torch.stack(cut_feats), torch.stack(cut_sig)
