"""The graphs of a codec for ExecuTorch: of one clip, without lengths and complex numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.codec import FocalCodec
from focalcodec.encoders.logmel import LogMel
from focalcodec.nn.masking import full_lengths
from focalcodec.onnx.graphs import DecoderGraph, DecompressorGraph, EncoderGraph, Graph, graphs_of

SECONDS = 10.0  # the longest clip: the memory of a program is planned for it


def _whole(part: Any, x: Tensor) -> Tensor:
    """Output of a part for a clip without padding; parts of this package then make no masks."""
    return part.run(x)[0] if hasattr(part, "run") else part(x, lengths=full_lengths(x))[0]


class _Encoder(EncoderGraph):
    def forward(self, sig: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Map sig (1, T) to feats (1, N, D) and toks (1, N')."""
        feats = _whole(self.encoder, sig)
        return feats, self.quantizer(_whole(self.compressor, feats))[0]


class _Decompressor(DecompressorGraph):
    def forward(self, toks: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Map toks (1, N') to qfeats (1, N, D)."""
        return (_whole(self.decompressor, self.quantizer.toks_to_codes(toks)),)


class _Decoder(DecoderGraph):
    def forward(self, feats: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Map feats (1, N, D) to rec_sig (1, T)."""
        return (_whole(self.decoder, feats),)


class RealMagnitudes(nn.Module):
    """`magnitudes` as two products with real matrices: ExecuTorch has no complex numbers."""

    cos: Tensor
    sin: Tensor

    def __init__(self, window: Tensor) -> None:
        super().__init__()
        size = len(window)
        times, bins = torch.arange(size)[:, None], torch.arange(size // 2 + 1)
        angle = 2 * math.pi / size * (times * bins % size).double()
        self.register_buffer("cos", (angle.cos() * window[:, None]).float())
        self.register_buffer("sin", (angle.sin() * window[:, None]).float())

    def forward(
        self, sig: Tensor, window: Tensor, n_fft: int, hop: int, after_past: bool = False
    ) -> Tensor:
        """Spectrogram (B, n_fft // 2 + 1, N) of sig (B, T)."""
        past, hops = n_fft - hop, -(-n_fft // hop)  # hops that a window reaches into
        frames = (sig.shape[1] - past * after_past + hop - 1) // hop
        before = 0 if after_past else past // 2
        after = (frames - 1 + hops) * hop - before - sig.shape[1]
        parts = F.pad(sig, (before, after)).unflatten(1, (frames - 1 + hops, hop))
        shifted = [parts[:, shift : shift + frames] for shift in range(hops)]
        windows = torch.cat(shifted, dim=2)[..., :n_fft]  # (B, N, n_fft)
        real, imag = windows @ self.cos, windows @ self.sin
        return (real.square() + imag.square()).sqrt().mT


def overlap_add(
    frames: Tensor, output: list[int], kernel: list[int], _dilation: Any, _pad: Any, step: list[int]
) -> Tensor:
    """`aten.col2im` of frames (B, n_fft, N) of the inverse STFT, as a sum of shifted parts.

    PyTorch's own decomposition is an `index_put`, on which the decoder spends most of its time.
    """
    width, hop, total = kernel[1], step[1], output[1]
    hops = -(-width // hop)
    rows = F.pad(frames.transpose(1, 2), (0, hops * hop - width)).split(hop, dim=2)
    parts = [F.pad(row, (0, 0, shift, hops - 1 - shift)) for shift, row in enumerate(rows)]
    return torch.stack(parts).sum(dim=0).flatten(1)[:, None, None, :total]


def use_real_spectra(codec: FocalCodec) -> None:
    """Replace the complex spectra of a codec, in place."""
    for layer in codec.modules():
        if isinstance(layer, LogMel):
            layer.spectrum = RealMagnitudes(layer.window)


def longest(codec: FocalCodec) -> int:
    """Tokens of the longest clip."""
    return int(SECONDS * codec.token_rate)


def programs_of(codec: FocalCodec) -> dict[str, tuple[Graph, Any]]:
    """Graphs of a codec by their names, each with its sizes that may differ, for `torch.export`.

    A causal codec has its steps only: they give what the whole graphs give, in fixed sizes.
    """
    if codec.causal:
        steps = graphs_of(codec).items()
        return {name: (_of_one(step), None) for name, step in steps if step.chunk}
    most, factor = longest(codec), codec.compressor.factor
    dim = codec.encoder.dim
    toks = torch.export.Dim("toks", min=2, max=most)
    frames = torch.export.Dim("frames", min=2, max=most * factor)
    # Examples of the longest clip: PyTorch chooses a convolution by whether its input has more than
    # 20480 values, and if the example has fewer, the planned memory has no room for more.
    sig = torch.randn(1, most * codec.hop_length) / 10
    feats, zeros = torch.randn(1, most * factor, dim), torch.zeros(1, most, dtype=torch.int64)
    whole = {
        "encoder": (_Encoder(codec), "sig", sig, codec.hop_length * toks, ("feats", "toks")),
        "decompressor": (_Decompressor(codec), "toks", zeros, toks, ("qfeats",)),
        "decoder": (_Decoder(codec), "feats", feats, frames, ("rec_sig",)),
    }
    axes: dict[str, tuple[str | int, ...]] = {
        "sig": (1, "samples"),
        "toks": (1, "tokens"),
        "feats": (1, "frames", dim),
        "qfeats": (1, "frames", dim),
        "rec_sig": (1, "samples"),
    }
    found: dict[str, tuple[Graph, Any]] = {}
    for name, (module, given, example, size, made) in whole.items():
        graph = Graph(module, {given: example}, made, {each: axes[each] for each in (given, *made)})
        found[name] = graph, ({1: size},)
    return found


def _of_one(step: Graph) -> Graph:
    """A step of one stream and whole chunks."""
    inputs: Mapping[str, Tensor] = {name: x[:1].contiguous() for name, x in step.inputs.items()}
    with torch.no_grad():
        outputs = step.module(*inputs.values())
    shapes = zip((*inputs, *step.outputs), (*inputs.values(), *outputs), strict=True)
    return replace(step, inputs=inputs, axes={name: tuple(x.shape) for name, x in shapes})
