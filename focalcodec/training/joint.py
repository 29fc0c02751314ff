"""Start of a joint training: encoder, compressor, quantizer and decompressor together.

The encoder is the `student` of the run, and the run's `encoder` is its teacher, which gives the
targets. Forward pass and losses are in the recipes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder, is_described
from focalcodec.nn.convnext import ChunkMix
from focalcodec.nn.layers import MaskedConv1d
from focalcodec.training.run.start import Start
from focalcodec.training.run.trained import load_trained, refuse_other_encoder
from focalcodec.training.stages import Stage1Brain


class JointStart(Stage1Brain):
    """The part of a Brain that takes the first weights from other runs.

    `quantizer_source` is a run of stage 1 or a codec, whose encoder is the student's first state. A
    decompressor that had no refiner there gets one with random weights, and causal parts take what
    they can of parts that are not causal. `distilled` is a run or a codec with the student's first
    weights alone. Without them all weights are random.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {
        "quantizer": ("student", "compressor", "quantizer", "decompressor")
    }
    needs_sig: ClassVar[bool] = True

    def start_from(self, start: Start) -> None:
        """Also load the parts of `quantizer_source` or `distilled`."""
        super().start_from(start)
        source = self.hparams.quantizer_source
        student = getattr(self.hparams, "distilled", None)
        if source is not None and student is not None:
            raise UserError("quantizer_source, distilled: give one of them, the other one is null")
        if start.trained is not None:
            return
        if source is not None:
            self._take(f"quantizer_source={source}", source, only_student=False)
        if student is not None:
            self._take(f"distilled={student}", student, only_student=True)

    def _take(self, label: str, name: str, only_student: bool) -> None:
        source = load_trained(name, getattr(self.hparams, "__trust__", ()))
        student = source.encoder_for()
        if student.teacher is not None and not is_described(self.encoder, student.teacher):
            refuse_other_encoder(label, student.teacher, describe_encoder(self.encoder))
        for role in ("student",) if only_student else self.trained["quantizer"]:
            theirs = student if role == "student" else source.part(role)
            take_weights(f"{label}: {role}", theirs, self.modules[role])


def take_weights(name: str, theirs: Any, ours: Any) -> None:
    """Copy the weights of a part; a refiner that the other part lacks stays as it is.

    Raises a `UserError` with this name if the parts have other arguments. A causal part may begin
    with one that is not causal: see `take_past`.
    """
    old, new = dict(theirs.config), dict(ours.config)
    free = {"lookahead_size", "refiner_dim"} if old.get("lookahead_size") == 0 else set()
    becomes_causal = bool(new.get("causal")) and not old.get("causal")
    if becomes_causal:
        free |= {"causal", "window_size", "last_window_size", "lookahead_size", "refiner_dim"}
    for key in sorted((old.keys() | new.keys()) - free):
        if old.get(key) != new.get(key):
            raise UserError(
                f"{name}: {key} is {old.get(key)}, here {new.get(key)}; make them equal"
            )
    if becomes_causal:
        take_past(theirs, ours)
    else:
        ours.load_state_dict(theirs.state_dict(), strict=not free)


@torch.no_grad()
def take_past(theirs: nn.Module, ours: nn.Module) -> None:
    """First weights of a causal part, from the same part that is not causal.

    A convolution takes the taps of the frame and those before it. The taps after it become the
    first weights of the sums over a chunk, whose later frames a stream has. All other tensors of
    both parts are copied, and those of `ours` alone stay as they are.

    Example
    -------
    >>> from focalcodec.nn.convnext import ConvNeXtBlock
    >>> theirs, ours = ConvNeXtBlock(4, 8), ConvNeXtBlock(4, 8, causal=True, chunk_size=4)
    >>> take_past(theirs, ours)
    >>> x = torch.randn(1, 8, 4)  # two chunks; a stream begins in another way than a signal
    >>> y = ours.dwconv(x) + ours.chunk_mix(x)
    >>> torch.allclose(theirs.dwconv(x)[:, 4:], y[:, 4:], atol=1e-6)
    True
    """
    ours.load_state_dict({**ours.state_dict(), **theirs.state_dict()}, strict=False)
    before = dict(theirs.named_modules())
    for name, module in ours.named_modules():
        conv = before.get(name.replace("chunk_mix", "dwconv"))
        if not isinstance(conv, MaskedConv1d):
            continue
        if isinstance(module, MaskedConv1d):
            module.weight.zero_()
            module.weight[..., conv.right :] = conv.weight[..., : conv.left + 1]
        if isinstance(module, ChunkMix):
            for later in range(1, min(conv.right, len(module.weight) - 1) + 1):
                tap = conv.weight[:, 0, conv.left + later]  # (dim,)
                module.weight.diagonal(-later).copy_(tap[:, None])
