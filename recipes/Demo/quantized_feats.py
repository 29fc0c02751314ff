"""Feats after a codec's quantizer, used instead of the encoder's clean ones; tried, not kept.

Stage 2 trains the decoder on clean feats. In a codec its input is the output of the decompressor,
which is smoother. A decoder that is tuned on this input may compensate for the difference;
docs/demo.md has the results.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from focalcodec.encoders import Encoder
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.nn.official import OfflineEncoder
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
        feats, frames = self.clean.run(sig, lengths)  # (B, N, D), (B,)
        lats, lat_frames = self.compressor(feats, lengths=frames)  # (B, N', L), (B,)
        codes = self.quantizer.lats_to_codes(lats)  # (B, N', L)
        codes = zero_padding(codes, valid_mask(lat_frames, codes.shape[1]))
        # A token at 25 or 12.5 Hz may last longer than the clip.
        qfeats = self.decompressor(codes, lengths=lat_frames)[0][:, : feats.shape[1]]  # (B, N, D)
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
    return QuantizedFeats(found.encoder, *inner).eval()
