"""The WavLM encoder: a waveform to features at 50 Hz.

Source: WavLM, arXiv 2110.13900; the first six layers of WavLM-large are FocalCodec's encoder
(arXiv 2502.04465, section 3.1). The causal form is that of arXiv 2509.16195.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from focalcodec.audio import check_sig
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.nn.official import EncoderView, given_states, refuse_lengths, scripted
from focalcodec.nn.past import LeftContext
from focalcodec.nn.wavlm_attention import MultiHeadAttention
from focalcodec.nn.wavlm_extractor import ConvBlock, FeatureExtractor, conv_lengths
from focalcodec.nn.wavlm_transformer import (
    ConvPositionalEmbedding,
    TransformerEncoder,
    TransformerLayer,
    TransformerState,
)

# programs for the official package take these from here
__all__ = [
    "ConvBlock",
    "ConvPositionalEmbedding",
    "FeatureExtractor",
    "MultiHeadAttention",
    "TransformerEncoder",
    "TransformerLayer",
    "WavLM",
    "WavLMState",
]


class WavLMState(NamedTuple):
    """What a causal encoder keeps of a stream, for each row of a batch."""

    contexts: list[LeftContext | None]  # of each convolution: its last inputs (B, kernel - 1, C)
    transformer: TransformerState  # with the position of each row


class WavLM(nn.Module):
    """WavLM up to one of its layers: sig (B, T) at 16 kHz to feats (B, N, dim).

    The defaults are WavLM-large up to layer 6, as in FocalCodec. The level of the waveform is not
    normalised. No norm follows the last layer.

    Parameters
    ----------
    hidden_dims, kernel_sizes, strides : sequence of int
        Convolutional feature extractor: channels, kernel and stride of each layer.
    num_layers, dim, ffn_dim, num_heads : int
        Transformer: layers, width, hidden width of the feed-forward, heads (a divisor of `dim`).
    num_buckets, max_distance : int
        Table of relative position biases: rows, and offset (frames) of the last one.
    conv_pos, conv_pos_groups : int
        Convolutional positional embedding: kernel (frames) and groups.
    causal : bool
        Every convolution uses past frames only, attention one chunk ahead at most.
    window_size, lookahead_size : int
        If causal: frames of attention, and frames of a chunk besides the first.
    max_cached_steps : int
        No effect: in the official package, frames whose position biases are kept.
    dropout : float
        Dropout of convolutions, attention and feed-forward while training.
    use_flex_attention : bool
        No effect: attention here never has the whole matrix of biases.
    layer_norm_first : bool
        Norms before attention and feed-forward (large) or after (base, base-plus).
    extractor_norm : {"layer", "group"}
        Norm of the feature extractor: "layer" in large, "group" in base and base-plus.

    Example
    -------
    >>> encoder = WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2)
    >>> feats, lengths = encoder(torch.zeros(2, 1600), lengths=torch.tensor([1600, 800]))
    >>> feats.shape, lengths
    (torch.Size([2, 4, 16]), tensor([4, 2]))
    """

    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None
    kernel_sizes: Sequence[int]
    strides: Sequence[int]
    causal: bool

    def __init__(
        self,
        hidden_dims: Sequence[int] = (512,) * 7,
        kernel_sizes: Sequence[int] = (10, 3, 3, 3, 3, 2, 2),
        strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2),
        num_layers: int = 6,
        dim: int = 1024,
        ffn_dim: int = 4096,
        num_heads: int = 16,
        num_buckets: int = 320,
        max_distance: int = 800,
        max_cached_steps: int = 2048,
        dropout: float = 0.0,
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        causal: bool = False,
        window_size: int = 512,
        lookahead_size: int = 3,
        use_flex_attention: bool = False,
        *,
        layer_norm_first: bool = True,
        extractor_norm: str = "layer",
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        _check_shapes(hidden_dims, kernel_sizes, strides, dim, num_heads, extractor_norm)
        _check_buckets(num_buckets, max_distance)
        self.config = _published_config(arguments)
        for name, value in arguments.items():
            if name not in ("self", "dropout", "__class__"):
                setattr(self, name, value)
        self.sample_rate = 16000
        self.hop = self.downsample_factor = math.prod(strides)
        self.chunk_size = self.hop * (1 + lookahead_size)
        self.feature_extractor = FeatureExtractor(
            hidden_dims, kernel_sizes, strides, extractor_norm, causal, dropout
        )
        self.norm = nn.LayerNorm(hidden_dims[-1])
        self.feature_proj = nn.Linear(hidden_dims[-1], dim)
        self.dropout = nn.Dropout(dropout)
        self.encoder = TransformerEncoder(
            num_layers,
            dim,
            ffn_dim,
            num_heads,
            num_buckets,
            max_distance,
            max_cached_steps,
            dropout,
            conv_pos,
            conv_pos_groups,
            causal,
            window_size,
            lookahead_size,
            norm_first=layer_norm_first,
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames for clips of `lengths` samples, int64 of any shape.

        Exactly those of the strided convolutions, and one frame for clips shorter than their
        receptive field (400 samples).
        """
        for kernel_size, stride in zip(self.kernel_sizes, self.strides, strict=True):
            lengths = conv_lengths(lengths, kernel_size, stride, self.causal)
        return lengths

    def forward(
        self,
        input: Tensor,
        curr_pos: Tensor | None = None,
        left_contexts: Sequence[Tensor | None] | None = None,
        kv_caches: Sequence[Tensor | None] | None = None,
        length: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Encode sig (B, T): with `lengths` as `run`, else as the official package.

        Without `lengths` it returns feats, and the position and the two lists of states that the
        next call of a stream takes. `length` (B,) are the valid parts of each item, 0 to 1: see
        docs/migration.md.
        """
        refuse_lengths(curr_pos)
        if lengths is not None:
            return self.run(input, lengths)
        check_sig(input)
        number = len(self.kernel_sizes)
        states = given_states("left_contexts", left_contexts, number + 1)
        *contexts, context = states or [None] * (number + 1)
        if self.causal:
            x, contexts = self.feature_extractor.step(self._cast(input), contexts)
        else:
            x, _ = self.feature_extractor(self._cast(input))
        x, position, context, caches = self.encoder(
            self._project(x), curr_pos, context, kv_caches, length
        )
        return x, position, [*contexts, context], caches

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode sig (B, T) float, 16 kHz, about [-1, 1]: feats (B, N, dim), lengths (B,) int64.

        `lengths` (B,) int64 are the valid samples of each item, 1 to T; None is all valid. Values
        in the padding have no influence; padded frames of feats are zero.
        """
        _check_input(sig, lengths)
        if lengths is not None:
            sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))  # (B, T)
        # (B, N, hidden_dims[-1]): a frame for each 320 samples
        x, frames = self.feature_extractor(self._cast(sig), lengths)
        x = self._project(x)  # (B, N, dim)
        if frames is None:  # no padding, so no masks
            return self.encoder.run(x), full_lengths(x)
        mask = valid_mask(frames, x.shape[1])  # (B, N)
        return zero_padding(self.encoder.run(zero_padding(x, mask), mask), mask), frames

    def step(self, sig: Tensor, state: WavLMState | None = None) -> tuple[Tensor, WavLMState]:
        """Encode the next samples (B, T) of streams: feats (B, N, dim), and the state after them.

        `state` is that after the samples before, None at the start; it is not changed. With steps
        of whole chunks (`chunk_size` samples) the feats are those of `run`. A `UserError` if the
        encoder is not causal.
        """
        if not self.causal:
            raise UserError("causal: False; only a causal encoder works in steps")
        check_sig(sig)
        contexts, transformer = (None, None) if state is None else state
        x, contexts = self.feature_extractor.step(self._cast(sig), contexts)
        x, transformer = self.encoder.step(self._project(x), transformer)
        return x, WavLMState(contexts, transformer)

    def _cast(self, sig: Tensor) -> Tensor:
        return sig.to(self.feature_proj.weight.dtype)

    def _project(self, x: Tensor) -> Tensor:
        return self.dropout(self.feature_proj(self.norm(x)))

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles."""
        weight = self.feature_proj.weight
        return scripted(self, weight.new_zeros(2, 3 * self.chunk_size), EncoderView)


_PUBLISHED = (
    "hidden_dims",
    "kernel_sizes",
    "strides",
    "num_layers",
    "dim",
    "ffn_dim",
    "num_heads",
    "num_buckets",
    "max_distance",
    "conv_pos",
    "conv_pos_groups",
)
_CAUSAL = ("causal", "window_size", "lookahead_size", "max_cached_steps")
_NEW = {
    "dropout": 0.0,
    "use_flex_attention": False,
    "layer_norm_first": True,
    "extractor_norm": "layer",
}


def _published_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments as in config.json.

    Offline models have no causal keys there, and keys that it did not always have appear only if
    they are not the default, so a published configuration does not change.
    """
    keys = [*_PUBLISHED, *(_CAUSAL if arguments["causal"] else ())]
    keys += [key for key, default in _NEW.items() if arguments[key] != default]
    values = {key: arguments[key] for key in keys}
    lists = {key: list(values[key]) for key in _PUBLISHED[:3]}
    return values | lists


