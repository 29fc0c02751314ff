"""The codec: five exchangeable parts, one stream of tokens."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resample, resampled_length, validate_sig
from focalcodec.bsq import BinarySphericalQuantizer, check_toks
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.hub.checkpoints import (
    CONFIG_NAME,
    PART_NAMES,
    WEIGHTS_NAME,
    check_tensors,
    find_checkpoint,
    read_checkpoint,
    upgrade_config,
    write_checkpoint,
)
from focalcodec.hub.weights import AtMost
from focalcodec.knn import ReferenceFrames, as_frames, check_k, convert_feats
from focalcodec.nn.masking import as_tensor, fit_lengths, full_lengths, valid_mask, zero_padding
from focalcodec.parts import Decoder, RateChanger, build_part, check_fit


class FocalCodec(nn.Module):
    """Low-bitrate speech codec (arXiv 2502.04465, section 3).

    `sig -> encoder -> feats -> compressor -> lats -> quantizer -> codes, toks` and back
    `codes -> decompressor -> qfeats -> decoder -> rec_sig`. The step methods take and return
    tensors; their outputs are zero on padded positions, and a clip gives the same values alone and
    in any padded batch. `encode` and `decode` add resampling and validation.

    The parts have the interfaces `Encoder`, `RateChanger` and `Decoder`, see `parts`; parts that do
    not fit together raise a `UserError`.

    Example
    -------
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> codec = FocalCodec(
    ...     LogMel(n_mels=80),
    ...     FocalEncoder(80, 13, [32, 32, 32], [1, 1, 1]),
    ...     BinarySphericalQuantizer(codebook_size=8192),
    ...     FocalDecoder(13, 80, [32, 32, 32], [1, 1, 1]),
    ...     Vocos(80, num_layers=1, dim=32, ffn_dim=64),
    ... ).eval()
    >>> toks, lengths = codec.encode(torch.randn(1, 16000), sample_rate=16000)
    >>> toks.shape, lengths
    (torch.Size([1, 50]), tensor([50]))
    >>> codec.decode(toks, lengths=lengths, num_samples=16000).shape
    torch.Size([1, 16000])
    >>> codec.convert(torch.randn(1, 4001), reference=torch.randn(90, 80)).shape
    torch.Size([1, 4001])
    >>> codec.bitrate
    650.0
    """

    def __init__(
        self,
        encoder: Encoder,
        compressor: RateChanger,
        quantizer: BinarySphericalQuantizer,
        decompressor: RateChanger,
        decoder: Decoder,
    ) -> None:
        super().__init__()
        check_fit(encoder, compressor, quantizer, decompressor, decoder)
        self.encoder: Encoder = encoder
        self.compressor: RateChanger = compressor
        self.quantizer = quantizer
        self.decompressor: RateChanger = decompressor
        self.decoder: Decoder = decoder

    # -- properties ------------------------------------------------------------------------------

    @property
    def sample_rate_input(self) -> int:
        """Sample rate of the encoder's input, Hz."""
        return self.encoder.sample_rate

    @property
    def sample_rate_output(self) -> int:
        """Sample rate of the decoder's output, Hz: one decoder hop for each frame of feats."""
        return self.decoder.hop * self.encoder.sample_rate // self.encoder.hop

    @property
    def codebook(self) -> Tensor:
        """All codes, (2^L, L), in the order of their toks, on the codec's device."""
        return self.quantizer.codebook.to(self._weight)

    @property
    def token_rate(self) -> float:
        """Tokens per second, Hz."""
        return self.encoder.sample_rate / self.encoder.hop / self.compressor.factor

    @property
    def bitrate(self) -> float:
        """Bits per second, without entropy coding."""
        return self.token_rate * self.quantizer.dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        """Any weight: it has the device and the dtype."""
        return next(self.compressor.parameters())

    # -- one step --------------------------------------------------------------------------------

    def sig_to_feats(self, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode. sig (B, T), lengths in samples (B,) int64 -> feats (B, N, D)."""
        return self.encoder(sig, lengths=lengths)[0]

    def feats_to_lats(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compress. feats (B, N, D), lengths in frames (B,) int64 -> lats (B, N', L)."""
        return self.compressor(feats, lengths=lengths)[0]

    def lats_to_codes(self, lats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Quantize. lats (B, N', L), lengths in frames (B,) -> codes (B, N', L) +-1/sqrt(L)."""
        return _zero(self.quantizer.lats_to_codes(lats), lengths)

    def lats_to_toks(self, lats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Quantize. lats (B, N', L), lengths in frames (B,) -> toks (B, N') int64."""
        return _zero(self.quantizer.lats_to_toks(lats), lengths)

    def codes_to_toks(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Index codes. codes (B, N', L), lengths in frames (B,) -> toks (B, N') int64."""
        return _zero(self.quantizer.codes_to_toks(codes), lengths)

    def toks_to_codes(self, toks: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Look up codes. toks (B, N') int64, lengths in frames (B,) -> codes (B, N', L)."""
        codes = self.quantizer.toks_to_codes(_zero(toks, lengths)).to(self._weight.dtype)
        return _zero(codes, lengths)

    def codes_to_qfeats(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Decompress. codes (B, N', L), lengths in frames (B,) -> qfeats (B, N'', D)."""
        return self.decompressor(codes, lengths=lengths)[0]

    def feats_to_sig(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Decode. feats or qfeats (B, N, D), lengths in frames (B,) -> rec_sig (B, N * hop)."""
        return self.decoder(feats, lengths=lengths)[0]

    # -- several steps ---------------------------------------------------------------------------

    def sig_to_toks(self, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Tokenize. sig (B, T), lengths in samples (B,) int64 -> toks (B, N') int64."""
        return self.lats_to_toks(*self._sig_to_lats(sig, lengths))

    def sig_to_qfeats(self, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pass the bottleneck. sig (B, T), lengths in samples (B,) -> qfeats (B, N'', D)."""
        lats, frames = self._sig_to_lats(sig, lengths)
        return self.codes_to_qfeats(self.lats_to_codes(lats, frames), lengths=frames)

    def toks_to_qfeats(self, toks: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Decompress. toks (B, N') int64, lengths in frames (B,) -> qfeats (B, N'', D)."""
        return self.codes_to_qfeats(self.toks_to_codes(toks, lengths), lengths=lengths)

    def toks_to_sig(self, toks: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Synthesise. toks (B, N') int64, lengths in frames (B,) -> rec_sig (B, N'' * hop)."""
        qfeats, frames = self.decompressor(
            self.toks_to_codes(toks, lengths=lengths), lengths=lengths
        )
        return self.feats_to_sig(qfeats, lengths=frames)

    # -- with checks and resampling --------------------------------------------------------------

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
        lats, lengths = self._sig_to_lats(sig[:, :longest], lengths if padded else None)
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
        rec_sig, ends = self.decoder(*self.decompressor(codes, lengths=lengths))  # (B, T)
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
        rec_sig, ends = self.decoder(convert_feats(qfeats, ends, frames, k, search), lengths=ends)
        rec_sig, _ = resample(rec_sig, self.sample_rate_output, out_rate, ends)
        samples = (full_lengths(sig) if lengths is None else lengths).tolist()
        wanted = torch.tensor([resampled_length(n, rate, out_rate) for n in samples])
        return fit_lengths(rec_sig, wanted.to(rec_sig.device))

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Resynthesis. sig (B, T), lengths in samples (B,) -> rec_sig (B, ~T), lengths (B,)."""
        lats, frames = self._sig_to_lats(sig, lengths)
        return self.decoder(
            *self.decompressor(self.lats_to_codes(lats, lengths=frames), lengths=frames)
        )

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
        frames = self.encoder.output_lengths(torch.tensor(samples, device=lengths.device))
        toks = self.compressor.output_lengths(frames)
        if bool((toks > lengths).any()) or bool((wanted < 1).any()):
            raise UserError(
                f"num_samples: {wanted.tolist()} at {sample_rate} Hz make {toks.tolist()} tokens,"
                f" but there are {lengths.tolist()}; give the number of samples of encode's input"
            )
        return wanted

    def _check_values(self) -> None:
        if self.device.type == "meta":
            raise UserError("codec: on the meta device, without values; load it by from_pretrained")

    def _sig_to_lats(self, sig: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.compressor(*self.encoder(sig, lengths=lengths))

    # -- checkpoints -----------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FocalCodec:
        """Codec with random weights from a parsed `config.json` of either generation.

        Raises a `UserError` for unknown parts, wrong configurations, or parts that do not fit.
        """
        config = upgrade_config(config)
        parts: dict[str, Any] = {
            part: build_part(part, config[f"{part}_name"], config[f"{part}_config"])
            for part in PART_NAMES
        }
        return cls(**parts)

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json` of this codec."""
        config: dict[str, Any] = {}
        for part in PART_NAMES:
            module: Any = getattr(self, part)
            config[f"{part}_name"] = type(module).__name__
            config[f"{part}_config"] = dict(module.config)
        return config

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> FocalCodec:
        """Codec of the package, of a folder, or of a hub repository or its cache; in eval mode.

        `source` is `demo`, a folder, or a repository such as `lucadellalib/focalcodec_50hz`, of
        which `revision` is a branch, tag or commit; `cache_dir` is by default that of
        `huggingface_hub`. The codec is on the CPU. Raises a `UserError` if there is no such
        checkpoint, a file is damaged, or the tensors are those of another model.
        """
        folder = find_checkpoint(source, revision, token, cache_dir)
        config, tensors = read_checkpoint(folder)
        try:
            with AtMost([folder / WEIGHTS_NAME]):
                codec = cls.from_config(config)
        except UserError as error:
            raise UserError(f"{folder / CONFIG_NAME}: {error}") from error
        check_tensors(folder / WEIGHTS_NAME, tensors, codec.state_dict())
        codec.load_state_dict(tensors)
        # where the default dtype of torch is another
        return codec.float().eval()

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write `config.json` and `model.safetensors`, atomically; dtype: `stored_tensors`."""
        write_checkpoint(folder, self.config, self.state_dict(), dtype)


def _zero(x: Tensor, lengths: Tensor | None) -> Tensor:
    return x if lengths is None else zero_padding(x, valid_mask(lengths, x.shape[1]))
