"""Feats after a codec's quantizer, as input of the decoder in stage 2.

Stage 2 trains the decoder on clean feats. In a codec its input is the output of the decompressor,
which is smoother. A decoder that also gets this input in training can compensate for the
difference. `QuantizedFeats` is an encoder of such feats; `CodecInput` mixes them with clean ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from focalcodec.data.dataset import AudioBatch
from focalcodec.data.randomness import clip_draws
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder, is_described
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.nn.official import OfflineEncoder
from focalcodec.training.improvements import voice_of
from focalcodec.training.run.trained import load_trained


class QuantizedFeats(OfflineEncoder):
    """Encoder, compressor, quantizer and decompressor as one frozen encoder: sig to qfeats.

    Parameters
    ----------
    encoder, compressor, quantizer, decompressor : nn.Module
        Parts of a codec. The encoder is kept as `clean`, because an export combines the trained
        decoder with it (see `focalcodec.encoders.Encoder`).

    Example
    -------
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> inner = FocalEncoder(8, 4, [4], [1]), FocalDecoder(4, 8, [4], [1])
    >>> encoder = QuantizedFeats(LogMel(n_mels=8), inner[0], BinarySphericalQuantizer(16), inner[1])
    >>> qfeats, lengths = encoder.run(torch.zeros(1, 1600))
    >>> qfeats.shape, lengths
    (torch.Size([1, 5, 8]), tensor([5]))
    """

    def __init__(self, encoder: Any, compressor: Any, quantizer: Any, decompressor: Any) -> None:
        super().__init__()
        self.clean: Encoder = encoder
        self.compressor, self.quantizer = compressor, quantizer
        self.decompressor = decompressor
        self.sample_rate, self.hop, self.dim = encoder.sample_rate, encoder.hop, encoder.dim
        self.max_seconds, self.teacher = getattr(encoder, "max_seconds", None), None
        self.config: dict[str, Any] = {
            "encoder": describe_encoder(encoder)["name"],
            "encoder_config": encoder.config,
            "compressor_config": compressor.config,
            "decompressor_config": decompressor.config,
        }

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames for a number of samples, int64 of any shape."""
        return self.clean.output_lengths(lengths)

    @torch.no_grad()
    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pass sig (B, T), lengths (B,) through the codec -> qfeats (B, N, D), lengths (B,)."""
        return self.quantize(*self.clean.run(sig, lengths))

    @torch.no_grad()
    def quantize(self, feats: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pass feats (B, N, D), frames (B,) through the parts behind the encoder."""
        lats, lat_frames = self.compressor(feats, lengths=frames)  # (B, N', L), (B,)
        codes = self.quantizer.lats_to_codes(lats)  # (B, N', L)
        codes = zero_padding(codes, valid_mask(lat_frames, codes.shape[1]))
        given = voice_of(self.compressor, feats, frames)
        qfeats, _ = self.decompressor(codes, lengths=lat_frames, **given)  # (B, >= N, D)
        # A token at 25 or 12.5 Hz may last longer than the clip.
        qfeats = qfeats[:, : feats.shape[1]]  # (B, N, D)
        return zero_padding(qfeats, valid_mask(frames, qfeats.shape[1])), frames


def quantized_feats(source: str | Path, trust: Collection[str] = ()) -> QuantizedFeats:
    """Load a codec without its decoder, as an encoder in eval mode.

    Parameters
    ----------
    source : str or path
        Run of stage 1, codec folder or hub repository.
    trust : collection of str
        Modules whose classes may be its parts.

    Raises
    ------
    UserError
        The source is none of these, or has no quantizer.
    """
    found = load_trained(source, trust)
    inner = (found.part(name) for name in ("compressor", "quantizer", "decompressor"))
    return QuantizedFeats(found.encoder_for(), *inner).eval()


