"""The interface of all codecs: encode audio to data that is sent, decode it to audio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resample, resampled_length
from focalcodec.errors import UserError
from focalcodec.nn.masking import fit_lengths


class Sent(NamedTuple):
    """Data that a coder sends for a batch."""

    content: Any
    """Input of the same coder's `decode`."""
    bits: list[int] | None
    """Number of bits for each clip; None if nothing is coded."""
    toks: list[Tensor] | None = None
    """(N,) int64 for each clip, if the codec has one stream of tokens."""


class Coded(NamedTuple):
    """A batch after coding; bits and toks as in `Sent`."""

    rec_sig: Tensor
    """(B, T) at the coder's output rate."""
    lengths: Tensor
    """(B,) int64, samples of each clip."""
    bits: list[int] | None
    toks: list[Tensor] | None


class Coder(ABC):
    """One codec. A clip gives the same output alone and in any padded batch.

    Attributes
    ----------
    source : str
        Folder, hub repository or program.
    weights_sha256 : str
        Hash of the weights; empty if there are none.
    sample_rate_input, sample_rate_output : int
        Rates of the input and the output, Hz.
    kbps : float or None
        Constant bitrate; None if it varies (then it is measured) or nothing is sent.
    token_rate, bits : float, int or None
        Frames of tokens per second, and bits of a frame.
    codebook_size : int or None
        Number of codes, if the codec has one stream of tokens.
    converts : bool
        True if it has voice conversion.
    settings : dict
        All other settings that its output depends on, JSON-ready.
    """

    source = ""
    weights_sha256 = ""
    sample_rate_input = 16000
    sample_rate_output = 16000
    kbps: float | None = None
    token_rate: float | None = None
    bits: int | None = None
    codebook_size: int | None = None
    converts = False

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    @abstractmethod
    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Encode sig (B, T) at `sample_rate_input`, with lengths (B,) int64 in samples."""

    @abstractmethod
    def decode(self, sent: Sent) -> Tensor:
        """Decode to rec_sig (B, T') at `sample_rate_output`, zero after the end of a clip."""

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Convert sig (T,) to the voice of other clips (T',); return (T'',) at the output rate.

        UserError if the codec has no voice conversion.
        """
        raise UserError(f"{self.source}: no voice conversion; leave it out of this task")

    @torch.no_grad()
    def code(self, sig: Tensor, sample_rate: int, lengths: Tensor) -> Coded:
        """Encode and decode sig (B, T) at a rate in Hz, with lengths (B,) int64 in samples.

        Each clip of the result has the duration of the input.
        """
        # The codec works at its own rates; a clip keeps its duration, so lengths are rescaled.
        resampled, ends = resample(sig, sample_rate, self.sample_rate_input, lengths)
        sent = self.encode(resampled, ends)
        rec_sig = self.decode(sent).float().cpu()  # (B, T')
        rate = self.sample_rate_output
        wanted = torch.tensor([resampled_length(n, sample_rate, rate) for n in lengths.tolist()])
        return Coded(fit_lengths(rec_sig, wanted), wanted, sent.bits, sent.toks)

    def describe(self) -> dict[str, Any]:
        """Return everything that the output depends on, and the rates; JSON-ready."""
        return {
            "source": self.source,
            "weights_sha256": self.weights_sha256,
            "kbps": self.kbps,
            "token_rate": self.token_rate,
            "bits": self.bits,
            "codebook_size": self.codebook_size,
            "sample_rate_input": self.sample_rate_input,
            "sample_rate_output": self.sample_rate_output,
            "settings": self.settings,
        }


class ClipCoder(Coder):
    """A codec that gets one clip at a time, because its output depends on padding."""

    @abstractmethod
    def encode_clip(self, sig: Tensor) -> tuple[Any, int, Tensor | None]:
        """Encode one clip (T,); return the input of `decode_clip`, bits, and toks (N,) or None."""

    @abstractmethod
    def decode_clip(self, content: Any) -> Tensor:
        """Decode the first result of `encode_clip` to (T',)."""

    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Encode clip by clip."""
        clips = [
            self.encode_clip(clip[:end]) for clip, end in zip(sig, lengths.tolist(), strict=True)
        ]
        toks = [found.cpu() for _, _, found in clips if found is not None]
        return Sent(
            [content for content, _, _ in clips], [bits for _, bits, _ in clips], toks or None
        )

    def decode(self, sent: Sent) -> Tensor:
        """Decode clip by clip."""
        return pad_sequence([self.decode_clip(x) for x in sent.content], batch_first=True)


class Original(Coder):
    """No codec: the output is the input, for the judges' scores of the recordings themselves."""

    source = "original"
    converts = True

    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Return the audio itself."""
        return Sent(sig, None)

    def decode(self, sent: Sent) -> Tensor:
        """Return the audio."""
        return sent.content

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Keep the voice: the baseline is the similarity of two speakers without conversion."""
        return resample(sig[None], sample_rate, self.sample_rate_output)[0][0]
