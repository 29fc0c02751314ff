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
    """The part of a Brain that takes the first weights from `quantizer_source`.

    `quantizer_source` is a run of stage 1 or a codec, whose encoder is the student's first state;
    None is random weights. A decompressor that had no refiner there gets one with random weights.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {
        "quantizer": ("student", "compressor", "quantizer", "decompressor")
    }
    needs_sig: ClassVar[bool] = True

    def start_from(self, start: Start) -> None:
        """Also load the parts of `quantizer_source`."""
        super().start_from(start)
        name = self.hparams.quantizer_source
        if start.trained is not None or name is None:
            return
        source = load_trained(name, getattr(self.hparams, "__trust__", ()))
        student = source.encoder_for()
        if student.teacher is not None and not is_described(self.encoder, student.teacher):
            present = describe_encoder(self.encoder)
            refuse_other_encoder(f"quantizer_source={name}", student.teacher, present)
        for role in self.trained["quantizer"]:
            theirs = student if role == "student" else source.part(role)
            take_weights(f"quantizer_source={name}: {role}", theirs, self.modules[role])


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
