"""The WavLM encoder: a waveform becomes features at 50 Hz.

Source: WavLM, arXiv 2110.13900; the first six layers of WavLM-large are FocalCodec's encoder
(arXiv 2502.04465, section 3.1). The causal form is the one of arXiv 2509.16195.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.masking import full_lengths, masked_mean, valid_mask, zero_padding
from focalcodec.wavlm_attention import Transformer


def conv_lengths(lengths: Tensor, kernel_size: int, stride: int, causal: bool = False) -> Tensor:
    """Count the frames that a strided convolution gives.

    Parameters
    ----------
    lengths : Tensor
        int64, any shape; an input shorter than the kernel is padded to it.
    kernel_size, stride : int
        Of the convolution.
    causal : bool
        The input is padded on the left by `kernel_size` - 1.

    Returns
    -------
    Tensor
        int64, same shape.

    Example
    -------
    >>> conv_lengths(torch.tensor([3, 10, 14, 15]), kernel_size=10, stride=5)
    tensor([1, 1, 1, 2])
    """
    spare = lengths - 1 if causal else lengths - kernel_size
    return spare.clamp(min=0) // stride + 1


class TimeNorm(nn.Module):
    """Normalise each channel over the valid frames, as a group norm of one channel a group.

    Parameters
    ----------
    channels : int
        Channels.

    Example
    -------
    >>> TimeNorm(1)(torch.tensor([[[1.0], [3.0]]])).squeeze().round().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D); `mask` is (B, N) bool, True on valid frames."""
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        centred = x - masked_mean(x, mask)
        variance = masked_mean(centred.square(), mask)
        return centred * torch.rsqrt(variance + 1e-5) * self.weight + self.bias


class ConvLayer(nn.Module):
    """Strided convolution without bias, normalisation, GELU.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride : int
        Of the convolution.
    norm : {"layer", "time", None}
        LayerNorm over channels, `TimeNorm`, or none.
    causal : bool
        Pad on the left only, repeating the first frame.

    Example
    -------
    >>> ConvLayer(1, 4, 10, 5, norm="layer")(torch.zeros(1, 100, 1))[0].shape
    torch.Size([1, 19, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        norm: str | None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm: nn.Module | None = None
        if norm is not None:
            self.norm = nn.LayerNorm(out_channels) if norm == "layer" else TimeNorm(out_channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Convolve.

        Parameters
        ----------
        x : Tensor
            (B, N, C), zeros on padded frames.
        lengths : Tensor, optional
            (B,) int64, valid frames; None is all valid.

        Returns
        -------
        tuple of Tensor and (Tensor or None)
            (B, N', C') with zeros on padded frames, and its lengths.
        """
        y = self._convolve(x)
        mask = None
        if lengths is not None:
            kernel_size, stride = self.conv.kernel_size[0], self.conv.stride[0]
            lengths = conv_lengths(lengths, kernel_size, stride, self.causal)
            mask = valid_mask(lengths, y.shape[1])
        if isinstance(self.norm, TimeNorm):
            y = self.norm(y, mask)
        elif self.norm is not None:
            y = self.norm(y)
        y = F.gelu(y)
        return (y if mask is None else zero_padding(y, mask)), lengths

    def _convolve(self, x: Tensor) -> Tensor:
        kernel_size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        x = x.transpose(1, 2)
        if self.causal:
            x = F.pad(x, (kernel_size - 1, 0), mode="replicate")
        elif x.shape[2] < kernel_size:
            x = F.pad(x, (0, kernel_size - x.shape[2]))
        # (B, N, C) in memory is a picture of height 1 with its channels last: conv2d takes it
        # without the copies that conv1d makes on both sides of every LayerNorm
        y = F.conv2d(x[:, :, None], self.conv.weight[:, :, None], stride=(1, stride))
        return y[:, :, 0].transpose(1, 2)


class FeatureExtractor(nn.Module):
    """The stack of strided convolutions.

    Parameters
    ----------
    hidden_dims, kernel_sizes, strides : sequence of int
        Channels, kernel and stride of each layer.
    norm : {"layer", "group"}
        LayerNorm in every layer (large), or a group norm over time in the first only (base).
    causal : bool
        See `ConvLayer`.

    Example
    -------
    >>> extractor = FeatureExtractor([4, 4], [10, 3], [5, 2])
    >>> extractor(torch.zeros(1, 100))[0].shape
    torch.Size([1, 9, 4])
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        norm: str = "layer",
        causal: bool = False,
    ) -> None:
        super().__init__()
        norms: list[str | None] = ["layer"] * len(hidden_dims)
        if norm == "group":
            norms = ["time"] + [None] * (len(hidden_dims) - 1)
        in_dims = [1, *hidden_dims[:-1]]
        self.layers = nn.ModuleList(
            ConvLayer(*layer, causal=causal)
            for layer in zip(in_dims, hidden_dims, kernel_sizes, strides, norms, strict=True)
        )

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Map (B, T), zeros on padded samples, to (B, N, C) with its lengths."""
        x = sig[:, :, None]
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x, lengths


class WavLM(nn.Module):
    """WavLM up to one of its layers.

    The defaults are WavLM-large up to layer 6, as in FocalCodec. The waveform is taken as it is:
    no normalisation of its level. No norm follows the last layer.

    Parameters
    ----------
    hidden_dims, kernel_sizes, strides : sequence of int
        Convolutional feature extractor: channels, kernel and stride of each layer.
    num_layers, dim, ffn_dim, num_heads : int
        Transformer: layers, width, hidden width of the feed-forward, heads.
    num_buckets, max_distance : int
        Table of relative position biases: rows, and offset (frames) of the last one.
    conv_pos, conv_pos_groups : int
        Convolutional positional embedding: kernel (frames) and groups.
    causal : bool
        Every convolution sees the past only, attention one chunk ahead at most.
    window_size, lookahead_size : int
        If causal: frames that attention sees, and frames of a chunk besides the first.
    max_cached_steps : int
        If causal: frames that a stream remembers. Nothing in `forward` depends on it.
    layer_norm_first : bool
        Norms before attention and feed-forward (large) or after (base, base-plus).
    extractor_norm : {"layer", "group"}
        Norm of the feature extractor: "layer" in large, "group" in base and base-plus.

    Raises
    ------
    UserError
        For an `extractor_norm` that does not exist, lists of unequal length, or heads that do
        not divide `dim`.

    Example
    -------
    >>> encoder = WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2)
    >>> feats, lengths = encoder(torch.zeros(2, 1600), torch.tensor([1600, 800]))
    >>> feats.shape, lengths
    (torch.Size([2, 4, 16]), tensor([4, 2]))
    """

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
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        causal: bool = False,
        window_size: int = 512,
        lookahead_size: int = 3,
        max_cached_steps: int = 2048,
        layer_norm_first: bool = True,
        extractor_norm: str = "layer",
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        _check_shapes(hidden_dims, kernel_sizes, strides, dim, num_heads, extractor_norm)
        self.config = _published_config(arguments)
        self._convs = list(zip(kernel_sizes, strides, strict=True))
        self._causal = causal
        self.sample_rate = 16000
        self.hop = math.prod(strides)
        self.dim = dim
        self.feature_extractor = FeatureExtractor(
            hidden_dims, kernel_sizes, strides, extractor_norm, causal
        )
        self.norm = nn.LayerNorm(hidden_dims[-1])
        self.feature_proj = nn.Linear(hidden_dims[-1], dim)
        self.encoder = Transformer(
            dim,
            ffn_dim,
            num_heads,
            num_layers,
            num_buckets,
            max_distance,
            conv_pos,
            conv_pos_groups,
            norm_first=layer_norm_first,
            chunk_size=1 + lookahead_size if causal else None,
            window_size=window_size if causal else None,
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that come out of as many samples.

        Exactly what the strided convolutions give, and one frame for fewer samples than they
        see at once (400).

        Parameters
        ----------
        lengths : Tensor
            int64, samples, any shape.

        Returns
        -------
        Tensor
            int64, frames, same shape.
        """
        for kernel_size, stride in self._convs:
            lengths = conv_lengths(lengths, kernel_size, stride, self._causal)
        return lengths

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Parameters
        ----------
        sig : Tensor
            (B, T) float, 16 kHz, about [-1, 1]; whatever is in the padding is ignored.
        lengths : Tensor, optional
            (B,) int64, valid samples of each item, 1 to T; None is all valid.

        Returns
        -------
        tuple of Tensor
            feats (B, N, dim) with zeros on padded frames, and lengths (B,) int64 in frames.

        Raises
        ------
        UserError
            If `sig` is not (B, T) with at least one sample, or not floating point, or `lengths`
            are not integers, one an item.
        """
        _check_input(sig, lengths)
        if lengths is not None:
            sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
        x, frames = self.feature_extractor(sig, lengths)
        x = self.feature_proj(self.norm(x))
        if frames is None:
            return self.encoder(x), full_lengths(x)
        mask = valid_mask(frames, x.shape[1])
        return self.encoder(zero_padding(x, mask), mask), frames


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
_OURS = {"layer_norm_first": True, "extractor_norm": "layer"}


def _published_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write the constructor's arguments as config.json does.

    Offline models have no causal keys there, and keys of our own appear only where they say
    something: a published configuration comes back as it was.
    """
    keys = [*_PUBLISHED, *(_CAUSAL if arguments["causal"] else ())]
    keys += [key for key, default in _OURS.items() if arguments[key] != default]
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


def _check_input(sig: Tensor, lengths: Tensor | None) -> None:
    if sig.dim() != 2 or sig.shape[1] == 0 or not sig.is_floating_point():
        raise UserError(
            f"sig: {tuple(sig.shape)} {sig.dtype}; give floats of shape (batch, samples), "
            "at least one sample"
        )
    if lengths is not None and (lengths.is_floating_point() or lengths.shape != sig.shape[:1]):
        raise UserError(
            f"lengths: {tuple(lengths.shape)} {lengths.dtype}; give the samples of each of the "
            f"{sig.shape[0]} items as integers"
        )
