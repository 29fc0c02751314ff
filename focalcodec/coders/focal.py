"""FocalCodec, whole or only its decoder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resampled_length
from focalcodec.codec import FocalCodec
from focalcodec.coders.coder import Coder, Sent
from focalcodec.conversion import ReferenceSet, convert_toks
from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.long_audio.coding import (
    decode_blocks,
    encode_blocks,
    encode_window,
    feats_blocks,
    vocode_blocks,
)
from focalcodec.nn.merging import check_threshold, runs_bits
from focalcodec.nn.voice import BITS

_VOICES_KEPT = 16


class FocalCoder(Coder):
    """FocalCodec with all its parts.

    Parameters
    ----------
    source : str
        Folder of an exported codec, or hub repository.
    revision : str, optional
        Branch, tag or commit of a hub repository.
    device : torch.device
        Where it runs.
    window_seconds : float
        A longer clip is coded in overlapping windows of this length, see `long_audio`.
    trust : collection of str
        Modules whose classes may be its parts.
    """

    converts = True
    merge: float | None = None  # threshold of `MergedCoder`

    def __init__(
        self,
        source: str,
        revision: str | None,
        device: torch.device,
        window_seconds: float,
        trust: Collection[str] = (),
    ) -> None:
        super().__init__()
        codec = FocalCodec.from_pretrained(source, revision=revision, trust=trust)
        self.source, self.weights_sha256 = source, weights_sha256(codec)
        self.codec, self.window_seconds = codec.to(device), window_seconds
        self.sample_rate_input = codec.sample_rate_input
        self.sample_rate_output = codec.sample_rate_output
        self.kbps, self.token_rate = codec.bitrate / 1000, codec.token_rate
        self.bits, self.codebook_size = codec.bits_per_token, codec.codebook_size
        self.settings = {"window_seconds": window_seconds}
        if codec.voice_tokens:  # beside the tokens, once for a clip
            self.kbps = None
        self._voices: OrderedDict[tuple[int, ...], ReferenceSet] = OrderedDict()

    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Encode a padded batch, or one clip of any length."""
        if self._needs_windows(lengths):
            clips = self._in_windows(partial(encode_blocks, merge=self.merge), sig, lengths)
        else:
            rate = self.sample_rate_input
            padded, ends = self.codec.encode(sig, rate, lengths, merge=self.merge)  # (B, N), (B,)
            clips = [clip[:n] for clip, n in zip(padded.cpu(), ends.tolist(), strict=True)]
        voice = None
        if self.codec.voice_tokens:
            longest = int(encode_window(self.codec, self.window_seconds) * self.sample_rate_input)
            heads = sig[:, :longest], self.sample_rate_input, lengths.clamp(max=longest)
            voice = self.codec.encode_voice(*heads)  # (B, V)
        bits = [self._bits(clip) for clip in clips]
        return Sent((self._is_long(sig), voice), bits, clips)

    def _bits(self, toks: Tensor) -> int:
        """Bits of a clip: its tokens, or runs and their lengths, and the vector."""
        bits = self.codec.voice_tokens * BITS
        if self.merge is None:
            return bits + len(toks) * self.codec.bits_per_token
        return bits + runs_bits(toks, self.codec.bits_per_token)

    def decode(self, sent: Sent) -> Tensor:
        """Decode the result of `encode`."""
        assert sent.toks is not None
        is_long, voice = sent.content
        if is_long:
            given = {"voice": None if voice is None else voice[0]}
            blocks = decode_blocks(
                self.codec, sent.toks[0], window_seconds=self.window_seconds, **given
            )
            return torch.cat([*blocks])[None]
        lengths = torch.tensor([len(clip) for clip in sent.toks])  # (B,)
        return self.codec.decode(pad_sequence(sent.toks, batch_first=True), lengths, voice=voice)

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Convert a clip: each frame becomes a mean of the four nearest frames of the voice."""
        blocks = encode_blocks(self.codec, [sig], sample_rate, self.window_seconds)
        toks = torch.cat([*blocks])  # (N,)
        num_samples = resampled_length(len(sig), sample_rate, self.sample_rate_output)
        reference = self._voice(voice, sample_rate)
        converted = convert_toks(
            self.codec, toks, reference, num_samples, window_seconds=self.window_seconds
        )
        return torch.cat([*converted])

    def _voice(self, voice: Sequence[Tensor], sample_rate: int) -> ReferenceSet:
        """Return the frames of a voice; the last `_VOICES_KEPT` voices stay in memory."""
        # Audio is compared by content, because each clip is read from its file again.
        key = tuple(hash(clip.numpy().tobytes()) for clip in voice)
        if key not in self._voices:
            self._voices[key] = ReferenceSet.from_sigs(
                self.codec, voice, sample_rate, window_seconds=self.window_seconds
            )
        self._voices.move_to_end(key)
        while len(self._voices) > _VOICES_KEPT:
            self._voices.popitem(last=False)
        return self._voices[key]

    def _in_windows(
        self, pieces: Callable[..., Iterator[Tensor]], sig: Tensor, lengths: Tensor
    ) -> list[Tensor]:
        clips = [clip[:n] for clip, n in zip(sig, lengths.tolist(), strict=True)]
        rate, seconds = self.sample_rate_input, self.window_seconds
        return [torch.cat([*pieces(self.codec, [clip], rate, seconds)]) for clip in clips]

    def _needs_windows(self, lengths: Tensor) -> bool:
        longest = encode_window(self.codec, self.window_seconds)
        return int(lengths.max()) > longest * self.sample_rate_input

    def _is_long(self, sig: Tensor) -> bool:
        return len(sig) == 1 and sig.shape[1] > self.window_seconds * self.sample_rate_input


class MergedCoder(FocalCoder):
    """FocalCodec whose similar neighbouring tokens are merged; `threshold` is their cosine."""

    def __init__(self, threshold: float, *args: Any) -> None:
        self.merge = check_threshold(threshold)
        super().__init__(*args)
        self.kbps = None  # it varies
        self.settings |= {"merge": self.merge}


class VoiceCoder(FocalCoder):
    """FocalCodec that converts voices by the vector of the utterance, not by nearest frames."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.settings |= {"converts_by": "voice"}
        if not self.codec.voice_tokens:
            raise UserError(f"{self.source}: no vector of the utterance; leave out voice:")

    def convert(self, sig: Tensor, voice: Sequence[Tensor], sample_rate: int) -> Tensor:
        """Decode the tokens of a clip with the vector of the voice's clips, joined."""
        toks = torch.cat([*encode_blocks(self.codec, [sig], sample_rate, self.window_seconds)])
        longest = int(encode_window(self.codec, self.window_seconds) * sample_rate)
        joined = torch.cat([*voice])[:longest]
        vector = self.codec.encode_voice(joined, sample_rate)[0]
        num_samples = resampled_length(len(sig), sample_rate, self.sample_rate_output)
        blocks = decode_blocks(
            self.codec, toks, num_samples, window_seconds=self.window_seconds, voice=vector
        )
        return torch.cat([*blocks])