def _check_shapes(
    hidden_dims: Sequence[int],
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    dim: int,
    num_heads: int,
    extractor_norm: str,
) -> None:
    if extractor_norm not in ("layer", "group"):
        raise UserError(f"extractor_norm: {extractor_norm!r}; give 'layer' or 'group'")
    if not len(hidden_dims) == len(kernel_sizes) == len(strides) > 0:
        raise UserError(
            f"hidden_dims, kernel_sizes, strides: {len(hidden_dims)}, {len(kernel_sizes)} and "
            f"{len(strides)} entries; give one a layer in each"
        )
    if dim % num_heads:
        raise UserError(f"num_heads: {num_heads} does not divide dim {dim}; choose a divisor")


def _check_buckets(num_buckets: int, max_distance: int) -> None:
    if num_buckets < 4 or max_distance <= num_buckets // 4:
        raise UserError(
            f"num_buckets, max_distance: {num_buckets}, {max_distance}; give at least 4 buckets,"
            " and a distance above a quarter of their number"
        )


def _check_input(sig: Tensor, lengths: Tensor | None) -> None:
    check_sig(sig, lengths)
    if lengths is not None and (lengths.is_floating_point() or lengths.shape != sig.shape[:1]):
        raise UserError(
            f"lengths: {tuple(lengths.shape)} {lengths.dtype}; give the samples of each of the "
            f"{sig.shape[0]} items as integers"
        )
