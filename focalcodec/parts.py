"""The parts a codec is composed of: by name from a configuration, and whether they fit."""

from __future__ import annotations

from typing import Any

from torch import nn

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import LogMel
from focalcodec.encoders.mel_encoder import MelEncoder
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from focalcodec.wavlm import WavLM

PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "encoder": (WavLM, LogMel, MelEncoder, SpeechEncoder),
    "compressor": (FocalEncoder,),
    "quantizer": (BinarySphericalQuantizer,),
    "decompressor": (FocalDecoder,),
    "decoder": (Vocos, WaveNeXt),
}


def build_part(role: str, name: Any, kwargs: dict[str, Any]) -> nn.Module:
    """Make a part with random weights.

    Parameters
    ----------
    role : str
        A key of `PARTS`.
    name : str
        Name of one of its classes.
    kwargs : dict
        Arguments of the class.

    Returns
    -------
    nn.Module
        The part.

    Raises
    ------
    UserError
        There is no such class, or it does not take these arguments.

    Example
    -------
    >>> build_part("quantizer", "BinarySphericalQuantizer", {"codebook_size": 4}).dim
    2
    """
    classes = {part.__name__: part for part in PARTS[role]}
    if name not in classes:
        raise UserError(f"{role}_name={name!r}: give {' or '.join(sorted(classes))}")
    try:
        return classes[name](**kwargs)
    # all that a constructor raises for an unknown key or a value of the wrong type or size
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{role}_config: not one of {name} ({reason}); correct it") from error


def check_fit(
    encoder: Any, compressor: Any, quantizer: Any, decompressor: Any, decoder: Any
) -> None:
    """Refuse parts that can't follow each other.

    Parameters
    ----------
    encoder, compressor, quantizer, decompressor, decoder : nn.Module
        See `FocalCodec`; widths are compared where `config` has them.

    Raises
    ------
    UserError
        One part's output width is not the next one's input width, or compressor and
        decompressor change the frame rate by different factors.

    Example
    -------
    >>> compressor, decompressor = FocalEncoder(80, 13, [4], [1]), FocalDecoder(13, 80, [4], [1])
    >>> quantizer, decoder = BinarySphericalQuantizer(4), Vocos(80, 1, 4, 4)
    >>> check_fit(LogMel(), compressor, quantizer, decompressor, decoder)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: compressor gives width 13, quantizer takes 2; make them equal
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
    if compressor.factor != decompressor.factor:
        raise UserError(
            f"compressor divides the frame rate by {compressor.factor}, decompressor multiplies"
            f" it by {decompressor.factor}; make the factors equal"
        )
