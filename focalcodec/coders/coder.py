"""What the evaluation knows of a codec: audio goes in, something is sent, audio comes out."""

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
    """What is sent of a batch.

    `content` is for the coder's own `decode`; `bits` has the number for each clip, and is None
    where nothing is coded; `toks` are (N,) int64 for each clip of a codec with one stream of
    tokens, else None.
    """

    content: Any
    bits: list[int] | None
    toks: list[Tensor] | None = None


class Coded(NamedTuple):
    """A batch that was coded: rec_sig (B, T) at the coder's output rate, lengths (B,) int64."""

    rec_sig: Tensor
    lengths: Tensor
    bits: list[int] | None
    toks: list[Tensor] | None


class Coder(ABC):
    """One codec under one name; a clip gives the same alone and in any padded batch.

    Attributes
    ----------
    source : str
        Folder, hub repository or program that it is from.
    weights_sha256 : str
        Of the weights; empty where there are none.
    sample_rate_input, sample_rate_output : int
        Of what it takes and gives, Hz.
    kbps : float or None
        As sent; None where it varies (it is measured then) or where nothing is sent.
    token_rate, bits : float, int or None
        Frames of tokens a second, and bits of a frame.
    codebook_size : int or None
        Of a codec with one stream of tokens.
    converts : bool
        Whether it has voice conversion.
    settings : dict
        What else its output depends on, JSON-ready.
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
        """Encode. sig (B, T) at `sample_rate_input`, lengths in samples (B,) int64."""

    @abstractmethod
    def decode(self, sent: Sent) -> Tensor:
        """Decode to rec_sig (B, T') at `sample_rate_output`, zero beyond a clip's length."""

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Say `sig` (T,) in the voice of other clips (T',) -> (T'',) at the output rate.

        Raises
        ------
        UserError
            The codec has no voice conversion.
        """
        raise UserError(f"{self.source}: no voice conversion; leave it out of this task")

    @torch.no_grad()
    def code(self, sig: Tensor, sample_rate: int, lengths: Tensor) -> Coded:
        """Send a batch through the codec and back.

        Parameters
        ----------
        sig : Tensor
            (B, T) float.
        sample_rate : int
            Of `sig`, Hz.
        lengths : Tensor
            (B,) int64, samples of each clip.

        Returns
        -------
        Coded
            Each clip as long as it was.
        """
        heard, ends = resample(sig, sample_rate, self.sample_rate_input, lengths)
        sent = self.encode(heard, ends)
        rec_sig = self.decode(sent).float().cpu()
        rate = self.sample_rate_output
        wanted = torch.tensor([resampled_length(n, sample_rate, rate) for n in lengths.tolist()])
        return Coded(fit_lengths(rec_sig, wanted), wanted, sent.bits, sent.toks)

    def describe(self) -> dict[str, Any]:
        """All that its output depends on, and its rates; JSON-ready."""
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
    """A codec whose result depends on padding, and that is therefore given one clip at a time."""

    @abstractmethod
    def encode_clip(self, sig: Tensor) -> tuple[Any, int, Tensor | None]:
        """Encode one clip (T,): what `decode_clip` needs, bits sent, toks (N,) or None."""

    @abstractmethod
    def decode_clip(self, content: Any) -> Tensor:
        """Decode what `encode_clip` gave to (T',)."""

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
    """No codec: the audio as it came in, for the judges' figures of the recordings themselves."""

    source = "original"
    converts = True

    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Keep the audio."""
        return Sent(sig, None)

    def decode(self, sent: Sent) -> Tensor:
        """Give it back."""
        return sent.content

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Leave the voice as it is: how alike two speakers are without a conversion."""
        return resample(sig[None], sample_rate, self.sample_rate_output)[0][0]
