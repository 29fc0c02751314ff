"""Proof that the graphs of a bundle give what the codec gives, on 10 s of speech of the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask
from focalcodec.onnx_runtime import OnnxCodec

SPEECH = Path(__file__).parents[1] / "models" / "speech.flac"
NEAR_ZERO = 1e-5  # of the latents' root mean square: there a bit may differ
LARGEST_ERROR = 1e-4  # of a sample of the waveform
LEAST_BITS = 0.985  # equal bits of an int8 codec


@dataclass(frozen=True)
class Agreement:
    """How far the graphs and the codec agree: numbers of tokens and bits, and sizes of errors."""

    toks: int
    equal_toks: int
    bits: int
    equal_bits: int
    near_zero: int  # bits that differ, of latents near zero
    feats_error: float  # largest, relative to the root mean square
    sig_error: float  # largest difference of a sample

    @property
    def holds(self) -> bool:
        """Whether all that differs is within rounding."""
        rounding = self.bits - self.equal_bits == self.near_zero
        return rounding and self.sig_error <= LARGEST_ERROR

    @property
    def holds_in_int8(self) -> bool:
        """Whether enough bits are equal for an int8 codec."""
        return self.equal_bits >= LEAST_BITS * self.bits

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.equal_toks} of {self.toks} tokens equal, {self.equal_bits} of {self.bits} bits"
            f" ({self.near_zero} of the others of latents near zero), feats within"
            f" {self.feats_error:.1e} of their scale, waveform within {self.sig_error:.1e}"
        )


@torch.no_grad()
def compare(codec: FocalCodec, found: OnnxCodec, sig: Tensor) -> Agreement:
    """Compare both on `sig` (T,), in a batch with a shorter clip."""
    batch = torch.stack([sig, sig.roll(len(sig) // 3)])
    lengths = torch.tensor([len(sig), 2 * len(sig) // 5])
    feats, frames = codec.encoder(batch, lengths=lengths)
    lats, ends = codec.compressor(feats, lengths=frames)
    toks, codes = codec.quantizer(lats, lengths=ends)
    outputs = found.bundle.run("encoder", {"sig": batch.numpy(), "lengths": lengths.numpy()})
    expected = [feats, frames, toks, ends]
    if any(a.shape != tuple(b.shape) for a, b in zip(outputs, expected, strict=True)):
        raise UserError("onnx: a graph has other shapes than the codec; please report it")
    found_toks = torch.from_numpy(outputs[2])
    valid = valid_mask(ends, toks.shape[1])
    differs, near = _differing_bits(codec, lats, toks, found_toks, valid)
    qfeats, qends = codec.decompressor(codes, lengths=ends)
    rec_sig, _ = codec.decoder(qfeats, lengths=qends)
    found_sig, _ = found.decode(toks.numpy(), lengths=ends.numpy())
    return Agreement(
        toks=int(ends.sum()),
        equal_toks=int(((found_toks == toks) & valid).sum()),
        bits=int(ends.sum()) * codes.shape[2],
        equal_bits=int(ends.sum()) * codes.shape[2] - int(differs.sum()),
        near_zero=int((differs & near).sum()),
        feats_error=float((torch.from_numpy(outputs[0]) - feats).abs().max() / _scale(feats)),
        sig_error=float((torch.from_numpy(found_sig) - rec_sig).abs().max()),
    )


def _differing_bits(
    codec: FocalCodec, lats: Tensor, toks: Tensor, found: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Codes (B, N, L) that differ, and those of latents so near to a border that they may."""
    quantizer = codec.quantizer
    differs = quantizer.toks_to_codes(toks) != quantizer.toks_to_codes(found)
    margin = NEAR_ZERO * _scale(lats[valid])
    near = quantizer.lats_to_codes(lats + margin) != quantizer.lats_to_codes(lats - margin)
    return differs & valid[..., None], near


def _scale(x: Tensor) -> Tensor:
    """Root mean square."""
    return x.square().mean().sqrt().clamp(min=1e-30)
