"""The contracts of the five parts, and checking that parts keep them and fit.

`focalcodec.encoders.Encoder` is that of the encoder. docs/parts.md explains all five, with an
encoder and a quantizer of one's own.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from focalcodec.errors import UserError

MOST_CODES = 2**20  # of a quantizer: training counts how often each is used
ROLES = ("encoder", "compressor", "quantizer", "decompressor", "decoder")


class Part(Protocol):
    """A compressor, decompressor or decoder, which is an `nn.Module` too.

    `part_context` of `long_audio` knows the receptive field of this package's parts. A part of
    one's own may have `context = (left, right)`, frames that an output frame depends on; without it
    recordings are processed whole.
    """

    config: dict[str, Any]  # arguments of the class, JSON-ready

    def __call__(self, x: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (B, N, D) and its valid frames (B,) int64, None is all, to those of the output.

        The output is zero on padded positions, and a clip has the same output alone and in any
        padded batch.
        """

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames, or samples, of the output for `lengths` valid frames, int64."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """See `nn.Module`."""

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""


class RateChanger(Part, Protocol):
    """Compressor, feats to lats, or decompressor, codes (B, N', L) to qfeats (B, N, D).

    It divides or multiplies the frame rate by `factor`. A compressor may have `unit_norm`: whether
    its lats are scaled to norm 1. A class with the official call, which has no `lengths`, gives
    lats of any norm, and the codec scales them.
    """

    factor: int


class Quantizer(Protocol):
    """lats (..., L) to codes (..., L) and toks (...); `QuantizerBase` has all but three methods.

    For training it may have more. `entropy_terms(lats, mask, inv_temperature, all_reduce)` gives an
    `EntropyTerms`, which `entropy_weight` weighs. `frame_losses(lats, toks)` gives further terms of
    the loss by their names, each (B, N') and weighted, such as a commitment loss. Weights are
    trained with those of the compressor.
    """

    config: dict[str, Any]  # arguments of the class, JSON-ready
    dim: int  # L, width of lats and codes
    codebook_size: int  # toks are in [0, codebook_size)

    @property
    def codebook(self) -> Tensor:
        """All codes, (codebook_size, L), in the order of their toks."""

    def __call__(self, lats: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantize lats (B, N', L): toks (B, N') int64, codes (B, N', L), zero on padded frames.

        With `lengths`, (B,) int64, in training mode, gradients pass through codes to lats.
        """

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes (..., L)."""

    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Map lats (..., L) to toks (...) int64."""

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64."""

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L); a `UserError` out of range."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """See `nn.Module`."""


class Decoder(Part, Protocol):
    """feats (B, N, D) to rec_sig (B, N * hop)."""

    hop: int  # samples per frame


_CONFIG = "a dict with the arguments of the class, for config.json"
_LENGTHS = "a method: valid frames of the output for those of the input"
CONTRACT: dict[str, dict[str, str]] = {
    "encoder": {
        "config": _CONFIG,
        "sample_rate": "Hz",
        "hop": "samples between two frames",
        "dim": "width of the feats",
        "max_seconds": "longest clip, or None",
        "teacher": "None",
        "output_lengths": "a method: frames for a number of samples",
    },
    "compressor": {
        "config": _CONFIG,
        "factor": "by how much it divides the frame rate",
        "output_lengths": _LENGTHS,
    },
    "quantizer": {
        "config": _CONFIG,
        "dim": "width of lats and codes",
        "codebook_size": "number of toks",
        "lats_to_codes": "a method",
        "lats_to_toks": "a method",
        "codes_to_toks": "a method",
        "toks_to_codes": "a method",
    },
    "decompressor": {
        "config": _CONFIG,
        "factor": "by how much it multiplies the frame rate",
        "output_lengths": _LENGTHS,
    },
    "decoder": {"config": _CONFIG, "hop": "samples of a frame", "output_lengths": _LENGTHS},
}
"""What each part must have, in words for messages; the Protocols above say it in full."""
_WITHOUT_LENGTHS = {"max_seconds", "teacher", "output_lengths", "lats_to_toks"}  # not needed then


def takes_lengths(part: Any) -> bool:
    """Whether a part can be called with `lengths=`; a class with the official call can't."""
    try:
        call = inspect.signature(part.forward).parameters
    except (TypeError, ValueError):  # of a scripted module
        return False
    return "lengths" in call or any(p.kind is p.VAR_KEYWORD for p in call.values())


def check_part(role: str, part: Any, is_official: bool = False) -> None:
    """Check that a part has what its contract demands.

    A part `is_official` if its call is that of the official package, without `lengths`. Raises a
    `UserError` that names what is missing.

    Example
    -------
    >>> check_part("decoder", nn.Linear(80, 320))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: decoder: Linear has no attribute 'config' (a dict with the \
arguments of the class, for config.json); docs/parts.md has all that a decoder needs
    """
    name = type(part).__name__
    known = f"docs/parts.md has all that {'an' if role == 'encoder' else 'a'} {role} needs"
    for attribute, what in CONTRACT[role].items():
        if not hasattr(part, attribute) and not (is_official and attribute in _WITHOUT_LENGTHS):
            raise UserError(f"{role}: {name} has no attribute {attribute!r} ({what}); {known}")
    if not isinstance(part, nn.Module) or "_modules" not in vars(part):
        raise UserError(f"{role}: {name} is no nn.Module, or lacks super().__init__(); {known}")
    if not (is_official or takes_lengths(part)):
        raise UserError(f"{role}: forward of {name} has no argument lengths; {known}")
    if not isinstance(part.config, Mapping):
        raise UserError(f"{role}: config of {name} is {reprlib.repr(part.config)}; {known}")
    size = getattr(part, "codebook_size", 2) if role == "quantizer" else 2
    if not 2 <= size <= MOST_CODES:
        raise UserError(
            f"quantizer: codebook_size={size}; give 2 to {MOST_CODES}, which is a code_dim of"
            f" {MOST_CODES.bit_length() - 1} bits at most"
        )


def check_fit(parts: Mapping[str, Any]) -> None:
    """Check that those of the five parts that are given can follow each other.

    Widths are compared where `config` has them. Raises a `UserError` if one part's output width is
    not the next one's input width, or compressor and decompressor change the frame rate by
    different factors.
    """
    dims = {role: getattr(parts.get(role), "dim", None) for role in ("encoder", "quantizer")}
    widths = {
        **{(role, "input_dim"): dim for role, dim in dims.items()},
        **{(role, "output_dim"): dim for role, dim in dims.items()},
    }
    for role in ("compressor", "decompressor", "decoder"):
        config = getattr(parts.get(role), "config", {})
        widths |= {(role, key): config.get(key) for key in ("input_dim", "output_dim")}
    for giver, taker in zip(ROLES, ROLES[1:], strict=False):
        given, taken = widths[giver, "output_dim"], widths[taker, "input_dim"]
        if None not in (given, taken) and given != taken:
            raise UserError(f"{giver} gives width {given}, {taker} takes {taken}; make them equal")
    for role, key in (("decompressor", "output_dim"), ("decoder", "input_dim")):  # feats, too
        given, taken = dims["encoder"], widths[role, key]
        if None not in (given, taken) and given != taken:
            raise UserError(f"encoder gives width {given}, {role} has {taken}; make them equal")
    if {"encoder", "decoder"} <= parts.keys():
        encoder, decoder = parts["encoder"], parts["decoder"]
        if decoder.hop * encoder.sample_rate < encoder.hop:
            raise UserError(
                f"encoder and decoder have {encoder.hop} and {decoder.hop} samples a frame: the"
                " output would have less than one sample a second; correct the strides or the"
                " hop_length"
            )
    if {"compressor", "decompressor"} <= parts.keys():
        factors = parts["compressor"].factor, parts["decompressor"].factor
        if factors[0] != factors[1]:
            raise UserError(
                f"compressor divides the frame rate by {factors[0]}, decompressor multiplies it by"
                f" {factors[1]}; make the factors equal"
            )
