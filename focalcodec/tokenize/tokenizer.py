"""Tokenizers: FocalCodec, or another codec with several streams of tokens per frame."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.codec import FocalCodec
from focalcodec.coders.hub import HubCoder
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import encode_blocks, encode_plan, encode_window


class Tokenizer(ABC):
    """Interface of a codec for `tokenize_corpus`.

    Tokens of Q streams are written frame by frame, (N * Q,): the streams of a frame stand side by
    side. A clip gives the same tokens alone and in any batch.
    """

    sample_rate_input: int  # Hz
    sample_rate_output: int  # Hz
    token_rate: float  # frames per second
    codebook_size: int  # tokens of a stream
    streams: int = 1  # tokens of a frame, Q

    @abstractmethod
    def check(self, window_seconds: float) -> None:
        """Raise `UserError` if no clip can be encoded with this window."""

    @abstractmethod
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (N * Q,) int64 on the CPU of each clip (T,) at `sample_rate_input`."""

    @abstractmethod
    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Tokens of one clip that arrives in blocks (T,)."""

    @abstractmethod
    def codes(self) -> list[Tensor] | None:
        """Vectors (K, L) of the tokens of each stream; None if the codec has no codebook."""


class FocalTokenizer(Tokenizer):
    """FocalCodec, in eval mode and on its device: one stream."""

    def __init__(self, codec: FocalCodec) -> None:
        self.codec = codec
        self.sample_rate_input = codec.sample_rate_input
        self.sample_rate_output = codec.sample_rate_output
        self.token_rate, self.codebook_size = codec.token_rate, codec.quantizer.codebook_size

    def check(self, window_seconds: float) -> None:
        """Raise `UserError` if the window is shorter than the model's context."""
        encode_plan(self.codec, window_seconds)

    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode a batch."""
        lengths = torch.tensor([len(sig) for sig in sigs], dtype=torch.int64)
        # an encoder may have a maximum length that is shorter than these clips
        limit = encode_window(self.codec, math.inf)
        if int(lengths.max()) > limit * self.sample_rate_input:
            return [self.encode_long([sig], limit) for sig in sigs]
        sig = pad_sequence(list(sigs), batch_first=True)  # (B, T)
        toks, ends = self.codec.encode(sig, lengths=lengths)  # (B, N), (B,)
        return [row[:end] for row, end in zip(toks.cpu(), ends.tolist(), strict=True)]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode in windows."""
        return torch.cat([*encode_blocks(self.codec, blocks, window_seconds)])

    def codes(self) -> list[Tensor]:
        """The codebook."""
        return [self.codec.codebook.detach().float().cpu()]


class HubTokenizer(Tokenizer):
    """EnCodec, DAC, Mimi or X-codec2: clip by clip, because their tokens depend on padding."""

    def __init__(self, coder: HubCoder) -> None:
        self.coder, self.streams = coder, coder.streams
        self.sample_rate_input = coder.sample_rate_input
        self.sample_rate_output = coder.sample_rate_output
        self.token_rate = coder.frame_rate(coder.model.config)
        self.codebook_size = coder.stream_size(coder.model.config)

    def check(self, window_seconds: float) -> None:
        """Nothing to check: these codecs have no windows."""

    @torch.no_grad()
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode clip by clip."""
        # (Q, N) -> (N * Q,)
        return [self.coder.encode_clip(sig)[0].T.flatten().long().cpu() for sig in sigs]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode as a whole."""
        return self.encode([torch.cat([*blocks])])[0]

    def codes(self) -> list[Tensor] | None:
        """Codebooks of the streams in use."""
        return self.coder.codebooks()


def as_tokenizer(codec: FocalCodec | HubCoder | Tokenizer) -> Tokenizer:
    """Return the tokenizer of a codec; `UserError` if the codec has no tokens."""
    if isinstance(codec, FocalCodec):
        return FocalTokenizer(codec)
    if isinstance(codec, HubCoder):
        return HubTokenizer(codec)
    if isinstance(codec, Tokenizer):
        return codec
    raise UserError(f"{type(codec).__name__}: it has no tokens; give a neural codec")
