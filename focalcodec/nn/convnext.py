"""ConvNeXt over time: the backbone of both decoders, and how they are called.

Source: Vocos, arXiv 2306.00814, section 3.2; ConvNeXt from Liu et al., arXiv 2201.03545.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.adaptive_norm import Adaptation, adapt, gate
from focalcodec.nn.layers import MaskedConv1d
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.nn.official import DecoderView, given_states, refuse_lengths, scripted
from focalcodec.nn.past import LeftContext


class ChunkMix(nn.Module):
    """To each frame of a chunk, add a weighted sum of the chunk's frames, for each channel alone.

    A stream gets a whole chunk at once, so it can use the later frames of a chunk without delay.
    Each pair of places in the chunk has its own weights, zeros at first. The last chunk is
    zero-padded.
    """

    def __init__(self, dim: int, chunk_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(chunk_size, chunk_size, dim))  # from, to

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, N, dim) to (B, N, dim): the sums only; `mask` (B, N) is True on valid frames."""
        num_frames, size = x.shape[1], len(self.weight)
        x = x if mask is None else zero_padding(x, mask)
        chunks = F.pad(x, (0, 0, 0, -num_frames % size)).unflatten(1, (-1, size))  # (B, K, C, dim)
        total = chunks[:, :, :1] * self.weight[0]
        for place in range(1, size):
            total = torch.addcmul(total, chunks[:, :, place : place + 1], self.weight[place])
        return total.flatten(1, 2)[:, :num_frames]


class ConvNeXtBlock(nn.Module):
    """Depth-wise convolution, norm, two linear maps with a GELU, LayerScale, residual.

    `layerscale_init` None is no LayerScale. Before the first frame, a causal block has copies of it
    ("replicate") or zeros ("constant"). With `chunk_size`, frames of a chunk are mixed too.
    """

    def __init__(
        self,
        dim: int = 512,
        ffn_dim: int = 1536,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        causal: bool = False,
        *,
        causal_padding: str = "replicate",
        chunk_size: int = 1,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.chunk_mix = ChunkMix(dim, chunk_size) if chunk_size > 1 else None
        self.dwconv = MaskedConv1d(
            dim, dim, kernel_size, groups=dim, causal=causal, causal_padding=causal_padding
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, ffn_dim)
        self.pwconv2 = nn.Linear(ffn_dim, dim)
        scale = None if layerscale_init is None else torch.full((dim,), layerscale_init)
        self.gamma = None if scale is None else nn.Parameter(scale)

    def forward(
        self,
        input: Tensor,
        left_context: LeftContext | None = None,
        *,
        mask: Tensor | None = None,
        adaptation: Adaptation | None = None,
    ) -> tuple[Tensor, LeftContext | None]:
        """Map (B, N, dim) to (B, N, dim) and, if causal, to the context of the next frames.

        The vector of an utterance may adapt the branch.
        """
        y, left_context = _convolve_next(self.dwconv, self.causal, input, left_context, mask)
        y = y if self.chunk_mix is None else y + self.chunk_mix(input, mask)
        y = adapt(self.norm(y), adaptation)
        y = F.gelu(self.pwconv1(y))  # (B, N, ffn_dim): each frame over its channels
        y = gate(self.pwconv2(y), adaptation)
        return input + (y if self.gamma is None else self.gamma * y), left_context


class ConvNeXt(nn.Module):
    """A convolution, then `num_layers` residual blocks, at the frame rate of the input.

    `input_dim` is the width of the features, `dim` and `ffn_dim` the widths between and inside the
    blocks, `kernel_size` the frames of each convolution, past ones only if `causal`.
    `layerscale_init` is the initial scale of each block's output, 1 / num_layers when None. Each
    block mixes the frames of each chunk of `chunk_size`, too, if there are more than one.
    """

    def __init__(
        self,
        input_dim: int,
        num_layers: int,
        dim: int,
        ffn_dim: int,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        causal: bool = False,
        *,
        causal_padding: str = "replicate",
        chunk_size: int = 1,
    ) -> None:
        super().__init__()
        self.causal = causal
        scale = 1.0 / max(num_layers, 1) if layerscale_init is None else layerscale_init
        self.embedding = MaskedConv1d(
            input_dim, dim, kernel_size, causal=causal, causal_padding=causal_padding
        )
        self.input_norm = nn.LayerNorm(dim, eps=1e-6)
        self.layers = nn.ModuleList(
            ConvNeXtBlock(
                *(dim, ffn_dim, kernel_size, scale, causal),
                causal_padding=causal_padding,
                chunk_size=chunk_size,
            )
            for _ in range(num_layers)
        )
        self.output_norm = nn.LayerNorm(dim, eps=1e-6)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        input: Tensor,
        left_contexts: Sequence[LeftContext | None] | None = None,
        *,
        mask: Tensor | None = None,
        adaptations: Sequence[Adaptation] = (),
    ) -> tuple[Tensor, list[LeftContext | None]]:
        """Map (B, N, input_dim) to (B, N, dim) and contexts: of the embedding and of each layer.

        A causal backbone without `mask` takes the contexts of the frames before, None at the start,
        and gives those of the next frames; else they are None. `mask` (B, N) bool is True on valid
        frames, None is all; padded frames of the result have arbitrary values. `adaptations` of
        each layer, if there are any, are by the vector of an utterance.
        """
        number = 1 + len(self.layers)
        before = given_states("left_contexts", left_contexts, number) or [None] * number
        x = input.to(self.embedding.weight.dtype)
        x, context = _convolve_next(self.embedding, self.causal, x, before[0], mask)
        x, contexts = self.input_norm(x), [context]  # (B, N, dim)
        how: Sequence[Adaptation | None] = adaptations or [None] * len(self.layers)
        for layer, context, adaptation in zip(self.layers, before[1:], how, strict=True):
            options = {} if adaptation is None else {"adaptation": adaptation}
            x, context = layer(x, context, mask=mask, **options)  # (B, N, dim)
            contexts.append(context)
        return self.output_norm(x), contexts


