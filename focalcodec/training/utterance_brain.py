"""Utterance probe: who speaks, or in which mood, told of a whole clip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.metrics.judge import Column
from focalcodec.probes.targets import Labels
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.brain import LOSS_KEY
from focalcodec.training.probe_brain import ProbeBrain, Rows
from focalcodec.training.probe_files import keep_file

LABELS_NAME = "labels.json"


class UtteranceBrain(ProbeBrain):
    """Cross entropy of one answer a clip (arXiv 2502.04465, appendix: speaker, emotion).

    Parameters
    ----------
    labels : Labels
        Answers of the training set.
    **kwargs
        As `ProbeBrain`.
    """

    read_keys: ClassVar[frozenset[str]] = ProbeBrain.read_keys | {"label"}
    columns: ClassVar[tuple[Column, ...]] = (Column("error_rate", "Error rate", "%", "lower"),)

    def __init__(self, labels: Labels, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels

    @classmethod
    def answers(
        cls, hparams: Mapping[str, Any], sets: Mapping[str, Rows], codec: ProbeCodec, folder: Path
    ) -> tuple[dict[str, int], dict[str, Any]]:
        """Labels of the training set, which all sets must keep to."""
        labels = Labels.of(sets["train"], hparams["label"])
        for name, rows in sets.items():
            labels.check(name, rows)
        about = {"column": labels.column, "names": labels.names}
        keep_file(folder, LABELS_NAME, json.dumps(about, indent=1).encode() + b"\n")
        return {"num_classes": len(labels)}, {"labels": labels}

    def compute_forward(self, batch: TokenBatch, stage: sb.Stage) -> Tensor:
        """Logits (B, classes)."""
        return self.modules.probe(*self.heard(batch))

    def compute_objectives(self, outputs: Tensor, batch: TokenBatch, stage: sb.Stage) -> Tensor:
        """Cross entropy in nats; the share of wrong answers."""
        numbers = [self.labels.number(row) for row in batch.rows]
        wanted = torch.tensor(numbers, device=outputs.device)
        losses = F.cross_entropy(outputs.float(), wanted, reduction="none")
        told = outputs.argmax(dim=1).tolist()
        wrong = [100.0 * (a != b) for a, b in zip(told, numbers, strict=True)]
        self.add_scores(batch, stage, "error_rate", [(value, 1.0) for value in wrong])
        if stage == sb.Stage.TEST:
            for clip, answer in zip(batch.id, told, strict=True):
                self.clip(clip)["prediction"] = self.labels.names[answer]
        return self.mean_of(LOSS_KEY, losses)
