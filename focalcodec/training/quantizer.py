"""Stage 1: compressor, quantizer and decompressor learn to pass the encoder's feats through."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.masking import valid_mask, zero_padding
from focalcodec.training.brain import LOSS_KEY, CodecBrain
from focalcodec.training.distributed import average, global_sum
from focalcodec.training.feature_picture import feature_figure
from focalcodec.training.pictures import code_usage_figure, spectrogram_figure


@dataclass(frozen=True)
class QuantizerOutput:
    """What one pass through stage 1 gives."""

    feats: Tensor
    """(B, N, D) the encoder's, and the target."""
    frames: Tensor
    """(B,) int64, valid frames of feats."""
    lats: Tensor
    """(B, N', L) the compressor's."""
    lat_frames: Tensor
    """(B,) int64, valid frames of lats."""
    toks: Tensor
    """(B, N') int64."""
    qfeats: Tensor
    """(B, N, D) the decompressor's, cut to the frames of feats."""


class QuantizerBrain(CodecBrain):
    """Feature reconstruction plus the entropy loss of the codes (arXiv 2502.04465, section 3).

    loss = MSE(qfeats, feats) + entropy_weight * (H_sample - gamma * H_codebook), over valid frames
    of the global batch. In validation H_codebook is that of the whole set, not of a batch.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"quantizer": ("compressor", "decompressor")}
    needs_sig: ClassVar[bool] = False
    read_keys: ClassVar[frozenset[str]] = frozenset(
        {"entropy_weight", "inv_temperature", "gamma", "decoder_source", "speed_perturb"}
    )

    def __init__(self, *args: Any, decoder: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = None if decoder is None else decoder.eval().to(self.device)
        if self.cache is not None and self.hparams.speed_perturb is not None:
            raise UserError(
                "feature_cache and speed_perturb: cached feats are those of the clip as it is;"
                " use one of the two"
            )
        size = len(self.modules.quantizer.codebook)
        self.code_counts = torch.zeros(size, dtype=torch.int64)
        self.joint = torch.zeros(size, dtype=torch.float64)

    def compute_forward(self, batch: Any, stage: sb.Stage) -> QuantizerOutput:
        """Feats through compressor, quantizer and decompressor."""
        if stage == sb.Stage.TRAIN and self.hparams.speed_perturb is not None:
            batch = self._at_another_speed(batch)
        feats, frames = self.features(batch)
        lats, lat_frames = self.modules.compressor(feats, frames)
        toks, codes = self.modules.quantizer(lats, lat_frames)
        qfeats, _ = self.modules.decompressor(codes, lat_frames)
        # Tokens at 25 and 12.5 Hz last a multiple of 2 or 4 frames: the surplus has no target.
        qfeats = qfeats[:, : feats.shape[1]]
        return QuantizerOutput(feats, frames, lats, lat_frames, toks, qfeats)

    def _at_another_speed(self, batch: Any) -> Any:
        # The same draw on every process: the speed of a global batch.
        torch.manual_seed(stable_seed(self.hparams.seed, "speed", self.epoch, self.step))
        perturb = self.hparams.speed_perturb
        sig = perturb(batch.sig)
        lengths = batch.lengths * 100 // perturb.speeds[int(perturb.samp_index)]
        return replace(batch, sig=sig, lengths=lengths.clamp(1, sig.shape[1]))

    def compute_objectives(self, outputs: QuantizerOutput, batch: Any, stage: sb.Stage) -> Tensor:
        """Reconstruction and entropy loss of a batch."""
        mask = valid_mask(outputs.frames, outputs.feats.shape[1])
        errors = (outputs.qfeats.float() - outputs.feats.float()).square().mean(dim=-1)
        feature_loss, total, count = average(zero_padding(errors, mask).sum(), mask.sum().float())
        self.meters.add("feature_loss", total, count)

        mask = valid_mask(outputs.lat_frames, outputs.lats.shape[1])
        terms = self.modules.quantizer.entropy_terms(
            outputs.lats, mask, self.hparams.inv_temperature, all_reduce=global_sum
        )
        toks_seen = float(global_sum(mask.sum().float()))
        self.meters.add("sample_entropy", terms.sample.detach() * toks_seen, toks_seen)
        if stage != sb.Stage.TRAIN:
            self._collect(outputs.toks[mask], terms.joint, toks_seen)
        entropy_loss = terms.sample - self.hparams.gamma * terms.codebook
        loss = feature_loss + self.hparams.entropy_weight * entropy_loss
        if stage == sb.Stage.TRAIN:
            self.meters.add("codebook_entropy", terms.codebook.detach() * toks_seen, toks_seen)
            self.meters.add(LOSS_KEY, loss.detach() * toks_seen, toks_seen)
        return loss

    def _collect(self, toks: Tensor, joint: Tensor, toks_seen: float) -> None:
        counts = torch.bincount(toks, minlength=len(self.code_counts))
        self.code_counts += global_sum(counts).cpu()
        self.joint += joint.detach().double().cpu() * toks_seen

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the codes of the last stage."""
        super().on_stage_start(stage, epoch)
        self.code_counts.zero_()
        self.joint.zero_()

    def stage_stats(self, stage: sb.Stage) -> dict[str, float]:
        """Averages; after validation and test also how the whole set uses the codebook."""
        stats = super().stage_stats(stage)
        if stage == sb.Stage.TRAIN or not self.code_counts.any():
            return stats
        joint = (self.joint / self.joint.sum()).clamp(min=1e-12)
        stats["codebook_entropy"] = float(-(joint * joint.log()).sum())
        entropy_loss = stats["sample_entropy"] - self.hparams.gamma * stats["codebook_entropy"]
        stats[LOSS_KEY] = stats["feature_loss"] + self.hparams.entropy_weight * entropy_loss
        return stats | code_statistics(self.code_counts)

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Feats beside qfeats; with a decoder also what the tokens sound like."""
        self.modules.eval()
        if epoch is not None:
            self.monitor.write_picture("code_usage", code_usage_figure(self.code_counts), epoch)
        for batch in self.monitor.sample_batches:
            outputs = self.compute_forward(batch.to(self.device), sb.Stage.VALID)
            name = batch.id[0]
            figure = feature_figure(
                outputs.feats[0].cpu(),
                outputs.qfeats[0].cpu(),
                self.encoder.sample_rate / self.encoder.hop,
                title=name,
            )
            self.monitor.write_picture(f"{name}_qfeats", figure, epoch)
            if self.decoder is None:
                continue
            rec_sig = self.decoder(outputs.qfeats, outputs.frames)[0][0].cpu()
            self.monitor.write_audio(f"{name}_codec", rec_sig, self.encoder.sample_rate, epoch)
            sig, rate = batch.sig[0].cpu(), self.encoder.sample_rate
            figure = spectrogram_figure(sig.numpy(), rec_sig.numpy(), rate, title=name)
            self.monitor.write_picture(f"{name}_codec", figure, epoch)


def code_statistics(counts: Tensor) -> dict[str, float]:
    """How evenly tokens use the codebook.

    Parameters
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was seen.

    Returns
    -------
    dict of str to float
        `code_usage`: share of the codebook seen at least once, %; `normalized_entropy`: entropy of
        the token histogram over log2 of the tokens seen at least once, % (as the paper);
        `toks`: tokens counted.

    Example
    -------
    >>> code_statistics(torch.tensor([2, 2, 0, 0]))
    {'code_usage': 50.0, 'normalized_entropy': 100.0, 'toks': 4.0}
    """
    seen = counts[counts > 0].double()
    share = seen / seen.sum()
    entropy = float(-(share * share.log2()).sum())
    return {
        "code_usage": 100 * len(seen) / len(counts),
        "normalized_entropy": 100 * entropy / math.log2(len(seen)) if len(seen) > 1 else 0.0,
        "toks": float(seen.sum()),
    }
