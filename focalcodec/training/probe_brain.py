"""What the Brains of all probes share: what is heard, and figures clip by clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
import torch.distributed as dist
from torch import Tensor

from focalcodec.metrics.judge import Column
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.brain import CodecBrain
from focalcodec.training.distributed import global_sum, process_count

Rows = Sequence[Mapping[str, Any]]


class ProbeBrain(CodecBrain):
    """A small network on a frozen codec's tokens, or on its features.

    Subclasses say what the answers are (`answers`) and how good they are (`compute_forward`,
    `compute_objectives`).

    Parameters
    ----------
    codec : ProbeCodec
        Whose tokens are heard.
    **kwargs
        As `CodecBrain`; `encoder` is `codec.frozen_part(inputs)`.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"probe": ("inputs", "probe")}
    read_keys: ClassVar[frozenset[str]] = frozenset(
        """
        seeds name task codec inputs source token_folder dim dropout probe bootstrap_samples lr
        weight_decay language
        """.split()
    )
    columns: ClassVar[tuple[Column, ...]] = ()
    """Figures of each clip, as cards show them."""

    def __init__(self, codec: ProbeCodec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codec = codec
        self.clips: dict[str, dict[str, Any]] = {}
        self.set_folder = Path()

    @classmethod
    def answers(
        cls, hparams: Mapping[str, Any], sets: Mapping[str, Rows], codec: ProbeCodec, folder: Path
    ) -> tuple[dict[str, int], dict[str, Any]]:
        """Sizes of the probe that depend on data and codec, and further arguments of the Brain.

        Parameters
        ----------
        hparams : mapping
            The run's configuration.
        sets : mapping of str to manifest rows
            Of the run.
        codec : ProbeCodec
            Whose tokens are heard.
        folder : Path
            The run's, where what answers mean is kept.
        """
        raise NotImplementedError

    @staticmethod
    def usable(row: Mapping[str, Any]) -> bool:
        """Whether a clip has an answer."""
        return True

    def start_set(self, folder: Path, rows: Rows) -> None:
        """Be told of the test set that is next, and of the folder for what is made of it."""
        self.set_folder = folder

    def end_set(self, rows: Rows) -> None:
        """Write, on one process, what else is left of a test set."""

    def judges(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Judges that heard the clips, as `describe_judge` says, and a line for each missing."""
        return [], []

    def heard(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """What the probe hears (B, N, dim), and its frames (B,)."""
        kind = self.hparams.inputs
        if kind == "toks":
            return self.modules.inputs(batch.toks, batch.lengths)
        if kind == "qfeats":
            with torch.no_grad(), torch.autocast(self.device_type, enabled=False):
                codes = self.encoder.toks_to_codes(batch.toks, batch.lengths)
                feats, frames = self.encoder.decompressor(codes, batch.lengths)
        else:
            feats, frames = self.features(batch.audio)
        return self.modules.inputs(feats.float(), frames)

    def add_scores(
        self,
        batch: TokenBatch,
        stage: sb.Stage,
        name: str,
        scores: Sequence[tuple[float, float] | None],
    ) -> None:
        """Count a figure of each clip, (value, weight) or None; in a test also keep it."""
        known = [score for score in scores if score is not None]
        sums = [sum(v * w for v, w in known), sum(w for _, w in known)]
        # float64 is not to be had on every device.
        total, count = global_sum(torch.tensor(sums, device=self.device)).tolist()
        self.meters.add(name, total, count)
        if stage == sb.Stage.TEST:
            for clip, score in zip(batch.id, scores, strict=True):
                if score is not None:
                    self.clip(clip)["scores"][name] = list(score)

    def clip(self, name: str) -> dict[str, Any]:
        """What is kept of a clip of the test set, as a card has it."""
        return self.clips.setdefault(name, {"id": name, "scores": {}})

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the clips of the last test set."""
        super().on_stage_start(stage, epoch)
        self.clips = {}

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None) -> None:
        """Gather the clips that other processes tested."""
        if stage == sb.Stage.TEST and process_count() > 1:
            shares: list[Any] = [None] * process_count()
            dist.all_gather_object(shares, self.clips)
            self.clips = {name: clip for share in shares for name, clip in share.items()}
        self.clips = dict(sorted(self.clips.items()))
        super().on_stage_end(stage, stage_loss, epoch)
