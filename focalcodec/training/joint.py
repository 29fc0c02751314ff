"""Start of a joint training: encoder, compressor, quantizer and decompressor together.

The encoder is the `student` of the run, and the run's `encoder` is its teacher, which gives the
targets. Forward pass and losses are in the recipes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder, is_described
from focalcodec.training.run.start import Start
from focalcodec.training.run.trained import load_trained, refuse_other_encoder
from focalcodec.training.stages import Stage1Brain


class JointStart(Stage1Brain):
    """The part of a Brain that takes the first weights from other runs.

    `quantizer_source` is a run of stage 1 or a codec, whose encoder is the student's first state. A
    decompressor that had no refiner there gets one with random weights. `distilled` is a run or a
    codec with the student's first weights alone. Without them all weights are random.
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

    Raises a `UserError` with this name if the parts have other arguments.
    """
    old, new = dict(theirs.config), dict(ours.config)
    refiner = {"lookahead_size", "refiner_dim"} if old.get("lookahead_size") == 0 else set()
    for key in sorted((old.keys() | new.keys()) - refiner):
        if old.get(key) != new.get(key):
            raise UserError(
                f"{name}: {key} is {old.get(key)}, here {new.get(key)}; make them equal"
            )
    ours.load_state_dict(theirs.state_dict(), strict=not refiner)
