"""Distillation: a small encoder learns the feats of a large, frozen one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.hub.locations import named_folder
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.training.brain import LOSS_KEY, CodecBrain
from focalcodec.training.feature_picture import feature_figure
from focalcodec.training.trained_run import CONFIG_NAME, load_run, read_encoder


@dataclass(frozen=True)
class DistillOutput:
    """The feats of both, cut to the frames that both have."""

    feats: Tensor
    """(B, N, D) the small encoder's."""
    targets: Tensor
    """(B, N, D) the large one's."""
    frames: Tensor
    """(B,) int64."""


class DistillBrain(CodecBrain):
    """Squared error between the feats of a small encoder and those of the large one.

    Where a clip has a mixture (the column `noisy` of its manifest, or a mixer), the small encoder
    hears that and the large one the clip itself: it learns to hear through noise and rooms.
    The run's modules have one, `student`; `load_student` gives it to the trainings that follow.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"student": ("student",)}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        student = self.modules.student
        for name in ("sample_rate", "hop", "dim"):
            ours, theirs = getattr(student, name), getattr(self.encoder, name)
            if ours != theirs:
                raise UserError(
                    f"student: {name} {ours}, the encoder's is {theirs}; make them equal"
                )

    def compute_forward(self, batch: Any, stage: sb.Stage) -> DistillOutput:
        """Both encoders."""
        targets, frames = self.features(batch)
        heard = batch if batch.mixture is None else batch.mixture
        feats, ours = self.modules.student(heard.sig, heard.lengths)
        length = min(feats.shape[1], targets.shape[1])
        return DistillOutput(feats[:, :length], targets[:, :length], torch.minimum(frames, ours))

    def compute_objectives(self, outputs: DistillOutput, batch: Any, stage: sb.Stage) -> Tensor:
        """Mean squared error over valid frames."""
        mask = valid_mask(outputs.frames, outputs.targets.shape[1])
        errors = (outputs.feats.float() - outputs.targets.float()).square().mean(dim=-1)
        return self.mean_of(LOSS_KEY, zero_padding(errors, mask), mask.float())

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """The feats of both, side by side."""
        self.modules.eval()
        for batch in self.monitor.sample_batches:
            outputs = self.compute_forward(batch.to(self.device), sb.Stage.VALID)
            rate = self.encoder.sample_rate / self.encoder.hop
            name = batch.id[0]
            figure = feature_figure(outputs.targets[0].cpu(), outputs.feats[0].cpu(), rate, name)
            self.monitor.write_picture(f"{name}_feats", figure, epoch)


def load_student(source: str | Path) -> Any:
    """The small encoder of a distillation's run, or the encoder of a codec.

    Parameters
    ----------
    source : str or path
        Folder of a run of `DistillBrain`, codec folder, hub repository, or `demo`.

    Returns
    -------
    nn.Module
        In eval mode.

    Raises
    ------
    UserError
        None of these, or a run that trained no student.
    """
    folder = named_folder(source)
    if not (folder / CONFIG_NAME).is_file():
        return FocalCodec.from_pretrained(source).encoder
    modules = load_run(folder)["modules"]
    if "student" not in modules:
        raise UserError(
            f"{source}: a run that trained {', '.join(modules)}; give one of distill_encoder.yaml"
        )
    student = modules["student"].eval()
    student.teacher = read_encoder(folder)
    return student