class CodecInput:
    """Input of the decoder in stage 2: for a share of the clips, feats after a codec's quantizer.

    Parameters
    ----------
    given : mapping
        `codec_input` of a YAML: `source`, a run of stage 1, codec folder or hub repository, and
        `share`, the probability of its feats for each clip of each training step, above 0.
    encoder : Encoder
        The run's. If it is that of the source too, clean feats, also those of a cache, are passed
        on; otherwise the source's own encoder gets the clips.
    trust : collection of str
        Modules whose classes may be parts of the source.
    clip_rate : int, optional
        Sample rate of the clips, Hz; default that of the encoder.

    Raises
    ------
    UserError
        Other keys or values; no such source, or one whose feats do not fit the encoder's; another
        encoder, for clips at another rate.
    """

    def __init__(
        self,
        given: Any,
        encoder: Encoder,
        trust: Collection[str] = (),
        clip_rate: int | None = None,
    ) -> None:
        if not isinstance(given, Mapping) or given.keys() != {"source", "share"}:
            raise UserError(f"codec_input={given!r}: give {{source: run or codec, share: 0.5}}")
        self.share = given["share"]
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)):
            raise UserError(f"codec_input: share={self.share!r}; give a number up to 1")
        if not 0 < self.share <= 1:
            raise UserError(f"codec_input: share={self.share}; give a number above 0, up to 1")
        self.codec = quantized_feats(given["source"], trust).requires_grad_(False)
        for name in ("sample_rate", "hop", "dim"):
            theirs, ours = getattr(self.codec, name), getattr(encoder, name)
            if theirs != ours:
                raise UserError(
                    f"codec_input: source={given['source']}: {name} is {theirs}, the encoder's is"
                    f" {ours}; name a stage 1 for the same feats"
                )
        self.same_encoder = is_described(encoder, describe_encoder(self.codec.clean))
        if not self.same_encoder and clip_rate not in (None, encoder.sample_rate):
            raise UserError(
                f"codec_input: source={given['source']}: has another encoder than this run, which"
                f" can't have clips of {clip_rate} Hz; name a stage 1 with the same encoder"
            )

    def to(self, device: torch.device) -> CodecInput:
        """Move the codec."""
        self.codec.to(device)
        return self

    def mix(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, draw: tuple[int, int, int] | None
    ) -> tuple[Tensor, Tensor]:
        """Replace the feats (B, N, D), frames (B,) of some clips of a batch.

        `draw` is seed, epoch and step; together with a clip's ID they decide. None: all clips.
        """
        chosen = torch.ones(len(feats), dtype=torch.bool)
        if draw is not None:
            chosen = clip_draws("codec_input", batch.id, draw) < self.share
        chosen = chosen.to(feats.device)  # (B,) bool
        if not bool(chosen.any()):
            return feats, frames
        if self.same_encoder:
            qfeats, ends = self.codec.quantize(feats[chosen], frames[chosen])
        else:
            qfeats, ends = self.codec.run(batch.sig[chosen], batch.lengths[chosen])
        ends = torch.minimum(frames[chosen], ends)
        length = feats.shape[1]
        qfeats = pad(qfeats, (0, 0, 0, max(0, length - qfeats.shape[1])))[:, :length]
        qfeats = zero_padding(qfeats, valid_mask(ends, length))
        mixed, frames = feats.clone(), frames.clone()
        mixed[chosen], frames[chosen] = qfeats.to(mixed), ends
        return mixed, frames

    @torch.no_grad()
    def voice(
        self, feats: Tensor, frames: Tensor, batch: AudioBatch, draw: tuple[int, int, int] | None
    ) -> dict[str, Tensor]:
        """Vector of each utterance as an argument of the decoder, as in stage 1.

        `feats` (B, N, D), `frames` (B,) are clean; `draw` as for `mix`.
        """
        if not self.same_encoder:
            feats, frames = self.codec.clean.run(batch.sig, batch.lengths)
        return voice_of(self.codec.compressor, feats, frames, batch, draw)


def check_vector(decoder: Any, source: CodecInput | None) -> None:
    """Raise if a decoder takes another vector of an utterance than the source gives."""
    wanted = getattr(decoder, "voice_tokens", 0)
    given = 0 if source is None else getattr(source.codec.compressor, "voice_tokens", 0)
    if wanted and wanted != given:
        raise UserError(
            f"voice_tokens={wanted}: the vector comes from the stage 1 that codec_input names,"
            f" which has {given} tokens; name one with as many"
        )