class VocoderCoder(FocalCoder):
    """Only encoder and decoder, without tokens: the quality that stage 2 alone reaches."""

    converts = False

    def __init__(
        self,
        source: str,
        revision: str | None,
        device: torch.device,
        window_seconds: float,
        trust: Collection[str] = (),
    ) -> None:
        super().__init__(source, revision, device, window_seconds, trust)
        self.kbps = self.token_rate = self.bits = self.codebook_size = None
        self.settings = {"vocoder": True, "window_seconds": window_seconds}

    def encode(self, sig: Tensor, lengths: Tensor) -> Sent:
        """Compute the feats of a padded batch, or of one clip of any length."""
        if self._is_long(sig):
            return Sent((self._in_windows(feats_blocks, sig, lengths)[0][None], None), None)
        if self._needs_windows(lengths):
            clips = self._in_windows(feats_blocks, sig, lengths)
            frames = torch.tensor([len(clip) for clip in clips], device=self.codec.device)
            return Sent((pad_sequence(clips, batch_first=True), frames), None)
        device = self.codec.device
        return Sent(self.codec.encoder(sig.to(device), lengths=lengths.to(device)), None)

    def decode(self, sent: Sent) -> Tensor:
        """Decode feats to a waveform."""
        feats, lengths = sent.content
        if lengths is None:
            return torch.cat([*vocode_blocks(self.codec, [feats[0]], self.window_seconds)])[None]
        return self.codec.decoder(feats, lengths=lengths)[0]
