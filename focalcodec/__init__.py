"""FocalCodec: low-bitrate speech coding with one stream of tokens."""

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError

__version__ = "0.1.0"
__all__ = ["FocalCodec", "UserError", "__version__"]
