"""FocalCodec: low-bitrate speech coding with one stream of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focalcodec.errors import UserError
from focalcodec.version import VERSION as __version__

if TYPE_CHECKING:
    from focalcodec.codec import FocalCodec
    from focalcodec.fct import Tokens

__all__ = ["FocalCodec", "Tokens", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the codec, and torch with it, when it is first used: the commands start faster."""
    if name == "FocalCodec":
        from focalcodec.codec import FocalCodec

        return FocalCodec
    if name == "Tokens":
        from focalcodec.fct import Tokens

        return Tokens
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of the module, those included that are not imported yet."""
    return sorted({*globals(), *__all__})
