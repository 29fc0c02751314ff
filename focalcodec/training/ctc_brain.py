"""Sequence probe: what was said, by CTC over pieces of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.metrics.judge import Column
from focalcodec.metrics.transcripts import character_errors, word_errors
from focalcodec.probes.targets import BLANK, Pieces, decode_greedily, learn_pieces
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.brain import LOSS_KEY
from focalcodec.training.ctc_beam import decode_with_beam
from focalcodec.training.probe_brain import ProbeBrain, Rows
from focalcodec.training.probe_files import keep_file

PIECES_NAME = "pieces.model"
_ERRORS = {"wer": word_errors, "cer": character_errors}


class CTCBrain(ProbeBrain):
    """CTC loss, WER and CER (arXiv 2502.04465, appendix: speech recognition).

    Texts are compared through the normaliser of the judges (`focalcodec.metrics.transcripts`).

    Parameters
    ----------
    pieces : Pieces
        Of the training texts.
    **kwargs
        As `ProbeBrain`.
    """

    read_keys: ClassVar[frozenset[str]] = ProbeBrain.read_keys | frozenset(
        {"vocab_size", "text_model", "character_coverage", "beam_size"}
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("wer", "WER", "%", "lower"),
        Column("cer", "CER", "%", "lower"),
    )

    def __init__(self, pieces: Pieces, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pieces = pieces

    @classmethod
    def answers(
        cls, hparams: Mapping[str, Any], sets: Mapping[str, Rows], codec: ProbeCodec, folder: Path
    ) -> tuple[dict[str, int], dict[str, Any]]:
        """Pieces of the training texts, which are kept in the run's folder."""
        model = learn_pieces(
            (row["wrd"] for row in sets["train"]),
            hparams["vocab_size"],
            hparams["text_model"],
            hparams["character_coverage"],
        )
        keep_file(folder, PIECES_NAME, model)
        word_errors("", "")  # tells now if what it needs is not installed
        pieces = Pieces(model)
        return {"vocab_size": len(pieces)}, {"pieces": pieces}

    @staticmethod
    def usable(row: Mapping[str, Any]) -> bool:
        """Whether a clip has a text."""
        return bool(row["wrd"].strip())

    def compute_forward(self, batch: TokenBatch, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, N, symbols), and frames (B,)."""
        return self.modules.probe(*self.heard(batch))

    def compute_objectives(
        self, outputs: tuple[Tensor, Tensor], batch: TokenBatch, stage: sb.Stage
    ) -> Tensor:
        """CTC loss in nats a symbol, mean over clips; outside training also WER and CER."""
        log_probs, frames = outputs
        symbols = [self.pieces.to_symbols(row["wrd"]) for row in batch.rows]
        losses = ctc_losses(log_probs, frames, symbols)
        # A text that is longer than its clip has frames can't be aligned, and has no gradient.
        room = zip(symbols, frames.tolist(), strict=True)
        fits = [frames_needed(text) <= count for text, count in room]
        if stage != sb.Stage.TRAIN:
            self._score(batch, stage, log_probs, frames)
        return self.mean_of(LOSS_KEY, losses, torch.tensor(fits).to(losses))

    def _score(self, batch: TokenBatch, stage: sb.Stage, log_probs: Tensor, frames: Tensor) -> None:
        told = self._decode(log_probs, frames, stage)
        for name, count in _ERRORS.items():
            scores: list[tuple[float, float] | None] = []
            for row, text in zip(batch.rows, told, strict=True):
                language = row.get("language") or self.hparams.language
                edits, units = count(row["wrd"], text, language)
                scores.append((100.0 * edits / units, float(units)) if units else None)
            self.add_scores(batch, stage, name, scores)
        if stage == sb.Stage.TEST:
            for clip, text in zip(batch.id, told, strict=True):
                self.clip(clip)["prediction"] = text

    def _decode(self, log_probs: Tensor, frames: Tensor, stage: sb.Stage) -> list[str]:
        # While the probe learns, a beam takes long and says no more than the best path.
        if self.hparams.beam_size > 1 and stage == sb.Stage.TEST:
            return decode_with_beam(log_probs, frames, self.pieces.names, self.hparams.beam_size)
        return [self.pieces.to_text(x) for x in decode_greedily(log_probs, frames, BLANK)]


def ctc_losses(log_probs: Tensor, frames: Tensor, symbols: Sequence[Sequence[int]]) -> Tensor:
    """CTC loss of each clip, divided by its symbols.

    Source: Graves et al., "Connectionist temporal classification" (2006).

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V), blank first.
    frames : Tensor
        (B,) int64.
    symbols : sequence of sequence of int
        Of each clip.

    Returns
    -------
    Tensor
        (B,) nats a symbol; 0, without a gradient, where a text needs more frames than there are.

    Example
    -------
    >>> log_probs = torch.zeros(1, 2, 4).log_softmax(dim=2)
    >>> ctc_losses(log_probs, torch.tensor([2]), [[3]])  # three of the 16 paths say 3
    tensor([1.6740])
    """
    device = log_probs.device
    counts = torch.tensor([len(text) for text in symbols], device=device)
    flat = torch.tensor([s for text in symbols for s in text], dtype=torch.int64, device=device)
    losses = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        flat,
        frames,
        counts,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return losses / counts.clamp(min=1)


def frames_needed(symbols: Sequence[int]) -> int:
    """Frames that CTC needs for a text: one a symbol, and a blank between two that are alike.

    Example
    -------
    >>> frames_needed([3, 3, 5])
    4
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))
