"""Forward pass and loss of the training on emotional speech: a probe of a codec's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from speechbrain import Stage
from torch import Tensor, nn

from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.tokenize.store import TokenStore
from focalcodec.training.probe_brain import ERROR_RATE, ProbeBrain, TokenLoaders
from focalcodec.training.run.loaders import Rows


class EmotionBrain(ProbeBrain):
    """Probe: the emotion, by a BiLSTM and statistics pooling (arXiv 2502.04465, appendix).

    loss = cross entropy in nats; figure: share of wrong emotions.
    """

    columns = (ERROR_RATE,)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """One class for each emotion of the training set."""
        self.labels = self.find_labels(hparams, sets)
        return self.probe_modules(hparams, num_classes=len(self.labels))

    def compute_forward(self, batch: TokenBatch, stage: Stage) -> Tensor:
        """Logits (B, classes)."""
        return self.modules.probe(*self.inputs(batch))

    def compute_objectives(self, logits: Tensor, batch: TokenBatch, stage: Stage) -> Tensor:
        """Cross entropy, and the share of wrong predictions."""
        numbers = [self.labels.number(row) for row in batch.rows]
        targets = torch.tensor(numbers, device=logits.device)  # (B,)
        losses = F.cross_entropy(logits.float(), targets, reduction="none")  # (B,)
        predicted = logits.argmax(dim=1).tolist()
        wrong = [100.0 * (a != b) for a, b in zip(predicted, numbers, strict=True)]
        self.add_scores(batch, stage, "error_rate", [(value, 1.0) for value in wrong])
        self.add_predictions(batch, stage, [self.labels.names[number] for number in predicted])
        return self.mean("loss", losses)


class WholeCorpusLoaders(TokenLoaders):
    """Loaders that compute the tokens of all sets at once, so that all splits share them."""

    def _tokens(self, rows: Rows, column: str) -> TokenStore:
        every = [row for name in self.sets for row in self.sets[name]]
        return super()._tokens(sorted(every, key=lambda row: row["ID"]), column)
