"""The parts of a codec: interfaces, making a part by its name, and checking that parts fit."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any, Protocol, get_type_hints

from torch import Tensor, nn

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders import Encoder
from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError, one_line
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.hub.weights import check_arguments
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from focalcodec.wavlm import WavLM


class Part(Protocol):
    """A compressor, decompressor or decoder, which is an `nn.Module` too."""

    config: dict[str, Any]  # arguments of the class, JSON-ready

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (B, N, D) and its valid frames (B,) int64, None is all, to those of the output.

        The output is zero on padded positions.
        """

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames, or samples, of the output for `lengths` valid frames, int64."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """See `nn.Module`."""

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""


class RateChanger(Part, Protocol):
    """Compressor or decompressor: it divides or multiplies the frame rate by `factor`."""

    factor: int

    def run(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (B, N, D) and its valid frames (B,) int64, None is all, to those of the output."""


class Decoder(Part, Protocol):
    """feats (B, N, D) to rec_sig (B, N * hop)."""

    hop: int  # samples per frame


PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "encoder": (WavLM, LogMel, MelEncoder, SpeechEncoder),
    "compressor": (FocalEncoder,),
    "quantizer": (BinarySphericalQuantizer,),
    "decompressor": (FocalDecoder,),
    "decoder": (Vocos, WaveNeXt),
}


# Classes of the official package by their names; a client may add its own, for any role.
REGISTRY: dict[str, type[nn.Module]] = {
    part.__name__: part
    for part in (BinarySphericalQuantizer, FocalDecoder, FocalEncoder, Vocos, WaveNeXt, WavLM)
}
_OFFICIAL = frozenset(REGISTRY)


def build_part(
    role: str, name: str, kwargs: dict[str, Any], trust: Collection[str] = ()
) -> nn.Module:
    """Make the part `name`, one of the classes of `PARTS[role]`, with random weights.

    It may be the path of a class, such as `my_parts.MyEncoder`, in one of the modules `trust`.

    Raises a `UserError` if there is no such class, or it does not take these arguments.
    """
    classes = {key: part for key, part in REGISTRY.items() if key not in _OFFICIAL}
    classes |= {part.__name__: part for part in PARTS[role]}
    module, _, stem = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if module in trust and hasattr(import_module(module), stem):
        classes[name] = getattr(import_module(module), stem)
    if not isinstance(name, str) or name not in classes:
        known = " or ".join(sorted(classes))
        raise UserError(f"{role}_name={reprlib.repr(name)}: give {known}")
    check_arguments(f"{role}_config: ", kwargs, get_type_hints(classes[name].__init__))
    try:
        return classes[name](**kwargs)
    # errors of a constructor for an unknown key, or a value of the wrong type or size
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = one_line(error)
        raise UserError(f"{role}_config: not one of {name} ({reason}); correct it") from error


def check_fit(
    encoder: Encoder,
    compressor: RateChanger,
    quantizer: BinarySphericalQuantizer,
    decompressor: RateChanger,
    decoder: Decoder,
) -> None:
    """Check that parts can follow each other; widths are compared where `config` has them.

    Raises a `UserError` if one part's output width is not the next one's input width, or compressor
    and decompressor change the frame rate by different factors.
    """
    widths = [
        ("encoder", encoder.dim, "compressor", compressor.config.get("input_dim")),
        ("compressor", compressor.config.get("output_dim"), "quantizer", quantizer.dim),
        ("quantizer", quantizer.dim, "decompressor", decompressor.config.get("input_dim")),
        (
            "decompressor",
            decompressor.config.get("output_dim"),
            "decoder",
            decoder.config.get("input_dim"),
        ),
    ]
    for giver, given, taker, taken in widths:
        if None not in (given, taken) and given != taken:
            raise UserError(f"{giver} gives width {given}, {taker} takes {taken}; make them equal")
    if decoder.hop * encoder.sample_rate < encoder.hop:
        raise UserError(
            f"encoder and decoder have {encoder.hop} and {decoder.hop} samples a frame: the output"
            " would have less than one sample a second; correct the strides or the hop_length"
        )
    if compressor.factor != decompressor.factor:
        raise UserError(
            f"compressor divides the frame rate by {compressor.factor}, decompressor multiplies"
            f" it by {decompressor.factor}; make the factors equal"
        )
