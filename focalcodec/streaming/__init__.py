"""Streams: audio to tokens and tokens to audio while they arrive.

The sender has an `EncoderSession`, the receiver a `DecoderSession`; they may be on two machines,
and voice conversion can be between them. With a causal codec the results are those of the whole
signal (arXiv 2509.16195, section 2). docs/streaming.md explains states and latency.
"""

from focalcodec.streaming.decoder import DecoderSession
from focalcodec.streaming.encoder import EncoderSession

__all__ = ["DecoderSession", "EncoderSession"]
