"""Forward pass and losses of the causal chain, hparams/streaming/ (arXiv 2509.16195).

The teacher is WavLM, which has a whole clip as input. The student is a causal encoder that learns
to predict the teacher's output, then is trained together with the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from brains import QuantizerBrain
from speechbrain import Stage
from torch import Tensor, nn

from focalcodec.data.dataset import AudioBatch
from focalcodec.errors import UserError
from focalcodec.training.brain import CodecBrain
from focalcodec.training.figures import LOSS_KEY
from focalcodec.training.joint import JointStart
from focalcodec.training.losses import squared_error
from focalcodec.training.pictures import feature_figure
from focalcodec.training.run.start import Start
from focalcodec.training.stages import Stage1Output
from focalcodec.wavlm import WavLM


@dataclass(frozen=True)
class StudentOutput:
    """Outputs of layers of both encoders, cut to the frames that both have."""

    outputs: list[Tensor]
    """(B, N, D) of each layer, the student's."""
    targets: list[Tensor]
    """(B, N, D) of each layer, the teacher's."""
    frames: Tensor
    """(B,) int64, valid frames of both."""


class EncoderBrain(CodecBrain):
    """The causal encoder: each of its layers predicts the output of the teacher's layer.

    loss = mean over the layers of weight * MSE(student's output, teacher's output), over the valid
    frames of the global batch. The student has as many frames as the teacher or one more, which has
    no target. Position biases are computed in each step from the table of that moment.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"student": ("student",)}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.cache is not None:
            raise UserError(
                "feature_cache: it keeps the last layer only, and here inner layers are needed; set"
                " it to null"
            )
        if not isinstance(self.encoder, WavLM) or not isinstance(self.modules.student, WavLM):
            raise UserError("encoder, student: give a WavLM as each of them")

    def start_from(self, start: Start) -> None:
        """Without `init_from` the student begins with the teacher's weights."""
        super().start_from(start)
        student = self.modules.student
        for key, value in self.encoder.config.items():
            if student.config[key] != value:
                raise UserError(
                    f"student: {key} is {student.config[key]}, the encoder's is {value}; make them"
                    " equal"
                )
        if start.trained is None:
            student.load_state_dict(self.encoder.state_dict())

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> StudentOutput:
        """Clips through both encoders."""
        with calls_of(self.encoder.encoder.layers) as theirs:
            _, frames = self.encode(batch)  # (B,)
        student = self.modules.student
        with calls_of(student.encoder.layers) as ours:
            # `run` is not compiled: a compiled module does not report the calls of its layers.
            _, own_frames = student.run(batch.sig, batch.lengths)  # (B,)
        length = min(theirs[0][1].shape[1], ours[0][1].shape[1])
        outputs, targets = ([y[:, :length] for _, y in calls] for calls in (ours, theirs))
        return StudentOutput(outputs, targets, torch.minimum(frames, own_frames))

    def compute_objectives(self, out: StudentOutput, batch: AudioBatch, stage: Stage) -> Tensor:
        """Weighted squared errors; the last layer's alone is reported as `feature_loss`."""
        weights = self.hparams.layer_weights
        if len(weights) != len(out.outputs):
            raise UserError(f"layer_weights={weights}: give one for each of {len(out.outputs)}")
        errors = [squared_error(*pair) for pair in zip(out.outputs, out.targets, strict=True)]
        weighted = [weight * error for weight, error in zip(weights, errors, strict=True)]
        self.frame_mean("feature_loss", errors[-1].detach(), out.frames)
        return self.frame_mean(LOSS_KEY, torch.stack(weighted).mean(dim=0), out.frames)

    @torch.no_grad()
    def write_samples(self, epoch: int | None) -> None:
        """Pictures of the last layer of the teacher and of the student."""
        self.modules.eval()
        rate = self.encoder.sample_rate / self.encoder.hop
        for batch in self.monitor.sample_batches:
            out = self.compute_forward(batch.to(self.device), Stage.VALID)
            name, shown = batch.id[0], (out.targets[-1][0].cpu(), out.outputs[-1][0].cpu())
            self.monitor.write_picture(f"{name}_feats", feature_figure(*shown, rate, name), epoch)


class PositionBrain(EncoderBrain):
    """The causal encoder's positional convolution, before its layers are trained.

    The teacher's convolution has 64 frames on each side, the student's has 127 past ones. Both get
    the teacher's input. loss = MSE of their outputs, over the valid frames of the global batch.
    """

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> StudentOutput:
        """The input of the teacher's convolution through both convolutions."""
        with calls_of([self.encoder.encoder.positional_embedding]) as calls:
            _, frames = self.encode(batch)  # (B,)
        ((x, target),) = calls  # (B, N, D) both; x is zero on padded frames
        output, _ = self.modules.student.encoder.positional_embedding(x)  # (B, N, D)
        return StudentOutput([output], [target], frames)


class JointBrain(JointStart, QuantizerBrain):
    """Student, compressor, quantizer and decompressor together; the target is the teacher's output.

    The loss is that of `QuantizerBrain`. First weights are those of `quantizer_source`.
    """

    def compute_forward(self, batch: AudioBatch, stage: Stage) -> Stage1Output:
        """Clips through the teacher, and through student, compressor, quantizer, decompressor."""
        batch = self.perturb_speed(batch, stage)
        targets, target_frames = self.encode(batch)  # (B, N, D), (B,); the teacher, or the cache
        feats, frames = self.modules.student(batch.sig, lengths=batch.lengths)  # (B, M, D), (B,)
        inputs = self.mask_frames(feats, frames, batch, stage)
        lats, lat_frames = self.modules.compressor(inputs, lengths=frames)  # (B, M, L), (B,)
        lats = self.merge_frames(lats, lat_frames, batch, stage)
        toks, codes = self.modules.quantizer(lats, lengths=lat_frames)  # (B, M), (B, M, L)
        qfeats, _ = self.modules.decompressor(codes, lengths=lat_frames)  # (B, >= M, D)
        # The student may have one frame more than the teacher, which has no target.
        length = min(feats.shape[1], targets.shape[1])
        feats, targets, qfeats = (x[:, :length] for x in (feats, targets, qfeats))
        frames = torch.minimum(frames, target_frames)
        return Stage1Output(feats, frames, targets, lats, lat_frames, toks, qfeats)


@contextmanager
def calls_of(layers: Iterable[Any]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """List that gets input and output, (B, N, D) both, of each layer that is called inside."""
    calls: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        calls.append((inputs[0], outputs[0]))

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def random_wavlm(seed: int = 0, **arguments: Any) -> WavLM:
    """A WavLM with the same random weights in each run: the teacher of the minis."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = WavLM(**arguments)
        for name, parameter in encoder.named_parameters():
            if name.endswith("bias"):  # with zeros the norms of digital silence have huge gradients
                nn.init.normal_(parameter, std=0.1)
    return encoder.eval()
