"""Audio of any rate, in batches and files: the methods of a codec that check, resample and pad."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import as_batch, resample, resampled_length, validate_sig
from focalcodec.audio_files.rates import output_samples
from focalcodec.audio_files.sound import AudioSource
from focalcodec.audio_stream import AudioStream, Head, write_blocks
from focalcodec.bsq import check_toks
from focalcodec.choices import WINDOW_SECONDS, Channels
from focalcodec.codec_base import State
from focalcodec.errors import UserError
from focalcodec.fct import Tokens, check_model, header_for
from focalcodec.fct.header import TEXT_BYTES
from focalcodec.knn import ReferenceFrames, as_frames, check_k, convert_feats
from focalcodec.long_audio.coding import decode_blocks, encode_blocks, encode_window
from focalcodec.nn.masking import as_tensor, fit_lengths, full_lengths
from focalcodec.nn.merging import check_threshold, merge_lats
from focalcodec.nn.voice import voice_toks, voice_values
from focalcodec.official_codec import OfficialCodec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class AudioCodec(OfficialCodec):
    """The methods of `OfficialCodec`, and the same steps for audio as users have it."""

    @torch.no_grad()
    def encode(
        self,
        sig: Tensor | ArrayLike,
        sample_rate: int,
        lengths: Tensor | ArrayLike | None = None,
        *,
        merge: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Audio to tokens: toks (B, N') int64 and the number of tokens of each clip, (B,) int64.

        They are the tokens of the published models, and 0 beyond a clip's length. The strided
        convolutions of WavLM cover at most T - 80 samples, in whole frames of 320; `decode`
        fills the rest, at most 25 ms, with silence. Raises a `UserError` if `sig` has another
        shape, is empty, integer, NaN or infinite, or `lengths` do not fit.

        Parameters
        ----------
        sig : Tensor, array or list
            (B, T), (B, 1, T), or (T,) for one clip: floating point, mono, about [-1, 1].
        sample_rate : int
            Rate of `sig`, Hz; another one than `sample_rate_input` is resampled.
        lengths : Tensor, array or list, optional
            (B,) integers, valid samples of each clip at `sample_rate`; default all.
        merge : float, optional
            Cosine, -1 to 1: similar neighbours above it get the same token, so that the tokens can
            be stored as runs, see `merging`. Default: none are merged.
        """
        threshold = None if merge is None else check_threshold(merge)
        states = {"encoder": (), "compressor": ()}
        lats, frames, _ = self._steps_of_audio(sig, sample_rate, lengths, states)
        ends = full_lengths(lats) if frames is None else frames
        if not bool(torch.isfinite(lats).all()):
            raise UserError(
                "sig: its features are not finite; scale it to [-1, 1], or take a higher precision"
            )
        lats = lats if threshold is None else merge_lats(lats, ends, threshold)
        return self.lats_to_toks(lats, lengths=ends), ends

    @torch.no_grad()
    def encode_voice(
        self,
        sig: Tensor | ArrayLike,
        sample_rate: int,
        lengths: Tensor | ArrayLike | None = None,
    ) -> Tensor:
        """Vector of each clip as tokens, (B, voice_tokens) int64 in [0, 4096): `decode` takes it.

        Decoding with the vector of another clip changes the voice. Arguments and errors are those
        of `encode`; a `UserError` too if the codec has no such vector.
        """
        if not self.voice_tokens:
            raise UserError(f"encode_voice: {self.name} has no vector of an utterance")
        feats, frames, _ = self._steps_of_audio(sig, sample_rate, lengths, {"encoder": ()})
        return voice_toks(self._part("compressor").voice(feats, frames))

    def _steps_of_audio(
        self,
        sig: Tensor | ArrayLike,
        sample_rate: int,
        lengths: Tensor | ArrayLike | None,
        states: Mapping[str, State],
    ) -> tuple[Tensor, Tensor | None, list[State]]:
        """Check and resample audio, and apply the parts of `states`; no lengths: all are whole."""
        self._check_values()
        sig = as_batch(sig)
        lengths = None if lengths is None else as_tensor("lengths", lengths).to(sig.device)
        validate_sig(sig, lengths)
        sig, lengths = resample(sig, sample_rate, self.sample_rate_input, lengths)
        # at least float32: the encoder of a codec in lower precision decides which steps need it
        dtype = torch.promote_types(self._weight.dtype, torch.float32)
        sig, lengths = sig.to(self._weight.device, dtype), lengths.to(self._weight.device)
        longest = int(lengths.max())
        # clips of one length need no masks
        padded = bool((lengths < longest).any())
        return self._steps(sig[:, :longest], states, lengths if padded else None)

    @torch.no_grad()
    def decode(
        self,
        toks: Tensor | ArrayLike,
        lengths: Tensor | ArrayLike | None = None,
        num_samples: int | Tensor | ArrayLike | None = None,
        sample_rate: int | None = None,
        *,
        voice: Tensor | ArrayLike | None = None,
    ) -> Tensor:
        """Tokens to audio: rec_sig (B, T), zero beyond a clip's length.

        Raises a `UserError` if `toks` have another shape, are not integers or out of range, or if
        `lengths` or `num_samples` do not fit them.

        Parameters
        ----------
        toks : Tensor, array or list
            (B, N'), or (N',) for one clip: integers in [0, `vocab_size`).
        lengths : Tensor, array or list, optional
            (B,) integers, tokens of each clip; default all.
        num_samples : int, Tensor, array or list, optional
            Samples of the output at `sample_rate`: those of the input of `encode`, one number or
            (B,) integers; T is the largest. Default: the duration of the tokens.
        sample_rate : int, optional
            Rate of the output, Hz; default `sample_rate_output`.
        voice : Tensor, array or list, optional
            (B, voice_tokens), or (voice_tokens,) for all clips: the result of `encode_voice`.
        """
        self._check_values()
        toks = as_tensor("toks", toks)
        toks = toks[None] if toks.dim() == 1 else toks
        lengths = check_toks(toks, None if lengths is None else as_tensor("lengths", lengths))
        toks, lengths = toks.to(self._weight.device).long(), lengths.to(self._weight.device)
        codes = self.toks_to_codes(toks, lengths=lengths)  # (B, N', L)
        states = {"decompressor": (), "decoder": ()}
        vector = self.voice_values(voice, len(toks))
        rec_sig, ends, _ = self._steps(codes, states, lengths, voice=vector)  # (B, T)
        rate = self.sample_rate_output if sample_rate is None else sample_rate
        rec_sig, ends = resample(rec_sig, self.sample_rate_output, rate, ends)
        if num_samples is None:
            return rec_sig
        return fit_lengths(rec_sig, self.check_num_samples(num_samples, lengths, rate))

    @torch.no_grad()
    def convert(
        self,
        sig: Tensor | ArrayLike,
        reference: ReferenceFrames | Tensor,
        sample_rate: int,
        lengths: Tensor | ArrayLike | None = None,
        k: int = 4,
        sample_rate_output: int | None = None,
        search: str = "exact",
    ) -> Tensor:
        """Voice conversion: `sig` with the voice of `reference`, each clip as long as its input.

        Each frame of the qfeats is replaced by the mean of its k nearest frames among the feats of
        the wanted speaker (section on voice conversion of the paper; kNN-VC, arXiv 2305.18975).
        `sig`, `sample_rate` and `lengths` are as for `encode`. Raises a `UserError` as `encode`,
        and for a reference of another encoder or of fewer than k frames.

        Parameters
        ----------
        reference : ReferenceFrames or Tensor
            The wanted speaker's frames: a `ReferenceSet`, or bare feats (R, D).
        k : int
            Number of nearest reference frames; a frame is replaced by their mean.
        sample_rate_output : int, optional
            Rate of the output, Hz; default that of the codec.
        search : {"exact", "faiss"}
            Compare with all frames of the reference, or search an index of them.
        """
        self._check_values()
        frames = as_frames(reference)
        check_k(k, len(frames))
        frames.check_codec(self)
        sig = as_batch(sig)
        lengths = None if lengths is None else as_tensor("lengths", lengths)
        out_rate = self.sample_rate_output if sample_rate_output is None else sample_rate_output
        toks, tok_lengths = self.encode(sig, sample_rate, lengths)
        # each clip alone, because padding changes the last bit, and that may change the neighbours
        clips = [
            self.toks_to_qfeats(clip[None, :end])[0]
            for clip, end in zip(toks, tok_lengths.tolist(), strict=True)
        ]
        qfeats = pad_sequence(clips, batch_first=True)  # (B, N, D)
        ends = tok_lengths.new_tensor([len(clip) for clip in clips])
        qfeats = convert_feats(qfeats, ends, frames, k, search)
        rec_sig, ends = self._part("decoder")(qfeats, lengths=ends)
        rec_sig, _ = resample(rec_sig, self.sample_rate_output, out_rate, ends)
        samples = (full_lengths(sig) if lengths is None else lengths).tolist()
        wanted = torch.tensor([resampled_length(n, sample_rate, out_rate) for n in samples])
        return fit_lengths(rec_sig, wanted.to(rec_sig.device))

    # -- files -----------------------------------------------------------------------------------

    def encode_file(
        self,
        source: AudioSource,
        *,
        channels: Channels = "error",
        window_seconds: float = WINDOW_SECONDS,
        merge: float | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> Tokens:
        """Tokens of an audio file of any format, rate and length, in bounded memory.

        They are those of `encode`, where the file fits one window. Raises a `UserError` as
        `read_audio`, or for a window that is shorter than the model's context.

        Parameters
        ----------
        source : str, path or binary file
            As for `read_audio`.
        channels : {"error", "mix", "first"}
            For a file with several channels: raise an error, average them, or read the first.
        window_seconds : float
            A longer file is encoded in windows of this length, see `long_audio.coding`. The vector
            of the utterance, if the codec has one, is that of the first window.
        merge : float, optional
            As for `encode`.
        progress : callable, optional
            Is called with the seconds of audio that were done since its last call.
        """
        self._check_values()
        name, sha256 = self.name, self.weights_sha256  # all parts are there
        with AudioStream(source, channels=channels) as stream:
            rate = stream.sample_rate
            head = Head(encode_window(self, window_seconds) * rate * bool(self.voice_tokens))
            blocks = head.of(_counted(stream, rate, progress))
            toks = torch.cat([*encode_blocks(self, blocks, rate, window_seconds, merge)])  # (N,)
            header = header_for(self, name, sha256, rate, stream.num_samples, _clip_id(source))
        voice = self.encode_voice(head.sig(), rate)[0].cpu() if self.voice_tokens else None
        return Tokens(toks, header, voice)

    def decode_file(
        self,
        source: Tokens | str | os.PathLike[str] | BinaryIO,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        sample_rate: int | None = None,
        file_format: str | None = None,
        window_seconds: float = WINDOW_SECONDS,
        any_model: bool = False,
        change_feats: Callable[[Tensor], Tensor] | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        """Write the audio of tokens, of any length, in bounded memory: as long as the recording.

        Raises a `UserError` for a damaged token file, tokens of another model, or a format that
        can't be written.

        Parameters
        ----------
        source : Tokens, str, path or binary file
            Tokens, or a token file, `.fct`.
        target : str, path or binary file
            `.wav` or `.flac`, written whole or not at all; a file object must be seekable.
        sample_rate : int, optional
            Rate of the output, Hz; default `sample_rate_output`.
        file_format : {"wav", "flac"}, optional
            Default: by the suffix, "wav" for a file object.
        any_model : bool
            Also decode tokens of a model with other weights.
        change_feats : callable, optional
            As for `long_audio.coding.decode_blocks`: another voice.
        window_seconds, progress
            As for `encode_file`.
        """
        self._check_values()
        tokens = source if isinstance(source, Tokens) else Tokens.load(source)
        header = tokens.header
        if not any_model:
            name = "tokens" if isinstance(source, Tokens) else str(getattr(source, "name", source))
            check_model(header, self.name, self.weights_sha256, name)
        rate = self.sample_rate_output if sample_rate is None else sample_rate
        count = output_samples(header.num_samples, header.sample_rate, rate, self.sample_rate_input)
        blocks = decode_blocks(
            self, tokens.toks, count, rate, window_seconds, change_feats, voice=tokens.voice
        )
        write_blocks(target, _counted(blocks, rate, progress), rate, file_format)

    # -- checks ----------------------------------------------------------------------------------

    def voice_values(self, voice: Tensor | ArrayLike | None, batch: int) -> Tensor | None:
        """Vectors (batch, 6 * voice_tokens) of tokens of `encode_voice`; None without any."""
        if voice is None:
            return None
        if not self.voice_tokens:
            raise UserError(f"voice: {self.name} has no vector of the utterance; leave it out")
        given = as_tensor("voice", voice).to(self._weight.device)
        values = voice_values(given[None] if given.dim() == 1 else given, self.voice_tokens)
        if len(values) not in (1, batch):
            raise UserError(f"voice: of {len(values)} clips, for {batch}; give one each, or one")
        return values.expand(batch, -1)

    def check_num_samples(
        self, num_samples: int | Tensor | ArrayLike, lengths: Tensor, sample_rate: int
    ) -> Tensor:
        """Samples of each clip, (B,) int64, checked against its tokens, `lengths` (B,) int64.

        `num_samples` is one number or (B,) int64, at `sample_rate`, Hz; a `UserError` if it is
        neither, is below 1, or gives more tokens than there are.
        """
        wanted = as_tensor("num_samples", num_samples).to(lengths.device)
        if wanted.dtype != torch.int64 or wanted.shape not in ((), lengths.shape):
            raise UserError(
                f"num_samples: {wanted.dtype} {tuple(wanted.shape)}; give an int or int64"
                f" ({len(lengths)},)"
            )
        wanted = wanted.expand_as(lengths)
        rate = self.sample_rate_input
        samples = [resampled_length(n, sample_rate, rate) for n in wanted.tolist()]
        given = torch.tensor(samples, device=lengths.device)
        frames = self._part("encoder").output_lengths(given)
        toks = self._part("compressor").output_lengths(frames)
        if bool((toks > lengths).any()) or bool((wanted < 1).any()):
            raise UserError(
                f"num_samples: {wanted.tolist()} at {sample_rate} Hz make {toks.tolist()} tokens,"
                f" but there are {lengths.tolist()}; give the number of samples of encode's input"
            )
        return wanted

    def _check_values(self) -> None:
        if self.device.type == "meta":
            raise UserError("codec: on the meta device, without values; load it by from_pretrained")


def _clip_id(source: AudioSource) -> str:
    """Name of a file without its suffix, or "" where there is none that a header can have."""
    name = Path(source).stem if isinstance(source, (str, os.PathLike)) else ""
    return name if name.isprintable() and len(os.fsencode(name)) <= TEXT_BYTES else ""


def _counted(
    blocks: Iterable[Tensor], sample_rate: int, progress: Callable[[float], object] | None
) -> Iterator[Tensor]:
    """Yield the blocks, and report each as done when the next one is requested."""
    for block in blocks:
        yield block
        if progress is not None:
            progress(len(block) / sample_rate)
