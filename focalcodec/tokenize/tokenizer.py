"""What turns audio into tokens: FocalCodec, or a codec of others with several streams a frame."""

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
    """A codec as the corpus tokenizer knows it.

    Tokens of Q streams are written one frame after the other: (N * Q,), the streams of a frame
    side by side. A clip gives the same alone and in any batch.

    Attributes
    ----------
    sample_rate_input, sample_rate_output : int
        Of what it takes and gives, Hz.
    token_rate : float
        Frames a second.
    codebook_size : int
        Tokens of a stream.
    streams : int
        Tokens of a frame.
    """

    sample_rate_input: int
    sample_rate_output: int
    token_rate: float
    codebook_size: int
    streams: int = 1

    @abstractmethod
    def check(self, window_seconds: float) -> None:
        """Refuse at once a window that no clip can be encoded with."""

    @abstractmethod
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (N * Q,) int64 on the CPU of each clip (T,) at `sample_rate_input`."""

    @abstractmethod
    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Tokens of one clip that comes in blocks (T,)."""

    @abstractmethod
    def codes(self) -> list[Tensor] | None:
        """Vectors (K, L) that the tokens of each stream stand for, where there are such."""


class FocalTokenizer(Tokenizer):
    """FocalCodec: one stream.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode, on its device.
    """

    def __init__(self, codec: FocalCodec) -> None:
        self.codec = codec
        self.sample_rate_input = codec.sample_rate_input
        self.sample_rate_output = codec.sample_rate_output
        self.token_rate, self.codebook_size = codec.token_rate, len(codec.codebook)

    def check(self, window_seconds: float) -> None:
        """Refuse a window that is shorter than the model's context."""
        encode_plan(self.codec, window_seconds)

    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode a batch."""
        lengths = torch.tensor([len(sig) for sig in sigs], dtype=torch.int64)
        # the encoder itself may not hear clips as long as this
        limit = encode_window(self.codec, math.inf)
        if int(lengths.max()) > limit * self.sample_rate_input:
            return [self.encode_long([sig], limit) for sig in sigs]
        toks, ends = self.codec.encode(pad_sequence(list(sigs), batch_first=True), lengths=lengths)
        return [row[:end] for row, end in zip(toks.cpu(), ends.tolist(), strict=True)]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode in windows."""
        return torch.cat([*encode_blocks(self.codec, blocks, window_seconds)])

    def codes(self) -> list[Tensor]:
        """The codebook."""
        return [self.codec.codebook.detach().float().cpu()]


class HubTokenizer(Tokenizer):
    """EnCodec, DAC, Mimi or X-codec2: one clip at a time, for their tokens depend on padding.

    Parameters
    ----------
    coder : HubCoder
        From `focalcodec.coders.spec.load_coder`.
    """

    def __init__(self, coder: HubCoder) -> None:
        self.coder, self.streams = coder, coder.streams
        self.sample_rate_input = coder.sample_rate_input
        self.sample_rate_output = coder.sample_rate_output
        self.token_rate = coder.frame_rate(coder.model.config)
        self.codebook_size = coder.stream_size(coder.model.config)

    def check(self, window_seconds: float) -> None:
        """Nothing to refuse: they have no windows."""

    @torch.no_grad()
    def encode(self, sigs: Sequence[Tensor]) -> list[Tensor]:
        """Encode clip by clip."""
        return [self.coder.encode_clip(sig)[0].T.flatten().long().cpu() for sig in sigs]

    def encode_long(self, blocks: Iterable[Tensor], window_seconds: float) -> Tensor:
        """Encode as a whole."""
        return self.encode([torch.cat([*blocks])])[0]

    def codes(self) -> list[Tensor] | None:
        """The codebooks that are used."""
        return self.coder.codebooks()


def as_tokenizer(codec: FocalCodec | HubCoder | Tokenizer) -> Tokenizer:
    """Tokenizer of a codec.

    Raises
    ------
    UserError
        It has no tokens.
    """
    if isinstance(codec, FocalCodec):
        return FocalTokenizer(codec)
    if isinstance(codec, HubCoder):
        return HubTokenizer(codec)
    if isinstance(codec, Tokenizer):
        return codec
    raise UserError(f"{type(codec).__name__}: it has no tokens; give a neural codec")
