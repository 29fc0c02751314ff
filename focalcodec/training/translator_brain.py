"""Token-to-token probe: clean speech out of noisy, or each speaker out of a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.audio import resample, write_audio
from focalcodec.data.clips import read_clip
from focalcodec.data.manifest import DATA_ROOT, write_csv
from focalcodec.errors import UserError
from focalcodec.evaluation.run import SAMPLE_RATE, describe_judge, load_panel_judges
from focalcodec.files import safe_file_name
from focalcodec.metrics.judge import Column, Judge, JudgedClip
from focalcodec.metrics.panels import panel
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.probes.translator import permuted_cross_entropy
from focalcodec.training.brain import LOSS_KEY
from focalcodec.training.probe_brain import ProbeBrain, Rows


class TranslatorBrain(ProbeBrain):
    """Cross entropy of the targets' tokens, under the best order where there are several.

    In a test the tokens that were told are decoded, left beside the recordings that were wanted,
    and judged (arXiv 2502.04465, appendix: enhancement, separation).
    """

    read_keys: ClassVar[frozenset[str]] = ProbeBrain.read_keys | frozenset(
        {"targets", "panel", "judge_clips"}
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("token_error_rate", "Token error rate", "%", "lower"),
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.panel: list[Judge] | None = None
        self.missing: list[str] = []
        self.heard_clips: set[str] = set()

    @classmethod
    def answers(
        cls, hparams: Mapping[str, Any], sets: Mapping[str, Rows], codec: ProbeCodec, folder: Path
    ) -> tuple[dict[str, int], dict[str, Any]]:
        """The codec's tokens, for each target."""
        if not 1 <= len(hparams["targets"]) <= 3:
            raise UserError(f"targets={list(hparams['targets'])}: give the names of 1 to 3 columns")
        if hparams["panel"] != "none":
            panel(hparams["panel"])
        sizes = {"codebook_size": codec.codebook_size, "streams": codec.streams}
        return {**sizes, "targets": len(hparams["targets"])}, {}

    def start_set(self, folder: Path, rows: Rows) -> None:
        """Choose the clips that are decoded and judged."""
        super().start_set(folder, rows)
        names = sorted(row["ID"] for row in rows)
        self.heard_clips = set(names[: self.hparams.judge_clips])
        if self.panel is None:
            self.panel, self.missing = load_panel_judges(self.hparams.panel, str(self.device))

    def judges(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Those of the panel."""
        return [describe_judge(judge) for judge in self.panel or []], self.missing

    def end_set(self, rows: Rows) -> None:
        """Write `manifest.csv`: what was wanted beside what was made of it."""
        columns = ["ID", "duration", "wav", "estimate", "spk_id", "wrd"]
        made = []
        for row in rows:
            if row["ID"] not in self.heard_clips & self.clips.keys():
                continue
            for column in self.hparams.targets:
                file = self._file(row, column)
                places = {"wav": "reference", "estimate": "estimate"}
                paths = {k: f"{DATA_ROOT}/{part}/{file}.flac" for k, part in places.items()}
                about = {"spk_id": row["spk_id"], "wrd": "" if self._several else row["wrd"]}
                made.append({"ID": file, "duration": row["duration"], **paths, **about})
        write_csv(self.set_folder / "manifest.csv", columns, made)

    def compute_forward(self, batch: TokenBatch, stage: sb.Stage) -> Tensor:
        """Logits (B, N, targets, streams, tokens)."""
        logits, frames = self.modules.probe(*self.heard(batch))
        if not torch.equal(frames, batch.lengths):
            raise UserError(
                f"inputs={self.hparams.inputs}: {frames.tolist()} frames are heard, and"
                f" {batch.lengths.tolist()} tokens to be told; use inputs=toks"
            )
        return logits

    def compute_objectives(self, outputs: Tensor, batch: TokenBatch, stage: sb.Stage) -> Tensor:
        """Loss in nats a token; the share of wrong tokens."""
        assert batch.targets is not None
        losses, order = permuted_cross_entropy(outputs, batch.targets, batch.lengths)
        told = outputs.argmax(dim=-1)
        wanted = batch.targets.gather(2, order[:, None, :, None].expand_as(batch.targets))
        wrong = zero_padding(told != wanted, valid_mask(batch.lengths, told.shape[1]))
        counts = batch.lengths * told[0, 0].numel()
        rates = 100.0 * wrong.flatten(1).sum(dim=1) / counts
        scores = list(zip(rates.tolist(), counts.tolist(), strict=True))
        self.add_scores(batch, stage, "token_error_rate", scores)
        if stage == sb.Stage.TEST:
            self._decode(batch, in_order_of_targets(told, order))
        return self.mean_of(LOSS_KEY, losses, batch.lengths.float())

    # -- what it sounds like ---------------------------------------------------------------------

    def _decode(self, batch: TokenBatch, toks: Tensor) -> None:
        """Decode, write and judge (B, N, targets, streams)."""
        for index, name in enumerate(batch.id):
            if name not in self.heard_clips:
                continue
            row, end = batch.rows[index], int(batch.lengths[index])
            clips = []
            for target, column in enumerate(self.hparams.targets):
                wanted = _read(row, column)
                streams = toks[index, :end, target]
                rec_sig = self.codec.decode(streams[:, 0] if self.codec.streams == 1 else streams)
                rate = self.codec.coder.sample_rate_output
                rec_sig = resample(rec_sig[None], rate, SAMPLE_RATE)[0][0]
                clips.append(self._clip(row, column, wanted, rec_sig))
            self._judge(name, clips)

    def _clip(
        self, row: Mapping[str, Any], column: str, wanted: Tensor, rec_sig: Tensor
    ) -> JudgedClip:
        file = self._file(row, column)
        rec_sig = torch.nn.functional.pad(rec_sig, (0, max(0, len(wanted) - len(rec_sig))))
        rec_sig = rec_sig[: len(wanted)].clamp(-1.0, 1.0)
        for part, sig in (("reference", wanted), ("estimate", rec_sig)):
            write_audio(self.set_folder / part / f"{file}.flac", sig, SAMPLE_RATE)
        language = row.get("language") or self.hparams.language
        # A speaker of a mixture has no text of their own in its manifest.
        text = "" if self._several else row["wrd"]
        return JudgedClip(file, wanted, rec_sig, SAMPLE_RATE, text, language)

    @property
    def _several(self) -> bool:
        return len(self.hparams.targets) > 1

    def _file(self, row: Mapping[str, Any], column: str) -> str:
        return safe_file_name(row["ID"] + (f"_{column}" if self._several else ""))

    def _judge(self, name: str, clips: Sequence[JudgedClip]) -> None:
        """Keep each figure of a clip: of several targets, their mean by weight."""
        kept = self.clip(name)
        for judge in self.panel or []:
            verdicts = judge.score(clips)
            for key in dict.fromkeys(key for verdict in verdicts for key in verdict.scores):
                scores = [v.scores[key] for v in verdicts if key in v.scores]
                weight = sum(score.weight for score in scores)
                if weight:
                    value = sum(score.value * score.weight for score in scores) / weight
                    kept["scores"][key] = [float(value), float(weight)]
            texts = [verdict.transcript for verdict in verdicts if verdict.transcript]
            if texts:
                kept.setdefault("transcripts", {})[judge.name] = " | ".join(texts)


def _read(row: Mapping[str, Any], column: str) -> Tensor:
    span = (row["start"], row["stop"]) if "start" in row else None
    return read_clip(row[column], SAMPLE_RATE, span, row.get("channels") or "mix")


def in_order_of_targets(told: Tensor, order: Tensor) -> Tensor:
    """What the heads told, each in the place of the target that it was paired with.

    Parameters
    ----------
    told : Tensor
        (B, N, S, Q), of head s.
    order : Tensor
        (B, S) of `permuted_cross_entropy`: head s says target `order[:, s]`.

    Returns
    -------
    Tensor
        (B, N, S, Q), of target s.

    Example
    -------
    >>> told = torch.tensor([[[[7], [8], [9]]]])
    >>> in_order_of_targets(told, torch.tensor([[2, 0, 1]])).flatten()
    tensor([8, 9, 7])
    """
    heads = order.argsort(dim=1)
    return told.gather(2, heads[:, None, :, None].expand_as(told))
