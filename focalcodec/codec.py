"""The codec: five exchangeable parts, one stream of tokens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resample, resampled_length, validate_sig
from focalcodec.bsq import BinarySphericalQuantizer, check_toks
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub.checkpoints import (
    PART_NAMES,
    check_tensors,
    find_files,
    override,
    read_weights,
    upgrade_config,
    write_checkpoint,
    write_files,
)
from focalcodec.hub.weights import AtMost
from focalcodec.knn import ReferenceFrames, as_frames, check_k, convert_feats
from focalcodec.nn.masking import as_tensor, fit_lengths, full_lengths
from focalcodec.official_codec import DEFAULT_CONFIGS, OfficialCodec
from focalcodec.parts import REGISTRY, Decoder, RateChanger, build_part, check_fit

__all__ = ["DEFAULT_CONFIGS", "REGISTRY", "FocalCodec"]


class FocalCodec(OfficialCodec):
    """Low-bitrate speech codec (arXiv 2502.04465, section 3).

    `sig -> encoder -> feats -> compressor -> lats -> quantizer -> codes, toks` and back
    `codes -> decompressor -> qfeats -> decoder -> rec_sig`. `OfficialCodec` has the methods of
    these steps, such as `sig_to_feats`; `encode`, `decode` and `convert` resample and check.

    A codec is made of parts, by their roles, or of names and configurations, as in `config.json`.
    The parts have the interfaces `Encoder`, `RateChanger` and `Decoder`, see `parts`; parts that do
    not fit together raise a `UserError`.

    Example
    -------
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> codec = FocalCodec(
    ...     encoder=LogMel(n_mels=80),
    ...     compressor=FocalEncoder(80, 13, [32, 32, 32], [1, 1, 1]),
    ...     quantizer=BinarySphericalQuantizer(codebook_size=8192),
    ...     decompressor=FocalDecoder(13, 80, [32, 32, 32], [1, 1, 1]),
    ...     decoder=Vocos(80, num_layers=1, dim=32, ffn_dim=64),
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
        encoder_name: Any = "WavLM",
        encoder_config: Any = None,
        compressor_name: Any = "FocalEncoder",
        compressor_config: Any = None,
        quantizer_name: Any = "BinarySphericalQuantizer",
        quantizer_config: dict[str, Any] | None = None,
        decompressor_name: str = "FocalDecoder",
        decompressor_config: dict[str, Any] | None = None,
        decoder_name: str = "WaveNeXt",
        decoder_config: dict[str, Any] | None = None,
        *,
        encoder: Encoder | None = None,
        compressor: RateChanger | None = None,
        quantizer: BinarySphericalQuantizer | None = None,
        decompressor: RateChanger | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        names = [encoder_name, compressor_name, quantizer_name, decompressor_name, decoder_name]
        configs = [encoder_config, compressor_config, quantizer_config]
        configs += [decompressor_config, decoder_config]
        # five parts may be the first five positional arguments
        first = [encoder_name, encoder_config, compressor_name, compressor_config, quantizer_name]
        parts: dict[str, Any] = {
            part: module
            for part, module in zip(PART_NAMES, first, strict=True)
            if isinstance(module, nn.Module)
        }
        by_role = (encoder, compressor, quantizer, decompressor, decoder)
        parts |= {
            part: module
            for part, module in zip(PART_NAMES, by_role, strict=True)
            if module is not None
        }
        given: dict[str, Any] = {}
        if not parts:
            for part, name, config in zip(PART_NAMES, names, configs, strict=True):
                given |= {f"{part}_name": name, f"{part}_config": dict(config or {})}
                parts[part] = build_part(part, name, given[f"{part}_config"])
        if len(parts) < len(PART_NAMES):
            raise UserError(f"FocalCodec: only {', '.join(parts)}; give {', '.join(PART_NAMES)}")
        check_fit(**parts)
        super().__init__(parts, given or _config_of(parts))

    @property
    def token_rate(self) -> float:
        """Tokens per second, Hz."""
        hop, factor = self._fact("encoder", "hop"), self._fact("compressor", "factor")
        return self.sample_rate_input / hop / factor

    @property
    def bitrate(self) -> float:
        """Bits per second, without entropy coding."""
        return self.token_rate * self.quantizer.dim

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

    # -- checkpoints -----------------------------------------------------------------------------

    @classmethod
    def from_config(
        cls,
        config: str | os.PathLike[str] | dict[str, Any],
        pretrained: bool = False,
        overrides: Mapping[str, Any] | None = None,
        **hub: Any,
    ) -> FocalCodec:
        """Codec of a parsed `config.json` of either generation, or of a file with one.

        The weights are random, or those of the file if `pretrained`. Raises a `UserError` for
        unknown parts, wrong configurations, or parts that do not fit, and as `from_pretrained`.

        Parameters
        ----------
        config : str, path or dict
            As for `from_pretrained`, or a parsed configuration.
        pretrained : bool
            Load the weights; the codec is in eval mode then.
        overrides : dict, optional
            Other values by their paths, such as `{"encoder_config.max_cached_steps": 0}`.
        **hub
            Options for a repository on the hub: `revision`, `token`, `cache_dir` and others.
        """
        if not isinstance(config, (str, os.PathLike)):
            if pretrained:
                raise UserError("config: a dict has no weights; give a name, or pretrained=False")
            return cls(**upgrade_config(override(upgrade_config(config), overrides)))
        path, weights = find_files(config, weights=pretrained, **hub)
        parsed, tensors = read_json(path), {} if weights is None else read_weights(weights)
        try:
            with nullcontext() if weights is None else AtMost([weights]):
                codec = cls(**upgrade_config(override(upgrade_config(parsed), overrides)))
        except UserError as error:
            raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
        codec.model_id = str(config)
        if weights is None:
            return codec
        check_tensors(weights, tensors, codec.state_dict())
        codec.load_state_dict(tensors)
        # where the default dtype of torch is another
        return codec.float().eval()

    @classmethod
    def from_pretrained(
        cls,
        config: str | os.PathLike[str],
        overrides: Mapping[str, Any] | str | None = None,
        **hub: Any,
    ) -> FocalCodec:
        """Codec of the package, of files, or of a hub repository or its cache; in eval mode.

        `config` is `demo`, a folder, a `.json` file with the weights beside it, or a repository
        such as `lucadellalib/focalcodec_50hz`, of which `revision=` is a branch, tag or commit;
        `token=` is an access token, and `cache_dir=` by default that of `huggingface_hub`. A string
        in the place of `overrides` is a revision too. The codec is on the CPU. Raises a `UserError`
        if there is no such checkpoint, a file is damaged, or the tensors are those of another
        model.
        """
        if isinstance(overrides, str):
            overrides, hub = None, {"revision": overrides, **hub}
        return cls.from_config(config, pretrained=True, overrides=overrides, **hub)

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json` of this codec."""
        return _config_of({part: self._part(part) for part in PART_NAMES})

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write `config.json` and `model.safetensors`, atomically; dtype: `stored_tensors`."""
        write_checkpoint(folder, self.config, self.state_dict(), dtype)

    def to_config(self, config: str | os.PathLike[str], pretrained: bool = False) -> None:
        """Write the configuration that this codec was made of to a `.json` file, as it was given.

        `pretrained` also writes the weights, with `.safetensors`.
        """
        path = Path(config)
        path = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
        keys = [f"{part}_{kind}" for part in PART_NAMES for kind in ("name", "config")]
        given = {key: getattr(self, key) for key in keys}
        for part in PART_NAMES:
            module, first = getattr(self, part, None), self._facts.get((part, "config"))
            if getattr(module, "config", first) != first:  # it took the place of the first
                given |= _config_of({part: module})
        weights = path.with_suffix(".safetensors") if pretrained else None
        tensors = self.state_dict() if pretrained and self.config else {}
        write_files(path, given, weights, tensors)

    def to_pretrained(self, config: str | os.PathLike[str]) -> None:
        """Write configuration and weights, as `to_config`."""
        self.to_config(config, pretrained=True)


def _config_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for part, module in parts.items():
        config[f"{part}_name"] = type(module).__name__
        config[f"{part}_config"] = dict(module.config)
    return config
