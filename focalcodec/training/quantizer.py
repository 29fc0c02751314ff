"""Stage 1: compressor, quantizer and decompressor learn to pass the encoder's feats through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.brain import LOSS_KEY, CodecBrain
from focalcodec.training.code_usage import CodeUsage
from focalcodec.training.crops import check_crops, cut_crops
from focalcodec.training.distributed import global_sum
from focalcodec.training.feature_picture import feature_figure
from focalcodec.training.pictures import code_usage_figure


@dataclass(frozen=True)
class QuantizerOutput:
    """What one pass through stage 1 gives."""

    feats: Tensor
    """(B, N, D) the encoder's, as heard."""
    frames: Tensor
    """(B,) int64, valid frames of feats and targets."""
    targets: Tensor
    """(B, N, D) what qfeats should be: feats, unless the Brain says otherwise."""
    lats: Tensor
    """(B, N', L) the compressor's."""
    lat_frames: Tensor
    """(B,) int64, valid frames of lats."""
    toks: Tensor
    """(B, N') int64."""
    qfeats: Tensor
    """(B, N, D) the decompressor's, cut to the frames of feats."""
    batch: Any
    """What was heard, at the speed that it had."""


class QuantizerBrain(CodecBrain):
    """Feature reconstruction plus the entropy loss of the codes (arXiv 2502.04465, section 3).

    loss = MSE(qfeats, targets) + entropy_weight * (H_sample - gamma * H_codebook), over valid
    frames of the global batch; here the targets are feats. In validation H_codebook is that of
    the whole set or group, not of a batch.

    With `mel_weight`, in training, plus mel_weight * mel_loss of crops through the frozen decoder
    of `decoder_source`: what can be heard counts more than what can't.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"quantizer": ("compressor", "decompressor")}
    read_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "entropy_weight",
            "inv_temperature",
            "gamma",
            "decoder_source",
            "speed_perturb",
            "mel_weight",
            "mel_loss",
            "mel_crop_frames",
        }
    )

    @staticmethod
    def needs_sig(hparams: Mapping[str, Any]) -> bool:
        """Whether training reads sig where the cache has the feats: for the mel loss only."""
        return bool(hparams["mel_weight"])

    def __init__(self, *args: Any, decoder: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = None
        if decoder is not None:
            self.decoder = decoder.requires_grad_(False).eval().to(self.device)
        if self.hparams.mel_weight:
            self._prepare_hearing()
        if self.cache is not None and self.hparams.speed_perturb is not None:
            raise UserError(
                "feature_cache and speed_perturb: cached feats are those of the clip as it is;"
                " use one of the two"
            )
        size = len(self.modules.quantizer.codebook)
        self.codes: dict[str, CodeUsage] = defaultdict(lambda: CodeUsage(size))

    def _prepare_hearing(self) -> None:
        knobs = self.hparams
        if self.decoder is None:
            raise UserError(
                f"mel_weight={knobs.mel_weight}: needs a decoder to hear through; name a stage-2"
                " run or a codec as decoder_source, or set mel_weight to 0"
            )
        check_crops(self.encoder, knobs.min_seconds, "mel_crop_frames", knobs.mel_crop_frames)
        self.mel_loss = knobs.mel_loss.to(self.device)

    def target_features(self, batch: Any, feats: Tensor) -> Tensor:
        """(B, N, D) what the decompressor should give, where `feats` (B, N, D) were heard: those.

        A Brain for noisy or overlapped speech gives the feats of the clean clips.
        """
        return feats

    def compute_forward(self, batch: Any, stage: sb.Stage) -> QuantizerOutput:
        """Feats through compressor, quantizer and decompressor."""
        if stage == sb.Stage.TRAIN and self.hparams.speed_perturb is not None:
            batch = self._at_another_speed(batch)
        feats, frames = self.heard_features(batch, stage)
        targets = self.target_features(batch, feats)
        lats, lat_frames = self.modules.compressor(feats, frames)
        toks, codes = self.modules.quantizer(lats, lat_frames)
        qfeats, _ = self.modules.decompressor(codes, lat_frames)
        # Tokens at 25 and 12.5 Hz last a multiple of 2 or 4 frames: the surplus has no target.
        qfeats = qfeats[:, : feats.shape[1]]
        return QuantizerOutput(feats, frames, targets, lats, lat_frames, toks, qfeats, batch)

    def _at_another_speed(self, batch: Any) -> Any:
        # The same draw on every process: the speed of a global batch.
        torch.manual_seed(stable_seed(self.hparams.seed, "speed", self.epoch, self.step))
        perturb = self.hparams.speed_perturb
        sig = perturb(batch.sig)
        lengths = batch.lengths * 100 // perturb.speeds[int(perturb.samp_index)]
        lengths = lengths.clamp(1, sig.shape[1])
        # From the same seed: what is heard and what is wanted keep the same speed.
        mixture = None if batch.mixture is None else self._at_another_speed(batch.mixture)
        return replace(batch, sig=sig, lengths=lengths, mixture=mixture)

    def compute_objectives(self, outputs: QuantizerOutput, batch: Any, stage: sb.Stage) -> Tensor:
        """Reconstruction and entropy loss of a batch."""
        mask = valid_mask(outputs.frames, outputs.targets.shape[1])
        errors = (outputs.qfeats.float() - outputs.targets.float()).square().mean(dim=-1)
        feature_loss = self.mean_of("feature_loss", zero_padding(errors, mask), mask.float())

        mask = valid_mask(outputs.lat_frames, outputs.lats.shape[1])
        terms = self.modules.quantizer.entropy_terms(
            outputs.lats, mask, self.hparams.inv_temperature, all_reduce=global_sum
        )
        toks_seen = float(global_sum(mask.sum().float()))
        self.meters.add("sample_entropy", terms.sample.detach() * toks_seen, toks_seen)
        if stage != sb.Stage.TRAIN:
            counts = torch.bincount(outputs.toks[mask], minlength=len(terms.joint))
            counts = global_sum(counts)
            for group in {"", batch.group[0]}:
                self.codes[group].add(counts, terms.joint.detach(), toks_seen)
        entropy_loss = terms.sample - self.hparams.gamma * terms.codebook
        loss = feature_loss + self.hparams.entropy_weight * entropy_loss
        if stage == sb.Stage.TRAIN and self.hparams.mel_weight:
            loss = loss + self.hparams.mel_weight * self._heard_loss(outputs)
        if stage == sb.Stage.TRAIN:
            self.meters.add("codebook_entropy", terms.codebook.detach() * toks_seen, toks_seen)
            self.meters.add(LOSS_KEY, loss.detach() * toks_seen, toks_seen)
        return loss

    def _heard_loss(self, outputs: QuantizerOutput) -> Tensor:
        """Mel distance of a crop of each clip, through the decoder; gradients reach qfeats."""
        assert self.decoder is not None, "refused when the Brain was made"
        qfeats, sig = cut_crops(
            outputs.qfeats,
            outputs.frames,
            outputs.batch,
            self.hparams.mel_crop_frames,
            self.encoder.hop,
            (self.hparams.seed, self.epoch, self.step),
        )
        rec_sig, _ = self.decoder(qfeats)
        return self.mean_of("mel_loss", self.mel_loss(rec_sig.float(), sig))

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the codes of the last stage."""
        super().on_stage_start(stage, epoch)
        self.codes.clear()

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Averages; after validation and test also how all these clips use the codebook."""
        stats = super().stage_stats(stage, group)
        if group not in self.codes:
            return stats
        stats["codebook_entropy"] = self.codes[group].entropy()
        entropy_loss = stats["sample_entropy"] - self.hparams.gamma * stats["codebook_entropy"]
        stats[LOSS_KEY] = stats["feature_loss"] + self.hparams.entropy_weight * entropy_loss
        return stats | self.codes[group].statistics()

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Feats beside qfeats; with a decoder also what the tokens sound like."""
        self.modules.eval()
        if epoch is not None:
            self.monitor.write_picture(
                "code_usage", code_usage_figure(self.codes[""].counts), epoch
            )
        rate = self.encoder.sample_rate
        self.monitor.write_mixtures(rate, epoch)
        for batch in self.monitor.sample_batches:
            outputs = self.compute_forward(batch.to(self.device), sb.Stage.VALID)
            name, other = batch.id[0], outputs.targets is not outputs.feats
            figure = feature_figure(
                outputs.feats[0].cpu(),
                outputs.qfeats[0].cpu(),
                rate / self.encoder.hop,
                title=name,
                targets=outputs.targets[0].cpu() if other else None,
            )
            self.monitor.write_picture(f"{name}_qfeats", figure, epoch)
            if self.decoder is not None:
                rec_sig = self.decoder(outputs.qfeats, outputs.frames)[0][0].cpu()
                self.monitor.write_sample(f"{name}_codec", batch, rec_sig, rate, epoch)
