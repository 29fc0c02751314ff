"""Proof that the graphs of a bundle give what the codec gives, on 10 s of speech of the package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import focalcodec.streaming as streaming
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.nn.masking import valid_mask
from focalcodec.onnx_runtime import DecoderSession, EncoderSession, OnnxCodec

SPEECH = Path(__file__).parents[1] / "models" / "speech.flac"
NEAR_ZERO = 1e-5  # of the latents' root mean square: there a bit may differ
LARGEST_ERROR = 1e-4  # of a sample of the waveform
# Of a value of a state, in its scale; 8e-5 at the size of the paper's causal model
LARGEST_STATE_ERROR = 1e-3
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
    state_error: float = 0.0  # of the state after the first chunk, relative to its root mean square

    @property
    def holds(self) -> bool:
        """Whether all that differs is within rounding."""
        rounding = self.bits - self.equal_bits == self.near_zero
        state = self.state_error <= LARGEST_STATE_ERROR
        return rounding and self.sig_error <= LARGEST_ERROR and state

    @property
    def holds_in_int8(self) -> bool:
        """Whether enough bits are equal for an int8 codec."""
        return self.equal_bits >= LEAST_BITS * self.bits

    def __add__(self, other: Agreement) -> Agreement:
        """That of both: numbers are added, errors are the larger ones."""
        mine, others = astuple(self), astuple(other)
        return Agreement(
            *(a + b for a, b in zip(mine[:5], others[:5], strict=True)),
            # NaN stays NaN
            *(float(np.maximum(a, b)) for a, b in zip(mine[5:], others[5:], strict=True)),
        )

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.equal_toks} of {self.toks} tokens equal, {self.equal_bits} of {self.bits} bits"
            f" ({self.near_zero} of the others of latents near zero), feats within"
            f" {self.feats_error:.1e} of their scale, waveform within {self.sig_error:.1e}"
            + (f", state within {self.state_error:.1e}" if self.state_error else "")
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
        raise UserError("export: a graph has other shapes than the codec; please report it")
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


@torch.no_grad()
def compare_streams(codec: FocalCodec, found: OnnxCodec, sig: Tensor) -> Agreement:
    """Compare the steps of a causal codec on `sig` (T,), chunk by chunk from the first call on.

    It begins at the loudest sample, so that the first call is tested with speech. The first fifth
    comes again at the end: after 10 s the rings of the paper's models wrap around.
    """
    sig = sig.roll(-int(sig.abs().argmax()))
    sig = torch.cat([sig, sig[: len(sig) // 5]])[None]
    encoder, decoder = EncoderSession(found), DecoderSession(found)
    chunks = sig.split(encoder.chunk, dim=1)
    toks = _streamed(streaming.EncoderSession(codec), chunks)
    found_toks = _streamed(encoder, chunks)
    some = toks.split(decoder.chunk, dim=1)
    rec_sig = _streamed(streaming.DecoderSession(codec), some)
    found_sig = _streamed(decoder, some)
    if found_toks.shape != toks.shape or found_sig.shape != rec_sig.shape:
        raise UserError("export: a step has other shapes than the codec; please report it")
    states = [
        _state_error(streaming.EncoderSession(codec), EncoderSession(found), chunks[0]),
        _state_error(streaming.DecoderSession(codec), DecoderSession(found), some[0]),
    ]
    # latents of a stream are those of the whole signal, up to rounding
    lats, _ = codec.compressor(codec.encoder(sig)[0])
    differs, near = _differing_bits(codec, lats, toks, found_toks, torch.ones_like(toks).bool())
    return Agreement(
        toks=toks.numel(),
        equal_toks=int((found_toks == toks).sum()),
        bits=differs.numel(),
        equal_bits=int((~differs).sum()),
        near_zero=int((differs & near).sum()),
        feats_error=0.0,  # a step gives none
        sig_error=float((found_sig - rec_sig).abs().max()),
        state_error=float(np.max(states)),  # NaN stays NaN
    )


def _state_error(session: Any, found: Any, chunk: Tensor) -> float:
    """Largest difference of the state after the first chunk, relative to the scale of its ring."""
    session.push(chunk)
    found.push(chunk)
    state, made = session.state_dict(), found.state_dict()
    rings = [(state[f"engine.{key}"], made[key]) for key in made if key.startswith("ring")]
    errors = [(ring - torch.from_numpy(new)).abs().max() / _scale(ring) for ring, new in rings]
    return float(torch.stack(errors).max())


def _streamed(session: Any, chunks: Iterable[Tensor]) -> Tensor:
    """Output (1, N) of a session of PyTorch or onnxruntime, all chunks and the end."""
    pushed = [torch.as_tensor(session.push(chunk)) for chunk in chunks]
    return torch.cat([*pushed, torch.as_tensor(session.flush())], dim=1)


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
