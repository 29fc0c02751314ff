"""FocalCodec: low-bitrate speech coding with one stream of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focalcodec.errors import UserError

if TYPE_CHECKING:
    from focalcodec.codec import FocalCodec

__version__ = "0.1.0"
__all__ = ["FocalCodec", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch when the codec is asked for: the command line's help is there at once."""
    if name == "FocalCodec":
        from focalcodec.codec import FocalCodec

        return FocalCodec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
