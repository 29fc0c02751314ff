"""Whether features were made by an encoder, whatever its number format is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import encoder_sha256

# From the finest to the coarsest.
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def encoder_identity(encoder: Any) -> dict[str, str]:
    """Hashes of an encoder as it is, and as it would be in each lower precision.

    A codec is used now in float32, now in bfloat16, and its features are the same but for
    rounding. From the rounded weights the others can't be known, so their hashes are kept.

    Parameters
    ----------
    encoder : nn.Module
        With `config`.

    Returns
    -------
    dict
        Number format -> `encoder_sha256` in it; more than one for a float32 encoder.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> list(encoder_identity(LogMel()))
    ['float32', 'float16', 'bfloat16']
    """
    now = _format(encoder)
    names = list(FORMATS) if now == "float32" else [now]
    return {name: encoder_sha256(encoder, FORMATS[name]) for name in names}


def check_same_encoder(identity: Mapping[str, str], encoder: Any) -> None:
    """Refuse an encoder that is not the one of an identity.

    Parameters
    ----------
    identity : mapping
        From `encoder_identity`.
    encoder : nn.Module
        With `config`.

    Raises
    ------
    UserError
        Another encoder, or formats that can't be compared.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> check_same_encoder(encoder_identity(LogMel()), LogMel(n_mels=40))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: reference: made by another encoder; make it anew with this one
    """
    now = _format(encoder)
    common = now if now in identity else next(iter(identity))
    if now not in identity and now != "float32":
        raise UserError(
            f"reference: made in {common}, and the codec is in {now}; make it anew, in float32"
            " for use in every precision"
        )
    if encoder_sha256(encoder, FORMATS[common]) != identity[common]:
        raise UserError("reference: made by another encoder; make it anew with this one")


def _format(encoder: Any) -> str:
    """Coarsest number format among an encoder's parameters; one without any has float32."""
    dtypes = {parameter.dtype for parameter in encoder.parameters()}
    return next((name for name in reversed(FORMATS) if FORMATS[name] in dtypes), "float32")
