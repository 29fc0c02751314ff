"""Hashes of models: the identity of a codec's tokens and of an encoder's feats.

All are computed in the same way: the SHA-256 of a head (JSON, sorted keys), followed by the name,
dtype, shape and bytes of each tensor, in the order of the names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from focalcodec.errors import UserError

# From the finest to the coarsest.
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Model(Protocol):
    """A codec, or one of its parts."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Arguments of its constructor."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """All its tensors by name."""

    def parameters(self) -> Iterable[Tensor]:
        """Its trainable tensors."""


def weights_sha256(codec: Model) -> str:
    """SHA-256 of a codec's configuration and tensors, 64 hexadecimal digits.

    The tensors are in the layout of the package, so a published checkpoint and its copy by
    `save_pretrained` have the same hash. Take it before a change of precision, which changes
    weights.
    """
    known = getattr(codec, "packed_sha256", None)
    if known is not None:  # from before its weights were packed
        return known
    config = dict(codec.config)
    if config.get("decoder_name") == "WaveNeXt":
        # it was always there when the first hashes were stored
        config["decoder_config"] = {"sample_rate": 24000, **config["decoder_config"]}
    return tensors_sha256(config, codec.state_dict())


def encoder_sha256(encoder: Model, dtype: torch.dtype | None = None) -> str:
    """SHA-256 of an encoder's class, configuration and tensors: the identity of its feats.

    Floating-point tensors are cast to `dtype` first, so that an encoder and its copy in a lower
    precision get the same hash; default none.
    """
    head = {"name": type(encoder).__name__, "config": encoder.config}
    return tensors_sha256(head, encoder.state_dict(), dtype)


def tensors_sha256(
    head: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> str:
    """SHA-256 of a JSON-ready head and of named tensors, cast to `dtype` if they are floats."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, tensor: Tensor) -> None:
    # numpy has no bfloat16: any dtype is read as bytes
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


# -- the encoder of a run --------------------------------------------------------------------------


def describe_encoder(encoder: Model) -> dict[str, Any]:
    """Name, configuration and hash of an encoder, JSON-ready: the `encoder.json` of a run."""
    return {
        "name": type(encoder).__name__,
        "config": json.loads(json.dumps(encoder.config)),
        "sha256": encoder_sha256(encoder),
    }


def is_described(encoder: Model, description: Mapping[str, Any]) -> bool:
    """Whether a description, from `describe_encoder`, is that of an encoder.

    Runs of early versions stored a hash of names and bytes only; it is accepted too.
    """
    present = describe_encoder(encoder)
    if description == present:
        return True
    return description == {**present, "sha256": _early_sha256(encoder)}


def _early_sha256(encoder: Model) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        _update(digest, tensor)
    return digest.hexdigest()


# -- the encoder of stored feats, in any precision -------------------------------------------------


def encoder_identity(encoder: Model) -> dict[str, str]:
    """Hashes of an encoder by number format: as it is, and as it would be in each lower precision.

    A codec runs in float32 or in bfloat16, and its feats differ only by rounding. From rounded
    weights the hashes of finer formats can't be computed, so all hashes are stored.
    """
    now = _format(encoder)
    names = list(FORMATS) if now == "float32" else [now]
    return {name: encoder_sha256(encoder, FORMATS[name]) for name in names}


def check_same_encoder(identity: Mapping[str, str], encoder: Model) -> None:
    """Check that an identity, from `encoder_identity`, is that of an encoder.

    Raises a `UserError` for another encoder, or formats that can't be compared.
    """
    now = _format(encoder)
    common = now if now in identity else next(iter(identity))
    if now not in identity and now != "float32":
        raise UserError(
            f"reference: made in {common}, but the codec is in {now}; make it again, in float32"
            " for use in every precision"
        )
    if encoder_sha256(encoder, FORMATS[common]) != identity[common]:
        raise UserError("reference: made by another encoder; make it again with this one")


def _format(encoder: Model) -> str:
    """Coarsest number format of an encoder's parameters; float32 if it has none."""
    dtypes = {parameter.dtype for parameter in encoder.parameters()}
    return next((name for name in reversed(FORMATS) if FORMATS[name] in dtypes), "float32")
