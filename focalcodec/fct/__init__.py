"""Token files, `.fct`: a small header and the tokens, written at once and read in a stream.

docs/token_files.md has the format byte by byte.
"""

from __future__ import annotations

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.fct.header import HASH_DIGITS, TokenHeader
from focalcodec.fct.reader import TokenReader, read_toks
from focalcodec.fct.table import TokenTable
from focalcodec.fct.writer import write_toks

__all__ = [
    "TokenHeader",
    "TokenReader",
    "TokenTable",
    "check_model",
    "header_for",
    "read_toks",
    "write_toks",
]


def header_for(
    codec: FocalCodec,
    model_name: str,
    weights_sha256: str,
    sample_rate: int,
    num_samples: int,
    id: str = "",
) -> TokenHeader:
    """Header of a clip that a codec encodes.

    Parameters
    ----------
    codec : FocalCodec
        It gives bits and rates.
    model_name : str
        Where the codec is from, such as `lucadellalib/focalcodec_50hz`.
    weights_sha256 : str
        From `focalcodec.hub.fingerprint.weights_sha256`.
    sample_rate, num_samples : int
        Rate in Hz, and length, of the audio as it was given.
    id : str
        Name of the clip.

    Returns
    -------
    TokenHeader
        For `write_toks`.

    Raises
    ------
    UserError
        A value does not fit into a header.

    Example
    -------
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> parts = [LogMel(), FocalEncoder(80, 1, [4], [1]), BinarySphericalQuantizer(2)]
    >>> codec = FocalCodec(*parts, FocalDecoder(1, 80, [4], [1]), Vocos(80, 1, 4, 4))
    >>> header_for(codec, "me/codec", "0" * 64, sample_rate=8000, num_samples=800).token_rate
    50.0
    """
    return TokenHeader(
        model=model_name,
        weights_sha256=weights_sha256,
        bits=codec.quantizer.dim,
        samples_per_token=codec.encoder.hop * codec.compressor.factor,
        sample_rate_input=codec.sample_rate_input,
        sample_rate_output=codec.sample_rate_output,
        sample_rate=sample_rate,
        num_samples=num_samples,
        id=id,
    )


def check_model(
    header: TokenHeader, codec_name: str, weights_sha256: str, source: str = "tokens"
) -> None:
    """Refuse tokens of another model: what they mean is in its weights.

    Parameters
    ----------
    header : TokenHeader
        Of the tokens.
    codec_name, weights_sha256 : str
        Of the codec that is to decode them. Names are not compared, for a folder may hold a
        published model.
    source : str
        File that the message names.

    Raises
    ------
    UserError
        The weights differ.

    Example
    -------
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1000)
    >>> check_model(header, "copy", "0123456789abcdef" + "0" * 48)
    >>> check_model(header, "other", "f" * 64, "a.fct")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.fct: tokens of me/codec (weights 0123456789abcdef), and the \
model is other (weights ffffffffffffffff); give --model me/codec, or --any_model to decode them \
anyway
    """
    weights = weights_sha256[:HASH_DIGITS]
    if weights != header.weights_sha256:
        theirs = f"--model {header.model}"
        if header.model == codec_name:  # the name stayed, as that of the package's codec does
            theirs = f"the {codec_name} of then"
        raise UserError(
            f"{source}: tokens of {header.model} (weights {header.weights_sha256}), and the model"
            f" is {codec_name} (weights {weights}); give {theirs}, or --any_model to decode them"
            " anyway"
        )
