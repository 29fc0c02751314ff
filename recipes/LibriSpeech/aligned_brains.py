"""Text to speech without a language model: phonemes, durations, then the bits of all tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from aligned_data import Prompts
from lm_readings import READING_COLUMNS, ReadingBrain
from speechbrain import Stage
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from focalcodec.data.randomness import stable_seed
from focalcodec.lm import AlignedTextToSpeech, most_probable_path, spread
from focalcodec.metrics.judge import Column
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.training.run.loaders import Rows

BIT_ERRORS = Column("bit_errors", "wrong bits, true durations", "%", "lower")


class Output(NamedTuple):
    """What the losses need, of each clip."""

    lengths: Tensor  # (B,): phonemes
    codes: Tensor  # (B, N, L): bits of its tokens, as 1 and -1
    scores: Tensor  # (B, S, N): of a phoneme alone for a frame
    durations: Tensor  # (B, S): frames of each phoneme on the most probable path
    log_durations: Tensor  # (B, S), predicted
    logits: Tensor  # (B, N, L): bits, with the durations of the path


class AlignedBrain(ReadingBrain):
    """loss = bits_loss + alignment_weight * alignment_loss + duration_weight * duration_loss.

    bits_loss is the cross entropy of a token's bits, alignment_loss the same predicted from its
    phoneme alone, both nats a token; duration_loss is the squared error of the logarithm of the
    frames of a phoneme. The voice is that of another clip of the speaker.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"tts": ("tts",)}
    columns = (BIT_ERRORS, *READING_COLUMNS)

    @staticmethod
    def usable(row: Mapping[str, Any]) -> bool:
        """Whether a clip has a text with words."""
        return any(letter.isalnum() for letter in row["wrd"])

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """The phonemes are those of the training set; first weights from the seed."""
        loaders, phonemes = self.loaders, self.loaders.phonemes
        most = round(hparams["prompt_seconds"] * self.codec.tokenizer.token_rate)
        known = {"train": loaders.train, "valid": loaders.valid, **loaders.tests}
        self.prompts = {name: Prompts(each.dataset, most) for name, each in known.items()}
        torch.manual_seed(stable_seed(hparams["seed"], "tts"))
        tts = hparams["tts"](num_phonemes=phonemes.size, code_dim=loaders.code_dim)
        self.make_reader(hparams, partial(AlignedTextToSpeech, tts, phonemes))
        return {"tts": tts}

    def compute_forward(self, batch: TokenBatch, stage: Stage) -> Output:
        """Voice, phonemes, their most probable path through the clip, and its bits."""
        tts, bits = self.modules.tts, self.tts.codes.to(self.device)
        ids = [self.loaders.ids[row["wrd"]].to(self.device) for row in batch.rows]
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        prompts, prompt_frames = self.prompt(batch, stage)  # (B, P), (B,)
        voice = tts.voice(bits[prompts], prompt_frames)  # (B, V)
        x = tts.encode(pad_sequence(ids, batch_first=True), lengths, voice)  # (B, S, D)
        codes = bits[batch.toks]  # (B, N, L)
        scores = tts.alignment(x, lengths, codes, batch.lengths)  # (B, S, N)
        durations = most_probable_path(scores, lengths, batch.lengths)  # (B, S)
        logits, _ = tts.bits(x, durations, voice)  # (B, N, L)
        log_durations = tts.log_durations(x).float()  # (B, S)
        return Output(lengths, codes, scores, durations, log_durations, logits.float())

    def compute_objectives(self, out: Output, batch: TokenBatch, stage: Stage) -> Tensor:
        """Sum of the three losses; in validation also the wrong bits."""
        frames = batch.lengths
        targets = (out.codes > 0).float()
        each = F.binary_cross_entropy_with_logits(out.logits, targets, reduction="none")
        bits_loss = self.frame_mean("bits_loss", each.sum(dim=2), frames)
        place = spread(out.durations, out.codes.shape[1])[0]  # (B, N)
        alone = out.scores.gather(1, place[:, None])[:, 0]  # (B, N)
        alignment_loss = self.frame_mean("alignment_loss", -alone, frames)
        errors = out.log_durations - out.durations.clamp(min=1).log()
        duration_loss = self.frame_mean("duration_loss", errors.square(), out.lengths)
        if stage != Stage.TRAIN:
            wrong = ((out.logits > 0) != (out.codes > 0)).float().mean(dim=2)  # (B, N)
            shares = zero_padding(wrong, valid_mask(frames, wrong.shape[1])).sum(dim=1) / frames
            scores = zip((100.0 * shares).tolist(), frames.tolist(), strict=True)
            self.add_scores(batch, stage, BIT_ERRORS.key, list(scores))
        if stage == Stage.TEST:
            self.test_clips(batch)
        return self.total_loss(bits_loss, alignment_loss, duration_loss)

    def total_loss(self, bits_loss: Any, alignment_loss: Any, duration_loss: Any) -> Any:
        """Bits of the tokens, the same from a phoneme alone, and durations."""
        loss = bits_loss + self.hparams.alignment_weight * alignment_loss
        return loss + self.hparams.duration_weight * duration_loss

    def stage_stats(self, stage: Stage, group: str = "") -> dict[str, float]:
        """Averages, and their total loss."""
        stats = super().stage_stats(stage, group)
        parts = [f"{name}_loss" for name in ("bits", "alignment", "duration")]
        if parts[0] in stats:
            stats["loss"] = self.total_loss(*(stats[name] for name in parts))
        return stats

    def prompt(self, batch: TokenBatch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Toks (B, P) of another clip of each speaker in the same set, and their frames (B,)."""
        name = {Stage.TRAIN: "train", Stage.VALID: "valid"}.get(stage, self.set_folder.name)
        training = stage == Stage.TRAIN
        found = [self.prompts[name].toks(row, training) for row in batch.rows]
        frames = torch.tensor([len(toks) for toks in found], device=self.device)
        return pad_sequence(found, batch_first=True).to(self.device), frames
