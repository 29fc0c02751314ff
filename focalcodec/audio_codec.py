"""Audio of any rate in, audio out: the methods of a codec that check, resample and pad."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resample, resampled_length, validate_sig
from focalcodec.bsq import check_toks
from focalcodec.errors import UserError
from focalcodec.knn import ReferenceFrames, as_frames, check_k, convert_feats
from focalcodec.nn.masking import as_tensor, fit_lengths, full_lengths
from focalcodec.official_codec import OfficialCodec


class AudioCodec(OfficialCodec):
    """The methods of `OfficialCodec`, and the same steps for audio as users have it."""

    @torch.no_grad()
    def encode(
        self, sig: Tensor, sample_rate: int | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Audio to tokens: toks (B, N') int64 in [0, 2^L) and the tokens of each clip, (B,) int64.

        They are the tokens of the published models, and 0 beyond a clip's length. The strided
        convolutions of WavLM cover at most T - 80 samples, in whole frames of 320; `decode`
        fills the rest, at most 25 ms, with silence. Raises a `UserError`
        if `sig` is not (B, T), is empty, integer, NaN or infinite, or `lengths` do not fit.

        Parameters
        ----------
        sig : Tensor
            (B, T) floating point, mono, about [-1, 1].
        sample_rate : int, optional
            Rate of `sig`, Hz; default `sample_rate_input`.
        lengths : Tensor, optional
            (B,) int64, valid samples of each clip at `sample_rate`; default all.
        """
        self._check_values()
        sig = as_tensor("sig", sig)
        lengths = None if lengths is None else as_tensor("lengths", lengths).to(sig.device)
        validate_sig(sig, lengths)
        rate = self.sample_rate_input if sample_rate is None else sample_rate
        sig, lengths = resample(sig, rate, self.sample_rate_input, lengths)
        # at least float32: the encoder of a codec in lower precision decides which steps need it
        dtype = torch.promote_types(self._weight.dtype, torch.float32)
        sig, lengths = sig.to(self._weight.device, dtype), lengths.to(self._weight.device)
        longest = int(lengths.max())
        # clips of one length need no masks
        padded = bool((lengths < longest).any())
        states = {"encoder": (), "compressor": ()}
        lats, frames, _ = self._steps(sig[:, :longest], states, lengths if padded else None)
        lengths = full_lengths(lats) if frames is None else frames
        if not bool(torch.isfinite(lats).all()):
            raise UserError(
                "sig: its features are not finite; scale it to [-1, 1], or take a higher precision"
            )
        return self.lats_to_toks(lats, lengths=lengths), lengths

    @torch.no_grad()
    def decode(
        self,
        toks: Tensor,
        lengths: Tensor | None = None,
        num_samples: int | Tensor | None = None,
        sample_rate: int | None = None,
    ) -> Tensor:
        """Tokens to audio: rec_sig (B, T), zero beyond a clip's length.

        Raises a `UserError` if `toks` are not (B, N'), not integers or out of range, or if
        `lengths` or `num_samples` do not fit them.

        Parameters
        ----------
        toks : Tensor
            (B, N') integer in [0, 2^L).
        lengths : Tensor, optional
            (B,) int64, tokens of each clip; default all.
        num_samples : int or Tensor, optional
            Samples of the output at `sample_rate`: those of the input of `encode`, one number or
            (B,) int64; T is the largest. Default: the duration of the tokens.
        sample_rate : int, optional
            Rate of the output, Hz; default `sample_rate_output`.
        """
        self._check_values()
        toks = as_tensor("toks", toks)
        lengths = check_toks(toks, None if lengths is None else as_tensor("lengths", lengths))
        toks, lengths = toks.to(self._weight.device).long(), lengths.to(self._weight.device)
        codes = self.toks_to_codes(toks, lengths=lengths)  # (B, N', L)
        states = {"decompressor": (), "decoder": ()}
        rec_sig, ends, _ = self._steps(codes, states, lengths)  # (B, T)
        rate = self.sample_rate_output if sample_rate is None else sample_rate
        rec_sig, ends = resample(rec_sig, self.sample_rate_output, rate, ends)
        if num_samples is None:
            return rec_sig
        return fit_lengths(rec_sig, self.check_num_samples(num_samples, lengths, rate))

    @torch.no_grad()
    def convert(
        self,
        sig: Tensor,
        reference: ReferenceFrames | Tensor,
        sample_rate: int | None = None,
        lengths: Tensor | None = None,
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
        sig = as_tensor("sig", sig)
        lengths = None if lengths is None else as_tensor("lengths", lengths)
        rate = self.sample_rate_input if sample_rate is None else sample_rate
        out_rate = self.sample_rate_output if sample_rate_output is None else sample_rate_output
        toks, tok_lengths = self.encode(sig, rate, lengths)
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
        wanted = torch.tensor([resampled_length(n, rate, out_rate) for n in samples])
        return fit_lengths(rec_sig, wanted.to(rec_sig.device))

    def check_num_samples(
        self, num_samples: int | Tensor, lengths: Tensor, sample_rate: int
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