def _convolve_next(
    conv: MaskedConv1d, causal: bool, x: Tensor, context: LeftContext | None, mask: Tensor | None
) -> tuple[Tensor, LeftContext | None]:
    """Convolve x (B, N, C), as a step of a stream if causal and without mask."""
    return conv.step(x, context) if causal and mask is None else (conv(x, mask), None)


class DecoderState(NamedTuple):
    """State of a causal decoder between two steps: what its convolutions need of the past.

    Streams that started at different times can be rows of one state.
    """

    contexts: tuple[LeftContext, ...]  # (B, kernel_size - 1, channels) of each convolution


class ConvNeXtDecoder(nn.Module):
    """What both decoders share: a backbone, and a head that maps each frame to `hop` samples.

    The arguments of a decoder, `config`, are its attributes too.
    """

    input_dim: int
    num_layers: int
    hop_length: int
    causal: bool
    sample_rate: int
    backbone: ConvNeXt
    adaptive_norms: Iterable[Any] = ()  # of each layer, in a decoder that takes a vector
    head: nn.Module  # (B, N, dim) and a mask (B, N) or None to (B, N * hop), zero in the padding

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        for name, value in config.items():
            setattr(self, name, value)
        self.layerscale_init = config["layerscale_init"] or 1.0 / max(self.num_layers, 1)
        self.hop = self.upsample_factor = self.hop_length
        self.chunk_size = 1  # frames of a step

    def run(
        self, feats: Tensor, lengths: Tensor | None = None, voice: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode feats (B, N, input_dim): rec_sig (B, N * hop) and its valid samples (B,) int64.

        `lengths` (B,) int64 are the valid frames, None is all; padded samples are zero. `voice` is
        the vector of each utterance, (B, 6 * voice_tokens), for a decoder that takes one.
        """
        mask = None if lengths is None else valid_mask(lengths, feats.shape[1])
        how = [] if voice is None else [norm(voice)[0] for norm in self.adaptive_norms]
        x, _ = self.backbone(feats, mask=mask, adaptations=how)  # (B, N, dim)
        rec_sig = self.head(x, mask)[:, : x.shape[1] * self.hop]
        return rec_sig, self.output_lengths(full_lengths(x) if lengths is None else lengths)

    def step(self, feats: Tensor, state: DecoderState | None = None) -> tuple[Tensor, DecoderState]:
        """Decode the next frames of a stream, feats (B, n, input_dim): rec_sig (B, n * hop).

        `state` is that of the step before, None at the start; it is not changed. Raises a
        `UserError` if the decoder is not causal.
        """
        if not self.causal:
            raise UserError(f"{type(self).__name__}: not causal, so it can't decode in steps")
        x, contexts = self.backbone(feats, None if state is None else state.contexts)
        return self.head(x), DecoderState(tuple(contexts))

    def forward(
        self,
        input: Tensor,
        left_contexts: Sequence[Tensor | None] | None = None,
        *,
        lengths: Tensor | None = None,
        voice: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """`run` if lengths or voice are given; else the official call, with the next contexts."""
        refuse_lengths(left_contexts)
        if lengths is not None or voice is not None:
            return self.run(input, lengths, voice)
        x, contexts = self.backbone(input, left_contexts)
        return self.head(x), contexts

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid samples for `lengths` valid frames, int64."""
        return lengths * self.hop

    def __prepare_scriptable__(self) -> nn.Module:
        example = next(self.parameters()).new_zeros(2, 8, self.input_dim)
        return scripted(self, example, DecoderView)
