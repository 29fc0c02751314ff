"""Frozen speech encoders (waveform to feats), and their common interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Encoder(Protocol):
    """Interface of an encoder for a codec and its training; an encoder is an `nn.Module` too.

    `WavLM`, `LogMel`, `MelEncoder` and `SpeechEncoder` have it; so does your own class if it has
    these attributes. Other packages use only one more attribute: an encoder that changes the feats
    of another encoder has this other one as `clean`. A decoder that is trained on the changed feats
    can be exported with `clean`.
    """

    sample_rate: int  # Hz
    hop: int  # samples between frames
    config: dict[str, Any]  # arguments of the class, JSON-ready
    # description of the teacher: this encoder was trained to predict the teacher's feats
    teacher: dict[str, Any] | None

    @property
    def dim(self) -> int:
        """D, width of the feats."""

    @property
    def max_seconds(self) -> float | None:
        """Longest clip, s; None is any."""

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames for a number of samples, int64 of any shape."""

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode sig (B, T) to feats (B, N, D), padding zero, and their lengths (B,) int64.

        `lengths` (B,) int64 are the samples of each clip, None is all of them. Values in the
        padding have no influence.
        """

    def __call__(self, sig: Tensor, *, lengths: Tensor | None = None) -> Any:
        """Call `run` with these lengths; None has the arguments and results of WavLM's `forward`.

        `focalcodec.nn.official.OfflineEncoder` gives your class this.
        """

    training: bool

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """See `nn.Module`, as for the methods below."""

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""

    def modules(self) -> Iterator[nn.Module]:
        """All modules inside."""

    def to(self, *args: Any, **kwargs: Any) -> Encoder:
        """Move or cast."""

    def eval(self) -> Encoder:
        """Switch dropout off."""

    def requires_grad_(self, requires_grad: bool = True) -> Encoder:
        """Freeze with False."""
