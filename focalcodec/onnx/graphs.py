"""The graphs of a codec: what each computes, and the names and axes of its inputs and outputs.

An axis is a number, or the name of a size that may differ from call to call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.codec import FocalCodec
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from focalcodec.streaming.steps import DecoderStep, EncoderStep

Axes = tuple[str | int, ...]


@dataclass(frozen=True)
class Graph:
    """A module that is exported as one graph.

    `inputs` are its arguments in order, with example values, for which no axis with a name has the
    size 0 or 1. `axes` are those of all inputs and outputs; `outputs` are names in order.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    axes: Mapping[str, Axes]
    chunk: int = 0  # of a step: samples or tokens of a chunk
    frames: tuple[int, ...] = ()  # of a step: new frames of each ring in a chunk


class EncoderGraph(nn.Module):
    """Audio to feats and toks."""

    def __init__(self, codec: FocalCodec) -> None:
        super().__init__()
        self.encoder, self.compressor = codec.encoder, codec.compressor
        self.quantizer = codec.quantizer

    def forward(self, sig: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map sig (B, T) and its samples (B,) to feats (B, N, D) and toks (B, N'), with lengths."""
        feats, frames = self.encoder(sig, lengths=lengths)
        lats, ends = self.compressor(feats, lengths=frames)
        toks, _ = self.quantizer(lats, lengths=ends)
        return feats, frames, toks, ends


class DecompressorGraph(nn.Module):
    """Toks to qfeats."""

    def __init__(self, codec: FocalCodec) -> None:
        super().__init__()
        self.quantizer, self.decompressor = codec.quantizer, codec.decompressor

    def forward(self, toks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map toks (B, N') and their number (B,) to qfeats (B, N, D) and their number."""
        return self.decompressor(self.quantizer.toks_to_codes(toks), lengths=lengths)


class DecoderGraph(nn.Module):
    """Feats, or qfeats, to audio."""

    def __init__(self, codec: FocalCodec) -> None:
        super().__init__()
        self.decoder = codec.decoder

    def forward(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map feats (B, N, D) and their number (B,) to rec_sig (B, T) and its samples (B,)."""
        return self.decoder(feats, lengths=lengths)


class StepGraph(nn.Module):
    """A step of a stream, whose rings are arguments and whose new frames are results."""

    def __init__(self, step: EncoderStep | DecoderStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor, chunks: Tensor, *rings: Tensor) -> tuple[Tensor, ...]:
        """Output of a chunk x, and the new frames of each ring."""
        y, new = self.step(x, chunks, rings)
        return (y, *new)


def graphs_of(codec: FocalCodec) -> dict[str, Graph]:
    """Graphs of a codec by their names: three, and for a causal codec a step in each direction."""
    hop = codec.hop_length
    samples, frames, toks = _sizes(codec)
    lengths = torch.tensor([samples, samples - 2 * hop])
    dim = codec.encoder.dim
    graphs = {
        "encoder": Graph(
            EncoderGraph(codec),
            {"sig": torch.randn(2, samples) / 10, "lengths": lengths},
            ("feats", "feats_lengths", "toks", "toks_lengths"),
            {
                "sig": ("batch", "samples"),
                "lengths": ("batch",),
                "feats": ("batch", "frames", dim),
                "feats_lengths": ("batch",),
                "toks": ("batch", "tokens"),
                "toks_lengths": ("batch",),
            },
        ),
        "decompressor": Graph(
            DecompressorGraph(codec),
            {"toks": torch.zeros(2, toks, dtype=torch.int64), "lengths": torch.tensor([toks, 2])},
            ("qfeats", "qfeats_lengths"),
            {
                "toks": ("batch", "tokens"),
                "lengths": ("batch",),
                "qfeats": ("batch", "frames", dim),
                "qfeats_lengths": ("batch",),
            },
        ),
        "decoder": Graph(
            DecoderGraph(codec),
            {"feats": torch.randn(2, frames, dim), "lengths": torch.tensor([frames, 2])},
            ("rec_sig", "rec_sig_lengths"),
            {
                "feats": ("batch", "frames", dim),
                "lengths": ("batch",),
                "rec_sig": ("batch", "samples"),
                "rec_sig_lengths": ("batch",),
            },
        ),
    }
    return graphs | (_steps(codec) if codec.causal else {})


def _sizes(codec: FocalCodec) -> tuple[int, int, int]:
    """Samples, frames and tokens of an example of about a second."""
    toks = max(8, round(codec.frame_rate))
    return toks * codec.hop_length, toks * codec.compressor.factor, toks


def _steps(codec: FocalCodec) -> dict[str, Graph]:
    encoder, decoder = EncoderStep(codec), DecoderStep(codec)
    toks = torch.zeros(2, decoder.chunk_toks, dtype=torch.int64)
    return {
        "encoder_step": _step(
            encoder, "sig", "samples", torch.zeros(2, encoder.chunk_samples), "toks", "tokens"
        ),
        "decoder_step": _step(decoder, "toks", "tokens", toks, "rec_sig", "samples"),
    }


def _step(
    step: EncoderStep | DecoderStep, given: str, items: str, chunk: Tensor, made: str, outputs: str
) -> Graph:
    """Graph of a step, which takes a chunk; only the last one of a stream may be shorter."""
    rings = {f"ring{i}": torch.zeros(2, *shape) for i, shape in enumerate(step.shapes)}
    axes: dict[str, Axes] = {given: ("batch", items), "chunks": ("batch",)}
    axes |= {name: ("batch", *ring.shape[1:]) for name, ring in rings.items()}
    axes[made] = ("batch", outputs)
    axes |= {f"new{i}": ("batch", f"frames{i}", *s[1:]) for i, s in enumerate(step.shapes)}
    news = tuple(f"new{i}" for i in range(len(rings)))
    inputs = {given: chunk, "chunks": torch.tensor([2, 0]), **rings}
    return Graph(StepGraph(step), inputs, (made, *news), axes, chunk.shape[1], tuple(step.counts))


def check_exported(codec: FocalCodec, runtime: str = "ONNX") -> None:
    """Raise a `UserError`, which names the `runtime`, for a codec that can't be exported."""
    reason = ""
    if codec.voice_tokens:
        reason = f"its utterances have a vector (voice_tokens={codec.voice_tokens})"
    elif codec.packed_sha256 is not None:
        reason = "its weights are packed; load it again"
    elif codec.num_codebooks != 1:
        reason = f"its frames have {codec.num_codebooks} tokens"
    elif any(not codec._facts[part, "lengths"] for part in ("encoder", "compressor", "decoder")):
        reason = "a part takes no lengths"
    elif isinstance(codec.encoder, SpeechEncoder):
        reason = "the calls of a transformers encoder depend on the lengths of the clips"
    if reason:
        raise UserError(f"{codec.name}: can't be exported to {runtime}: {reason}")


def dynamic_shapes(graph: Graph) -> tuple[Any, ...]:
    """Which axes of the inputs may change, for `torch.export`."""
    shapes = []
    for name in graph.inputs:
        names = [i for i, axis in enumerate(graph.axes[name]) if isinstance(axis, str)]
        shapes.append(dict.fromkeys(names, torch.export.Dim.DYNAMIC))
    if isinstance(graph.module, StepGraph):
        return (*shapes[:2], tuple(shapes[2:]))
    return tuple(shapes)
